"""Each service as a process of its own: what it refuses, and that it outlasts an absent bus."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rendezvous.settings import Settings
from rendezvous.testing.processes import Process, answers, free_port, running
from tests.docs.settings_table import SERVICES

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = sorted(name for name, each in SERVICES.items() if issubclass(each, Settings))
OTHERS = [module for module in MODULES if module != "services.front_end"]
ON_A_BUS = [module for module in MODULES if module != "services.prune"]
EXAMPLE = {"sepalLength": 5.9, "sepalWidth": 3.0, "petalLength": 5.1, "petalWidth": 1.8}
STOP_SECONDS = 15.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of the model lr, version 0."""
    models = tmp_path_factory.mktemp("models")
    command = ["-m", "training", "Iris", "LogisticRegression", "--models-dir", str(models)]
    done = run(command)
    assert done.returncode == 0, done.stderr
    return models / "lr" / "0"


@pytest.fixture(scope="module")
def system(bundle, tmp_path_factory):
    """Every service, on a bus and an Elasticsearch that are not there."""
    folder = tmp_path_factory.mktemp("away")
    nowhere = f"127.0.0.1:{free_port()}"
    common = {
        "RENDEZVOUS_BUS": f"pulsar://{nowhere}",
        "RENDEZVOUS_ELASTICSEARCH": f"http://{nowhere}",
        "RENDEZVOUS_OUTPUT_DIR": str(folder / "archive"),
        "RENDEZVOUS_BUNDLE": str(bundle),
        "RENDEZVOUS_KEEP_DAYS": "30",
    }
    parts = {}
    for module in MODULES:
        port = "RENDEZVOUS_PORT" if module == "services.front_end" else "RENDEZVOUS_METRICS_PORT"
        env = {**common, port: str(free_port())}
        parts[module] = Process(module, ["-m", module], folder, ROOT, env)
    with running([*parts.values()]):
        yield parts


def run(arguments, **env):
    """Run ``python`` with these arguments to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(condition, seconds=60.0):
    """Wait until ``condition`` is true; return its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


class TestWrongSettings:
    @pytest.mark.parametrize("module", MODULES)
    @pytest.mark.parametrize(
        ("variable", "value"),
        [("RENDEZVOUS_LOG_LEVEL", "LOUD"), ("RENDEZVOUS_METRICS_PORT", "many")],
    )
    def test_end_it_with_one_line_naming_the_variable(self, module, variable, value):
        done = run(["-m", module], RENDEZVOUS_BUNDLE="none", **{variable: value})
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert variable in line
        assert done.stdout == ""

    @pytest.mark.parametrize(
        ("module", "variable", "value"),
        [
            ("services.front_end", "RENDEZVOUS_PORT", "70000"),
            ("services.front_end", "SCORE_TIMEOUT", "-1"),
            ("services.model", "RENDEZVOUS_ROLE", "king"),
            ("services.model", "MODEL_VERSION", "one"),
            ("services.log_connector", "THRESHOLD", "0"),
            ("services.elasticsearch_connector", "RENDEZVOUS_TIMEOUT", "soon"),
            ("services.elasticsearch_connector", "RENDEZVOUS_INDEX", "decoy-log,score-log"),
            ("services.elasticsearch_connector", "RENDEZVOUS_INDEX_PERIOD", "week"),
            ("services.prune", "RENDEZVOUS_KEEP_DAYS", "-1"),
            ("services.prune", "RENDEZVOUS_PRUNE_EVERY", "often"),
        ],
    )
    def test_of_one_service_do_so_too_under_the_originals_names(self, module, variable, value):
        done = run(["-m", module], RENDEZVOUS_BUNDLE="none", **{variable: value})
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert variable in line

    def test_a_model_needs_its_bundle(self):
        done = run(["-m", "services.model"])
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "RENDEZVOUS_BUNDLE" in done.stderr

    def test_a_bundle_must_be_there(self, tmp_path):
        done = run(["-m", "services.model"], RENDEZVOUS_BUNDLE=str(tmp_path / "none"))
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert str(tmp_path / "none") in done.stderr

    @pytest.mark.parametrize(("variable", "value"), [("MODEL_NAME", "dt"), ("MODEL_VERSION", "7")])
    def test_a_bundle_must_hold_the_model_that_is_named(self, bundle, variable, value):
        done = run(["-m", "services.model"], MODEL_PATH=str(bundle), **{variable: value})
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert done.stderr.rstrip().endswith(f", not {value}")

    def test_the_configuration_must_be_there(self, tmp_path):
        done = run(["-m", "services.front_end"], RENDEZVOUS_CONFIG=str(tmp_path / "none.yaml"))
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "none.yaml" in done.stderr

    @pytest.mark.parametrize("module", ON_A_BUS)
    def test_an_unknown_bus_ends_it(self, module, bundle):
        done = run(["-m", module], RENDEZVOUS_BUS="kafka://x", RENDEZVOUS_BUNDLE=str(bundle))
        assert done.returncode == 1
        assert "unknown bus 'kafka://x'" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_port_that_is_taken_ends_the_front_end(self, taken):
        done = run(["-m", "services.front_end"], RENDEZVOUS_PORT=taken, RENDEZVOUS_BUS="memory://")
        assert done.returncode == 1
        assert done.stderr == (
            f"front end: can not listen on 127.0.0.1:{taken}: Address already in use\n"
        )

    @pytest.mark.parametrize("module", OTHERS)
    def test_a_port_of_metrics_that_is_taken_ends_the_others(self, module, taken, bundle):
        done = run(["-m", module], RENDEZVOUS_METRICS_PORT=taken, RENDEZVOUS_BUNDLE=str(bundle))
        assert done.returncode == 1
        assert f"no page of metrics at 127.0.0.1:{taken}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", [module for module in OTHERS if module in ON_A_BUS])
