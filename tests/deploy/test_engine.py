"""The container engine: which one is taken, and that a private one starts, or says why not."""

import os
import stat
from pathlib import Path

import pytest

from deploy.engine import engine as engines
from deploy.engine import packages
from deploy.engine.__main__ import main
from deploy.engine.engine import Engine, Private, find
from deploy.engine.errors import EngineError, EngineUnavailable

ELSEWHERE = "tcp://127.0.0.1:1"
# It works where DOCKER_HOST is a socket that is there, or where no DOCKER_HOST is needed.
DOCKER = """\
echo "${DOCKER_HOST:-default} $1" >> $(dirname $0)/asked.txt
case $1 in
  info) case ${DOCKER_HOST:-default} in
    unix://*) test -e "${DOCKER_HOST#unix://}";;
    *) test -e "$(dirname $0)/${DOCKER_HOST##*/}engine";;
  esac;;
  version) echo 25.0.1;;
  pull) echo "no such image: $3" >&2; exit 1;;
esac"""
# As the real one: it makes its socket, and ends when it is told to.
DOCKERD = """\
for a; do case $a in unix://*) socket=${a#unix://};; esac; done
trap 'rm "$socket"; exit 0' TERM
: > "$socket"
while :; do sleep 0.05; done"""


@pytest.fixture
def machine(programs, monkeypatch, tmp_path):
    """A machine of root's with docker's command line, and nowhere an engine at work."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("RENDEZVOUS_ENGINE", str(tmp_path / "engine"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "codename", lambda: "trixie")
    programs.put("docker", DOCKER)
    yield programs
    Private()._process.kill()


@pytest.fixture
def private(tmp_path):
    """The folder of the private engine."""
    folder = tmp_path / "engine"
    folder.mkdir()
    return folder


def runs(machine, name=""):
    """Let docker's own engine, or the one at DOCKER_HOST, answer."""
    (machine.folder / f"{name}engine").touch()


def asked(machine):
    """Return the engines that docker was asked about, each once, in order."""
    lines = (machine.folder / "asked.txt").read_text().splitlines()
    return list(dict.fromkeys(line.split()[0] for line in lines))


