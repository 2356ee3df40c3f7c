"""The system in containers: its images, its ports, the wait until it is ready, and its commands."""

import io
import json
import os
import re
import socket
from subprocess import CompletedProcess

import pytest
import yaml
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.engine.engine import Engine
from deploy.stack import up
from deploy.stack.__main__ import main
from deploy.stack.compose import FILE, ROOT, Compose, Container
from deploy.stack.errors import StackError
from deploy.stack.images import (
    STANDIN,
    Choice,
    choose,
    chosen_here,
    official,
    remember,
    without_old_standins,
)
from deploy.stack.waiting import wait_ready

NAMES = st.sampled_from(["A_IMAGE", "B_IMAGE", "C_IMAGE"])
IMAGES = st.sampled_from(["a:1", "b:1", "c:1", "mine:7", "standin:1", "standin:2"])

COMPOSE = f"docker compose --project-directory={ROOT} --file={FILE}"


class Store:
    """Images that are here, and others that can be pulled."""

    def __init__(self, here=(), there=()):
        self.here, self.there = set(here), set(there)
        self.pulled = []

    def has(self, image):
        return image in self.here

    def pull(self, image):
        self.pulled.append(image)
        return image in self.there


class TestChoose:
    def test_an_image_that_is_here_is_not_pulled(self):
        store = Store(here=["a:1"])
        assert choose(store, {"A_IMAGE": "a:1"}, {}, {}) == Choice({}, {})
        assert store.pulled == []

    def test_an_image_that_is_not_here_is_pulled(self):
        store = Store(there=["a:1"])
        assert choose(store, {"A_IMAGE": "a:1"}, {}, {"A_IMAGE": "standin:1"}) == Choice({}, {})
        assert store.pulled == ["a:1"]

    def test_what_can_not_be_pulled_is_replaced_where_there_is_a_standin(self):
        official_ones = {"A_IMAGE": "a:1", "B_IMAGE": "b:1"}
        chosen = choose(Store(), official_ones, {}, {"A_IMAGE": "standin:1"})
        assert chosen == Choice({"A_IMAGE": "standin:1"}, {"B_IMAGE": "b:1"})

    def test_what_the_user_chose_is_pulled_in_place_of_the_official_one(self):
        store = Store(there=["mine:7"])
        assert choose(store, {"A_IMAGE": "a:1"}, {"A_IMAGE": "mine:7"}, {}) == Choice({}, {})
        assert store.pulled == ["mine:7"]

    def test_what_the_user_chose_and_can_not_be_had_is_missing_and_not_replaced(self):
        chosen = choose(
            Store(there=["a:1"]), {"A_IMAGE": "a:1"}, {"A_IMAGE": "mine:7"}, {"A_IMAGE": "s:1"}
        )
        assert chosen == Choice({}, {"A_IMAGE": "mine:7"})

    def test_a_standin_of_another_version_is_no_choice(self):
        standins = {"A_IMAGE": f"{STANDIN}a:2"}
        chosen = {"A_IMAGE": f"{STANDIN}a:1", "B_IMAGE": "mine:7"}
        assert without_old_standins(chosen, standins) == {"B_IMAGE": "mine:7"}
        assert without_old_standins(standins, standins) == standins

    def test_a_standin_that_was_chosen_before_is_kept_and_not_pulled(self):
        store = Store(there=["a:1"])
        standins = {"A_IMAGE": "standin:1"}
        assert choose(store, {"A_IMAGE": "a:1"}, standins, standins) == Choice({}, {})
        assert store.pulled == []

    @given(
        images=st.dictionaries(NAMES, IMAGES),
        chosen=st.dictionaries(NAMES, IMAGES),
        standins=st.dictionaries(NAMES, IMAGES),
        here=st.sets(IMAGES),
        there=st.sets(IMAGES),
    )
    def test_another_image_than_the_official_one_is_never_replaced(
        self, images, chosen, standins, here, there
    ):
        found = choose(Store(here, there), images, chosen, standins)
        for variable, image in chosen.items():
            if image != images.get(variable):
                assert variable not in found.standins
                assert found.missing.get(variable, image) == image
        assert found.standins.items() <= standins.items()
        assert not found.standins.keys() & found.missing.keys()
        assert not set(found.missing.values()) & (here | there)