class TestWhatReads:
    def test_it_lives_and_is_not_ready_and_says_what_is_missing(self, system, module):
        port = system[module].env["RENDEZVOUS_METRICS_PORT"]
        assert until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        assert until(lambda: "does not read" in httpx.get(f"http://127.0.0.1:{port}/readyz").text)
        response = httpx.get(f"http://127.0.0.1:{port}/readyz")
        assert (response.status_code, response.json()["ready"]) == (503, False)

    def test_its_probe_says_so(self, system, module):
        port = system[module].env["RENDEZVOUS_METRICS_PORT"]
        assert until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
        done = run(["-S", "services/probe.py"], RENDEZVOUS_METRICS_PORT=port)
        assert (done.returncode, done.stderr) == (1, "")
        assert "does not read" in done.stdout


def test_the_prune_job_which_reads_nothing_is_ready_though_elasticsearch_is_away(system):
    job = system["services.prune"]
    port = job.env["RENDEZVOUS_METRICS_PORT"]
    assert until(lambda: "begins again" in job.log())
    ready = httpx.get(f"http://127.0.0.1:{port}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "missing": []})
    done = run(["-S", "services/probe.py"], RENDEZVOUS_METRICS_PORT=port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("module", OTHERS)
class TestTheBusIsAway:
    def test_it_keeps_trying(self, system, module):
        assert until(lambda: system[module].log().count("begins again") >= 2)
        assert system[module].running.poll() is None

    def test_it_serves_its_metrics(self, system, module):
        port = system[module].env["RENDEZVOUS_METRICS_PORT"]
        assert until(lambda: answers(f"http://127.0.0.1:{port}/metrics"))

    def test_it_stops_in_seconds_with_exit_code_0(self, system, module):
        began = time.monotonic()
        assert system[module].stop() == 0
        assert time.monotonic() - began < STOP_SECONDS
        assert system[module].log().rstrip().endswith("has stopped")


@pytest.mark.parametrize("module", ["services.decoy", "services.model", "services.log_connector"])
class TestTheBusIsThere:
    @pytest.fixture
    def port(self, module, bundle, tmp_path):
        port = str(free_port())
        env = {
            "RENDEZVOUS_BUS": "memory://",
            "RENDEZVOUS_BUNDLE": str(bundle),
            "RENDEZVOUS_OUTPUT_DIR": str(tmp_path / "archive"),
            "RENDEZVOUS_METRICS_PORT": port,
        }
        with running([process := Process("part", ["-m", module], tmp_path, ROOT, env)]):
            process.wait_ready(f"http://127.0.0.1:{port}/healthz")
            yield port

    def test_it_is_ready_and_shows_that_it_reads(self, module, port):
        assert until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        ready = httpx.get(f"http://127.0.0.1:{port}/readyz")
        assert ready.json() == {"ready": True, "missing": []}
        page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert re.search(r'^rendezvous_reading{group="[a-z0-9-]+"} 1\.0$', page, re.MULTILINE)

    def test_its_probe_is_content(self, module, port):
        assert until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        done = run(["-S", "-m", "services.probe"], RENDEZVOUS_METRICS_PORT=port)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class TestTheProbe:
    def test_asks_the_front_end_where_no_port_of_metrics_is_set(self, system):
        process = system["services.front_end"]
        port = process.env["RENDEZVOUS_PORT"]
        process.wait_ready(f"http://127.0.0.1:{port}/healthz")
        for metrics_port in ("", "0"):
            done = run(
                ["-S", "services/probe.py"],
                RENDEZVOUS_PORT=port,
                RENDEZVOUS_METRICS_PORT=metrics_port,
            )
            assert done.returncode == 1
            assert json.loads(done.stdout)["missing"]

    def test_gives_a_name_that_the_front_end_answers_to(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(30)
            port = str(server.getsockname()[1])
            env = {"RENDEZVOUS_METRICS_PORT": port, "RENDEZVOUS_ALLOWED_HOSTS": "*.a.b, score"}
            with ThreadPoolExecutor() as pool:
                probing = pool.submit(run, ["-S", "services/probe.py"], **env)
                connection, _ = server.accept()
                with connection:
                    asked = connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{}")
                assert probing.result().returncode == 0
        assert asked.startswith(b"GET /readyz HTTP/1.0\r\nHost: score\r\n")

    def test_says_that_nobody_is_there(self):
        done = run(["-S", "services/probe.py"], RENDEZVOUS_METRICS_PORT=str(free_port()))
        assert (done.returncode, done.stderr) == (1, "")
        assert "refused" in done.stdout

    def test_does_not_wait_for_one_that_says_nothing(self, taken):
        began = time.monotonic()
        done = run(["-S", "services/probe.py"], RENDEZVOUS_METRICS_PORT=taken)
        assert (done.returncode, done.stderr) == (1, "")
        assert "timed out" in done.stdout
        assert 2 <= time.monotonic() - began < STOP_SECONDS

    def test_imports_nothing_that_takes_long(self):
        script = "import sys, services.probe; print(*sys.modules)"
        done = run(["-S", "-c", script])
        assert not {"rendezvous", "http", "email", "ssl", "asyncio"} & set(done.stdout.split())


class TestTheFrontEndWithoutABus:
    @pytest.fixture
    def front(self, system):
        process = system["services.front_end"]
        url = f"http://127.0.0.1:{process.env['RENDEZVOUS_PORT']}"
        process.wait_ready(f"{url}/healthz")
        with httpx.Client(base_url=url, timeout=30) as client:
            yield client

    def test_it_lives(self, front):
        assert front.get("/healthz").status_code == 200
        assert front.get("/ping").json() == {"ping": "pong"}

    def test_it_is_not_ready_and_says_what_is_missing(self, front):
        response = front.get("/readyz")
        assert response.status_code == 503
        assert response.json()["missing"] == [
            "bus: scores are not being read",
            "endpoint iris: no live model",
            "endpoint housing: no live model",
        ]

    def test_a_request_gets_a_problem_within_its_deadline_or_so(self, front):
        began = time.monotonic()
        response = front.post("/predict", json=EXAMPLE)
        assert time.monotonic() - began < STOP_SECONDS
        assert response.status_code in {503, 504}
        assert response.headers["content-type"] == "application/problem+json"

    def test_a_wrong_input_is_told_so_all_the_same(self, front):
        assert front.post("/predict", json={}).status_code == 422

    def test_it_keeps_trying(self, front, system):
        process = system["services.front_end"]
        assert until(lambda: "begins again" in process.log())
        assert process.running.poll() is None

    def test_it_stops_in_seconds_with_exit_code_0(self, front, system):
        began = time.monotonic()
        assert system["services.front_end"].stop() == 0
        assert time.monotonic() - began < STOP_SECONDS
        assert "Traceback" not in system["services.front_end"].log()


class TestSeveralWorkersOfTheFrontEnd:
    WORKERS = {"RENDEZVOUS_WORKERS": "2"}  # noqa: RUF012 - never changed

    @pytest.fixture
    def front(self, tmp_path):
        port = str(free_port())
        nowhere = {"RENDEZVOUS_BUS": f"pulsar://127.0.0.1:{free_port()}", "RENDEZVOUS_PORT": port}
        module = ["-m", "services.front_end"]
        process = Process("front", module, tmp_path, ROOT, {**self.WORKERS, **nowhere})
        with running([process]):
            process.wait_ready(f"http://127.0.0.1:{port}/healthz")
            yield process

    def test_a_port_that_is_taken_ends_it_with_one_line(self, taken):
        done = run(["-m", "services.front_end"], RENDEZVOUS_PORT=taken, **self.WORKERS)
        assert done.returncode == 1
        assert done.stderr == (
            f"front end: can not listen on 127.0.0.1:{taken}: Address already in use\n"
        )

    def test_a_configuration_that_is_not_there_ends_it_with_one_line(self, tmp_path):
        nowhere = str(tmp_path / "none.yaml")
        done = run(["-m", "services.front_end"], RENDEZVOUS_CONFIG=nowhere, **self.WORKERS)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)

    def test_what_ends_one_for_good_ends_all_with_exit_code_1(self):
        env = {"RENDEZVOUS_BUS": "kafka://x", "RENDEZVOUS_PORT": str(free_port())}
        done = run(["-m", "services.front_end"], **self.WORKERS, **env)
        assert done.returncode == 1
        assert "unknown bus 'kafka://x'" in done.stderr
        assert "can not go on: exit code 1" in done.stderr
        assert "Traceback" not in done.stderr

    def test_live_without_a_bus_and_stop_in_seconds_with_exit_code_0(self, front):
        port = front.env["RENDEZVOUS_PORT"]
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503
        assert "rendezvous_inflight" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        began = time.monotonic()
        assert front.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS
        assert "Traceback" not in front.log()
        assert front.log().rstrip().endswith("all workers have stopped")


def test_the_originals_variables_name_the_bus(tmp_path):
    port = str(free_port())
    env = {"PULSAR_HOST": "127.0.0.1", "PULSAR_PORT": port}
    with running([process := Process("decoy", ["-m", "services.decoy"], tmp_path, ROOT, env)]):
        assert until(lambda: f"starts on pulsar://127.0.0.1:{port}\n" in process.log())


def test_the_prune_job_that_is_off_says_so_and_waits_until_it_is_stopped(tmp_path):
    port = str(free_port())
    env = {"RENDEZVOUS_METRICS_PORT": port}
    job = Process("prune", ["-m", "services.prune"], tmp_path, ROOT, env)
    with running([job]):
        assert until(lambda: "pruning is off (RENDEZVOUS_KEEP_DAYS is 0)" in job.log())
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        time.sleep(0.3)
        assert job.running.poll() is None
        assert job.stop() == 0


def test_every_service_is_tested():
    apart = "services.kibana_setup"  # which ends at once: test_kibana_setup.py
    assert {path.parent.name for path in ROOT.glob("services/*/__main__.py")} == {
        module.removeprefix("services.") for module in [*MODULES, apart]
    }


@pytest.mark.pulsar
@pytest.mark.parametrize(
    ("module", "workers"),
    [("front_end", 1), ("front_end", 2), ("model", 1), ("decoy", 1), ("log_connector", 1)],
)
def test_a_bus_that_refuses_for_good_ends_it_with_exit_code_1(
    module, workers, pulsar_url, bundle, tmp_path
):
    env = {
        "RENDEZVOUS_WORKERS": str(workers),
        "RENDEZVOUS_BUS": f"{pulsar_url}/nobody/nowhere",
        "RENDEZVOUS_PORT": str(free_port()),
        "RENDEZVOUS_BUNDLE": str(bundle),
        "RENDEZVOUS_OUTPUT_DIR": str(tmp_path),
    }
    done = run(["-m", f"services.{module}"], **env)
    assert done.returncode == 1
    assert "TopicNotFound" in done.stderr