class TestFind:
    def test_without_docker_it_names_what_installs_it(self, machine):
        machine.take("docker")
        with pytest.raises(EngineUnavailable, match=r"there is no docker: .* `make engine`"):
            find()

    def test_where_no_engine_answers_it_says_how_to_start_one(self, machine):
        with pytest.raises(
            EngineUnavailable, match=r"^no Docker engine answers: .*systemctl.* `make engine`$"
        ):
            find()

    def test_where_docker_host_is_set_and_nothing_answers_it_names_it(self, machine, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", ELSEWHERE)
        with pytest.raises(
            EngineUnavailable, match=f"answers at {ELSEWHERE}, which DOCKER_HOST names: "
        ):
            find()

    def test_without_the_compose_plugin_it_names_the_package(self, machine):
        runs(machine)
        machine.put("docker", f"[ $1 != compose ] || exit 1\n{DOCKER}")
        with pytest.raises(EngineUnavailable, match="no compose plugin: install docker-compose"):
            find()

    def test_the_engine_where_docker_looks_comes_first(self, machine, private):
        runs(machine)
        (private / "docker.sock").touch()
        assert find() == Engine()
        assert asked(machine) == ["default"]

    def test_the_private_one_is_found_when_its_socket_answers(self, machine, private):
        (private / "docker.sock").touch()
        assert find() == Engine(f"unix://{private}/docker.sock")

    def test_what_docker_host_names_is_used(self, machine, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", ELSEWHERE)
        runs(machine, "127.0.0.1:1")
        assert find() == Engine()
        assert asked(machine) == [ELSEWHERE]

    def test_with_docker_host_the_private_one_is_not_asked(self, machine, private, monkeypatch):
        (private / "docker.sock").touch()
        monkeypatch.setenv("DOCKER_HOST", ELSEWHERE)
        with pytest.raises(EngineUnavailable):
            find()
        assert asked(machine) == [ELSEWHERE]

    def test_an_empty_docker_host_is_none_as_for_docker_itself(self, machine, private, monkeypatch):
        (private / "docker.sock").touch()
        monkeypatch.setenv("DOCKER_HOST", "")
        assert find() == Engine(f"unix://{private}/docker.sock")


class TestEngine:
    def test_a_command_that_fails_is_an_error_with_its_words(self, machine):
        with pytest.raises(EngineError, match=r"^docker pull failed: no such image: thing:1$"):
            Engine().must("pull", "--quiet", "thing:1")

    def test_a_command_is_run_with_the_host_of_the_engine(self, machine):
        assert Engine(ELSEWHERE).must("version") == "25.0.1\n"
        assert asked(machine) == [ELSEWHERE]

    def test_has_an_image_when_docker_can_look_at_it(self, machine):
        machine.put("docker", '[ "$*" = "image inspect thing:1" ]')
        assert Engine().has("thing:1")
        assert not Engine().has("thing:2")


class TestPrivate:
    def test_starts_in_its_folder_and_answers(self, machine, private):
        machine.put("dockerd", DOCKERD)
        started = Private().start()
        assert started == Engine(f"unix://{private}/docker.sock")
        assert started.answers()
        assert Private().pid is not None
        [call] = [call for call in machine.calls if call.startswith("dockerd")]
        assert call == (
            f"dockerd --host unix://{private}/docker.sock --data-root {private}/data"
            f" --exec-root {private}/exec --pidfile {private}/dockerd.pid"
        )

    def test_starts_once(self, machine):
        machine.put("dockerd", DOCKERD)
        assert Private().start() == Private().start()
        assert sum(call.startswith("dockerd") for call in machine.calls) == 1

    def test_starts_anew_where_a_killed_one_left_its_files(self, machine, private):
        (private / "docker.sock").touch()
        (private / "dockerd.pid").write_text("1")
        machine.put("dockerd", f"[ ! -e {private}/dockerd.pid ] || exit 1; sleep 0.3\n{DOCKERD}")
        assert Private().start().answers()
        assert Private().pid is not None

    def test_a_daemon_that_ends_is_an_error_with_the_end_of_its_log(self, machine):
        machine.put("dockerd", "echo first; echo 'no iptables: permission denied' >&2; exit 1")
        with pytest.raises(
            EngineError, match=r"^the Docker engine did not get ready:\nfirst\nno iptables"
        ):
            Private().start()

    def test_a_daemon_that_never_answers_is_an_error_with_its_log(self, machine, monkeypatch):
        monkeypatch.setattr(engines, "READY_SECONDS", 0.5)
        machine.put("dockerd", "echo still loading; while :; do sleep 0.05; done")
        with pytest.raises(EngineError, match="did not get ready:\nstill loading"):
            Private().start()

    def test_a_folder_too_long_for_a_socket_is_refused(self, machine, tmp_path):
        with pytest.raises(EngineError, match="too long for a socket; set RENDEZVOUS_ENGINE"):
            Private(tmp_path / ("x" * 100)).start()
        assert machine.calls == []

    def test_takes_root(self, machine, monkeypatch):
        machine.put("dockerd", DOCKERD)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(EngineUnavailable, match="takes root"):
            Private().start()
        assert not any(call.startswith("dockerd") for call in machine.calls)

    def test_is_below_the_users_cache_unless_a_folder_is_named(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("RENDEZVOUS_ENGINE", raising=False)
        assert Private().folder == tmp_path / ".cache" / "rendezvous" / "engine"
        monkeypatch.setenv("RENDEZVOUS_ENGINE", "/srv/engine")
        assert Private().folder == Path("/srv/engine")


class TestPackages:
    def test_an_engine_that_is_missing_is_installed(self, machine, private):
        (machine.folder / "dockerd.new").write_text(f"#!/bin/sh\nPATH={os.defpath}\n{DOCKERD}\n")
        machine.put("apt-get", 'cd $(dirname $0); [ "$2" = update ] || mv dockerd.new dockerd')
        (machine.folder / "dockerd.new").chmod(stat.S_IRWXU)
        assert Private().start().answers()
        update, install = [call for call in machine.calls if call.startswith("apt-get")]
        assert update == "apt-get -q update"
        assert install.startswith(
            "apt-get -q install -y --no-remove --no-install-recommends docker.io "
        )
        assert "docker-compose" in install.split()

    def test_a_plugin_that_is_missing_is_installed_too(self, machine):
        machine.put("dockerd", DOCKERD)
        machine.put("docker", f"[ $1 != buildx ] || exit 1\n{DOCKER}")
        machine.put("apt-get", "")
        assert Private().start().answers()
        assert any("docker-buildx" in call for call in machine.calls)

    def test_nothing_is_installed_where_all_is_there(self, machine):
        machine.put("dockerd", DOCKERD)
        machine.put("apt-get", "exit 1")
        Private().start()
        assert not any(call.startswith("apt-get") for call in machine.calls)

    def test_a_failure_of_apt_says_so_with_its_words(self, machine):
        machine.put("apt-get", "echo 'E: Unable to locate package'; exit 100")
        with pytest.raises(
            EngineUnavailable, match=r"^apt-get update failed:\nE: Unable to locate package"
        ):
            Private().start()

    def test_a_package_that_can_not_be_had_is_named(self, machine):
        machine.put("apt-get", "[ $2 = update ] || { echo 'E: No route to host'; exit 100; }")
        with pytest.raises(
            EngineUnavailable, match=r"^apt-get install .* thing failed:\nE: No route to host"
        ):
            packages.install("thing")

    def test_old_lists_of_packages_are_renewed_and_it_is_tried_again(self, machine):
        machine.put(
            "apt-get", "cd $(dirname $0); case $2 in update) : > new;; *) test -e new;; esac"
        )
        packages.install("thing")
        assert [call.split()[2] for call in machine.calls] == ["install", "update", "install"]

    def test_without_apt_it_says_what_else_to_do(self, machine):
        with pytest.raises(EngineUnavailable, match=r"on Debian .* or install Docker Engine 25"):
            Private().start()

    def test_without_root_apt_is_not_called(self, machine, monkeypatch):
        machine.put("apt-get", "")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(EngineUnavailable, match="installing thing takes root"):
            packages.install("thing")
        assert machine.calls == []

    def test_debian_12_gets_the_engine_and_nothing_else_from_13(
        self, machine, monkeypatch, tmp_path
    ):
        monkeypatch.setattr(packages, "codename", lambda: "bookworm")
        monkeypatch.setattr(packages, "_SOURCES", tmp_path / "sources")
        monkeypatch.setattr(packages, "_PREFERENCES", tmp_path / "preferences")
        machine.put("apt-get", "[ $1 != indextargets ] || echo http://127.0.0.1/debian")
        packages.install_engine()
        sources = (tmp_path / "sources").read_text()
        assert "URIs: http://127.0.0.1/debian\n" in sources
        assert "Suites: trixie\n" in sources
        others, these = (tmp_path / "preferences").read_text().split("\n\n")
        assert others.splitlines() == [
            "Package: *", "Pin: release n=trixie", "Pin-Priority: 50",
        ]  # fmt: skip
        assert these.splitlines()[0] == f"Package: {' '.join(packages.ENGINE)}"
        assert these.splitlines()[2] == "Pin-Priority: 990"

    def test_the_mirror_is_the_first_source_that_is_not_for_security(self, machine):
        machine.put(
            "apt-get", "echo http://127.0.0.1/debian-security; echo http://127.0.0.1/debian"
        )
        assert packages.mirror() == "http://127.0.0.1/debian"

    def test_no_source_of_packages_is_said(self, machine):
        machine.put("apt-get", "")
        with pytest.raises(EngineUnavailable, match="no source of packages"):
            packages.mirror()


class TestCommand:
    def test_up_starts_nothing_where_an_engine_answers(self, machine, capsys):
        runs(machine)
        machine.put("dockerd", DOCKERD)
        machine.put("apt-get", "")
        assert main(["up"]) == 0
        assert capsys.readouterr().out == "a Docker engine, version 25.0.1, answers\n"
        assert {call.split()[0] for call in machine.calls} == {"docker"}

    def test_up_starts_one_where_none_answers_and_says_how_to_reach_it(
        self, machine, private, capsys
    ):
        machine.put("dockerd", DOCKERD)
        assert main(["up"]) == 0
        assert capsys.readouterr().out.endswith(
            "the targets of make find it; for docker itself:"
            f" export DOCKER_HOST=unix://{private}/docker.sock\n"
        )
        assert Private().pid is not None

    def test_up_says_so_where_docker_host_names_another_one_that_does_not_answer(
        self, machine, private, monkeypatch, capsys
    ):
        machine.put("dockerd", DOCKERD)
        monkeypatch.setenv("DOCKER_HOST", ELSEWHERE)
        assert main(["up"]) == 0
        assert capsys.readouterr().out.endswith(
            "DOCKER_HOST names another one; to use this one:"
            f" export DOCKER_HOST=unix://{private}/docker.sock\n"
        )

    def test_down_stops_ours_and_leaves_its_folder(self, machine, private, capsys):
        machine.put("dockerd", DOCKERD)
        main(["up"])
        assert main(["down"]) == 0
        assert f"stay in {private}\n" in capsys.readouterr().out
        assert Private().pid is None
        assert private.is_dir()

    def test_down_leaves_an_engine_that_is_not_ours(self, machine, capsys):
        runs(machine)
        assert main(["down"]) == 0
        assert capsys.readouterr().out == "no engine of ours runs\n"
        assert machine.calls == []

    def test_status_is_1_and_a_line_where_none_answers(self, machine, capsys):
        assert main(["status"]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("no Docker engine answers")
        assert said.err.count("\n") == 1

    def test_a_failure_of_up_is_1_and_what_went_wrong(self, machine, capsys):
        machine.put("dockerd", "echo no space left; exit 1")
        assert main(["up"]) == 1
        assert capsys.readouterr().err == "the Docker engine did not get ready:\nno space left\n"