class TestOfficial:
    def test_are_the_images_with_a_version_by_their_variable(self):
        text = (
            "image: ${A_IMAGE:-team/a:1.2}\nimage: ${OUR_OWN_IMAGE:-rendezvous-own}\n"
            'args: {X: "${PYTHON_IMAGE:-python:3.13-slim}"}\nports: ["${A_PORT:-80}:80"]\n'
        )
        assert official(text) == {"A_IMAGE": "team/a:1.2", "PYTHON_IMAGE": "python:3.13-slim"}

    def test_every_standin_and_every_optional_image_is_for_one_of_the_file(self):
        named = official(FILE.read_text())
        assert named.keys() >= up.STANDINS.keys() | up.OPTIONAL.keys()

    def test_every_optional_image_has_a_profile_of_the_file(self):
        services = yaml.safe_load(FILE.read_text())["services"]
        profiles = {name for each in services.values() for name in each.get("profiles", [])}
        assert {profile for profile, _ in up.OPTIONAL.values()} <= profiles
        assert up.GROUPS.keys() | set().union(*up.GROUPS.values()) <= profiles


@pytest.fixture
def env_file(monkeypatch, tmp_path):
    """An empty .env, and nothing in the environment that chooses an image, a port or a profile."""
    for name in list(os.environ):
        if name.endswith(("_IMAGE", "_PORT")) or name in {"COMPOSE_PROFILES", "DOCKER_HOST"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("RENDEZVOUS_ENGINE", str(tmp_path / "engine"))
    file = tmp_path / ".env"
    monkeypatch.setattr(up, "ENV_FILE", file)
    return file


class TestEnvFile:
    def test_what_it_says_is_chosen_and_the_environment_comes_before_it(
        self, env_file, monkeypatch
    ):
        env_file.write_text("A_IMAGE=file:1\nB_IMAGE=file:2\nOTHER=x\nC_IMAGE=\n")
        monkeypatch.setenv("B_IMAGE", "shell:2")
        names = ["A_IMAGE", "B_IMAGE", "C_IMAGE", "D_IMAGE"]
        assert chosen_here(env_file, names) == {"A_IMAGE": "file:1", "B_IMAGE": "shell:2"}

    def test_where_there_is_none_nothing_is_chosen(self, env_file):
        assert chosen_here(env_file, ["A_IMAGE"]) == {}

    def test_the_lines_of_others_stay(self, env_file):
        others = "# mine\nSCORE_PORT=8001\nQUOTED='a b'\n\nLOG_LEVEL=DEBUG\n"
        env_file.write_text(others)
        remember(env_file, {"A_IMAGE": "standin/a:1"})
        assert env_file.read_text() == f"{others}A_IMAGE=standin/a:1\n"

    def test_what_is_remembered_takes_the_place_of_what_was(self, env_file):
        remember(env_file, {"A_IMAGE": "standin:1", "B_IMAGE": "standin:2"})
        remember(env_file, {"A_IMAGE": "standin:3"})
        assert dotenv_values(env_file) == {"A_IMAGE": "standin:3", "B_IMAGE": "standin:2"}

    def test_is_not_made_for_nothing(self, env_file):
        remember(env_file, {})
        assert not env_file.exists()


class Scripted:
    """Containers, one list of them for each time they are looked at; the last one stays."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def __call__(self):
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def container(service, state="running", health="healthy", exit_code=0):
    return Container(service, f"{service}-1", state, health, exit_code)


def wait(containers, started=lambda: True, seconds=60.0, console=None):
    pauses = []
    console = console or Console(file=io.StringIO())
    wait_ready(containers, started, seconds, console, pauses.append)
    return len(pauses)


class TestWaiting:
    def test_ends_when_every_container_is_ready(self):
        starting = container("pulsar", health="starting")
        ready = container("pulsar")
        looks = Scripted([starting], [starting, container("score")], [ready, container("score")])
        assert wait(looks) == 2

    def test_goes_on_while_there_is_no_container(self):
        assert wait(Scripted([], [container("pulsar")])) == 1

    def test_goes_on_until_all_that_is_to_run_is_there(self):
        answers = iter([False, False, True])
        assert wait(Scripted([container("pulsar")]), lambda: next(answers)) == 2

    def test_ends_with_the_error_of_what_starts_them(self):
        def failing():
            raise StackError("no such network")

        with pytest.raises(StackError, match="no such network"):
            wait(Scripted([container("pulsar")]), failing)

    def test_names_who_was_not_ready_in_time_and_in_what_state(self):
        looks = Scripted([
            container("pulsar"), container("score", health="starting"),
            container("dt_model", health="unhealthy"), container("dt_model", health="unhealthy"),
            container("decoy_model", "exited", "", 1),
        ])  # fmt: skip
        expected = (
            "not ready within 0 s: score (starting), 2 x dt_model (unhealthy),"
            " decoy_model (exited); `make logs` shows what they say"
        )
        with pytest.raises(StackError, match=f"^{re.escape(expected)}$"):
            wait(looks, seconds=0)

    def test_says_so_where_no_container_came_in_time(self):
        with pytest.raises(StackError, match="within 0 s: no container;"):
            wait(Scripted([]), seconds=0)

    def test_tells_each_step_once_where_the_output_is_no_terminal(self):
        starting = [container("pulsar"), container("score", health="starting")]
        console = Console(file=io.StringIO(), width=200)
        looks = Scripted(starting, starting, [container("pulsar"), container("score")])
        wait(looks, console=console)
        assert console.file.getvalue().splitlines() == ["1 of 2 ready after 0 s"]

    @pytest.mark.parametrize(
        ("seen", "ready"),
        [
            (container("a"), True),
            (container("a", health=""), True),
            (container("a", health="starting"), False),
            (container("a", health="unhealthy"), False),
            (container("a", "exited", ""), True),
            (container("a", "exited", "", 1), False),
            (container("a", "exited", "", 137), False),
            (container("a", "restarting", ""), False),
            (container("a", "created", ""), False),
            (container("a", "dead", ""), False),
        ],
    )
    def test_a_container_is_ready_when_it_works_or_has_done_its_work(self, seen, ready):
        assert seen.is_ready is ready


class FakeEngine:
    """An engine with a store of images."""

    def __init__(self, store):
        self._store = store

    def has(self, image):
        return self._store.has(image)

    def run(self, *arguments):
        assert arguments[:2] == ("pull", "--quiet")
        done = self._store.pull(arguments[2])
        return CompletedProcess(arguments, 0 if done else 1, "", "" if done else "no such host")


OFFICIAL = official(FILE.read_text())


@pytest.fixture
def built(monkeypatch):
    """The engines on which stand-ins were built."""
    engines = []
    monkeypatch.setattr(up.standins, "build_all", engines.append)
    return engines


class TestProfiles:
    def test_kibana_is_always_wanted(self, env_file):
        assert up.profiles_wanted() == ["kibana"]

    def test_those_of_compose_profiles_are_wanted_too(self, env_file, monkeypatch):
        env_file.write_text("COMPOSE_PROFILES=retention\n")
        assert up.profiles_wanted() == ["kibana", "retention"]
        monkeypatch.setenv("COMPOSE_PROFILES", " prometheus ,, kibana")
        assert up.profiles_wanted() == ["kibana", "prometheus"]

    def test_a_group_is_several(self, env_file, monkeypatch):
        monkeypatch.setenv("COMPOSE_PROFILES", "observability")
        assert up.profiles_wanted() == ["grafana", "kibana", "prometheus"]

    def test_the_services_of_a_group_are_those_of_its_members(self):
        def of(*wanted):
            services = yaml.safe_load(FILE.read_text())["services"].items()
            return {name for name, each in services if set(wanted) & set(each.get("profiles", []))}

        for group, members in up.GROUPS.items():
            assert of(group) == of(*members)


class TestImages:
    def test_official_ones_that_are_here_are_taken_as_they_are(self, env_file, built):
        compose = Compose(FakeEngine(Store(here=OFFICIAL.values())), ["kibana", "prometheus"])
        assert up.with_images(compose) == compose
        assert built == []
        assert not env_file.exists()

    def test_what_can_not_be_pulled_is_built_and_remembered(self, env_file, built):
        store = Store(there={OFFICIAL["KIBANA_IMAGE"], OFFICIAL["PULSAR_IMAGE"]})
        up.with_images(Compose(FakeEngine(store), ["kibana"]))
        assert len(built) == 1
        assert dotenv_values(env_file) == {
            name: up.STANDINS[name] for name in ("ELASTICSEARCH_IMAGE", "PYTHON_IMAGE")
        }

    def test_what_is_remembered_is_built_again_where_it_is_gone_and_not_pulled(
        self, env_file, built
    ):
        env_file.write_text(f"PULSAR_IMAGE={up.STANDINS['PULSAR_IMAGE']}\n")
        store = Store(there=OFFICIAL.values())
        up.with_images(Compose(FakeEngine(store), ["kibana"]))
        assert len(built) == 1
        assert sorted(store.pulled) == sorted(
            OFFICIAL[n] for n in ("ELASTICSEARCH_IMAGE", "PYTHON_IMAGE", "KIBANA_IMAGE")
        )

    def test_an_optional_part_whose_image_can_not_be_had_is_left_out(self, env_file, built, caplog):
        caplog.set_level("INFO")
        store = Store(here=set(OFFICIAL.values()) - {OFFICIAL["KIBANA_IMAGE"]})
        compose = up.with_images(Compose(FakeEngine(store), ["kibana", "retention"]))
        assert compose.profiles == ["retention"]
        assert f"Kibana is left out: its image {OFFICIAL['KIBANA_IMAGE']}" in caplog.text

    def test_the_image_of_a_part_that_is_not_wanted_is_not_pulled(self, env_file, built):
        store = Store(there=OFFICIAL.values())
        up.with_images(Compose(FakeEngine(store), ["retention"]))
        assert sorted(store.pulled) == sorted(
            OFFICIAL[n] for n in ("PULSAR_IMAGE", "ELASTICSEARCH_IMAGE", "PYTHON_IMAGE")
        )

    def test_a_choice_of_the_users_that_can_not_be_had_is_an_error_that_names_it(
        self, env_file, built
    ):
        env_file.write_text("PULSAR_IMAGE=mine/pulsar:1\n")
        with pytest.raises(StackError, match=r"pulled: mine/pulsar:1 \(PULSAR_IMAGE\)$"):
            up.with_images(Compose(FakeEngine(Store(here=OFFICIAL.values())), ["kibana"]))
        assert built == []
        assert env_file.read_text() == "PULSAR_IMAGE=mine/pulsar:1\n"


class FakeCompose:
    """A project with containers, and ports that are meant to lead to them."""

    def __init__(self, ports, containers=()):
        self._ports, self._containers = ports, containers

    def containers(self):
        return list(self._containers)

    def published(self):
        return self._ports


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


class TestPorts:
    def test_one_that_is_taken_is_named_with_the_variable_to_set(
        self, env_file, monkeypatch, taken
    ):
        monkeypatch.setenv("SCORE_PORT", str(taken))
        with pytest.raises(
            StackError, match=rf"^port {taken}, for score, is in use: .* SCORE_PORT=\.\.\. make up$"
        ):
            up.refuse_ports_in_use(FakeCompose({taken: "score"}))

    def test_one_that_the_system_itself_uses_is_fine(self, env_file, taken):
        up.refuse_ports_in_use(FakeCompose({taken: "score"}, [container("score")]))

    def test_one_of_a_container_that_does_not_run_is_not(self, env_file, taken):
        with pytest.raises(StackError, match="is in use"):
            up.refuse_ports_in_use(
                FakeCompose({taken: "score"}, [container("score", "exited"), container("pulsar")])
            )

    def test_a_free_one_is_fine(self, env_file):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            free = listening.getsockname()[1]
        up.refuse_ports_in_use(FakeCompose({free: "score"}))

    def test_a_variable_is_found_by_its_default_or_by_what_was_chosen(self, env_file, monkeypatch):
        assert up.variable_of(5601) == "KIBANA_PORT"
        env_file.write_text("KIBANA_PORT=5602\n")
        assert up.variable_of(5602) == "KIBANA_PORT"
        monkeypatch.setenv("KIBANA_PORT", "5603")
        assert up.variable_of(5603) == "KIBANA_PORT"
        assert up.variable_of(1) == "its variable"


class TestAnnouncement:
    PORTS = {8001: "score", 9201: "elastic_search"}  # noqa: RUF012 - read only

    def test_says_where_everything_is(self):
        ports = {**self.PORTS, 5602: "kibana", 3001: "grafana", 6650: "pulsar"}
        said = up.announcement(FakeCompose(ports), 12.4)
        assert said.startswith("ready after 12 s\n")
        for label, port in {"front end": 8001, "Elasticsearch": 9201, "Kibana": 5602}.items():
            url = re.escape(f"http://127.0.0.1:{port}")
            assert re.search(rf"^  {label} +{url}\b", said, re.MULTILINE)
        assert "Grafana" in said
        assert "Prometheus" not in said

    def test_has_a_request_to_try_that_the_default_endpoint_takes(self):
        said = up.announcement(FakeCompose(self.PORTS), 1)
        assert "curl -s http://127.0.0.1:8001/predict " in said
        body = json.loads(re.search(r"-d '(.*)'$", said)[1])
        configuration = up.load(up.CONFIGURATION)
        fields = configuration.endpoints[configuration.default_endpoint].input
        assert list(body) == [field.name for field in fields]


# Nothing of the project is there, but the engine answers.
DOCKER = """\
case $1 in info|compose) ;; *) exit 1;; esac
[ $1 = info ] || [ $2 = version ] || """


@pytest.fixture
def docker(programs, env_file):
    """A command docker; shell lines say what the commands of docker compose do."""

    def does(lines):
        programs.put("docker", f"{DOCKER} {{ {lines}\n}}")
        return programs

    return does


def ended(running):
    while not running.done():
        pass


class TestCompose:
    def test_means_the_projects_file_and_the_profiles(self, docker, monkeypatch, capfd):
        monkeypatch.setenv("COMPOSE_PROFILES", "bench")
        programs = docker('echo "profiles $COMPOSE_PROFILES"')
        assert Compose(Engine(), ["kibana", "retention"]).run("ps", "--all") == 0
        assert programs.calls == [f"{COMPOSE} ps --all"]
        assert Compose(Engine()).run("ps") == 0
        assert capfd.readouterr().out == "profiles kibana,retention\nprofiles \n"

    def test_adds_its_variables_and_the_engines_host_to_the_environment(self, docker):
        docker('echo "$SCORE_PORT $DOCKER_HOST"')
        compose = Compose(Engine("unix:///e/docker.sock"), variables={"SCORE_PORT": "8001"})
        assert compose.output("config") == "8001 unix:///e/docker.sock\n"

    def test_a_command_that_fails_is_an_error_with_its_words(self, docker):
        docker("echo 'service \"x\" is not valid' >&2; exit 15")
        compose = Compose(Engine())
        assert compose.run("up") == 15
        with pytest.raises(StackError, match=r"^docker compose up failed with exit code 15$"):
            compose.must("up")
        with pytest.raises(StackError, match=r'^docker compose config: service "x" is not valid$'):
            compose.output("config")

    def test_knows_its_containers_and_the_ports_that_lead_to_them(self, docker):
        one = {"Service": "score", "Name": "r-score-1", "State": "exited", "Health": ""}
        ps = json.dumps({**one, "ExitCode": 3})
        config = (
            '{"services": {"score": {"ports": [{"target": 8000, "published": "8001"}]}, "lr": {}}}'
        )
        docker(f"case \"$*\" in *config*) echo '{config}';; *) echo '{ps}'; echo '{ps}';; esac")
        compose = Compose(Engine())
        assert compose.containers() == [Container("score", "r-score-1", "exited", "", 3)] * 2
        assert compose.published() == {8001: "score"}

    def test_a_command_that_was_begun_runs_beside_us(self, docker, tmp_path):
        docker(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
        running = Compose(Engine()).begin("up")
        assert not running.done()
        (tmp_path / "go").touch()
        ended(running)

    def test_one_that_prints_much_is_not_held_up(self, docker):
        docker("for i in $(seq 3000); do echo 'layer 0123456789012345678901234'; done")
        ended(Compose(Engine()).begin("up"))

    def test_one_that_fails_is_an_error_with_its_last_words(self, docker):
        docker("for i in $(seq 30); do echo line $i; done; echo 'no such image' >&2; exit 18")
        with pytest.raises(StackError, match=r"^line 12\n(.|\n)*line 30\nno such image$"):
            ended(Compose(Engine()).begin("up"))

    def test_what_it_said_is_waited_for(self, docker):
        docker("(sleep 0.3; echo last word) & exit 18")
        with pytest.raises(StackError, match="last word"):
            ended(Compose(Engine()).begin("up"))

    def test_one_that_fails_without_a_word_is_an_error_with_its_exit_code(self, docker):
        docker("exit 18")
        with pytest.raises(StackError, match=r"^exit code 18$"):
            ended(Compose(Engine()).begin("up"))


class TestCommand:
    def test_an_expected_error_is_one_line_and_1(self, programs, env_file, capsys):
        assert main(["up"]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("there is no docker: ")
        assert said.err.count("\n") == 1

    def test_clean_where_no_engine_is_has_nothing_to_do(self, programs, env_file, capsys):
        assert main(["clean"]) == 0
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("action", "command"),
        [
            ("down", "down --remove-orphans"),
            ("clean", "down --remove-orphans --volumes"),
            ("logs", "logs --follow --tail 100"),
            ("ps", "ps --all"),
        ],
    )
    def test_means_every_profile_and_returns_what_docker_does(self, docker, action, command, capfd):
        programs = docker('echo "profiles $COMPOSE_PROFILES"; exit 7')
        assert main([action]) == 7
        assert programs.calls[-1] == f"{COMPOSE} {command}"
        assert capfd.readouterr().out.endswith("profiles *\n")

    def test_an_interruption_is_130_without_a_traceback(self, docker, monkeypatch):
        docker("true")

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Compose, "run", interrupted)
        assert main(["logs"]) == 130
