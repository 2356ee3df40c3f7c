"""The main job: everything in one process."""

import asyncio
import json
import signal
import time

import httpx
import numpy as np
import pytest

from rendezvous.model.bundle import load
from rendezvous.sink.archive import read, verify
from rendezvous.testing.processes import Process, free_port, running
from tests.e2e.clients import EXAMPLE, many
from tests.e2e.conftest import ROOT


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def url(port):
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def system(project, port, url):
    arguments = ["-m", "rendezvous.cli", "run", "--port", str(port)]
    arguments += ["--config", str(project / "rendezvous.yaml")]
    arguments += ["--archive-dir", str(project / "archive")]
    process = Process("run", arguments, project, ROOT)
    with running([process]):
        process.wait_ready(f"{url}/readyz")
        yield process


def test_says_where_it_serves_and_what_to_try(system, url):
    printed = system.log()
    assert f"ready at {url}" in printed
    assert "curl" in printed


def test_answers_as_the_original_does(system, url):
    assert httpx.get(f"{url}/ping").json() == {"ping": "pong"}
    httpx.post(f"{url}/predict", json=EXAMPLE)  # the first one warms up
    began = time.perf_counter()
    response = httpx.post(f"{url}/predict", json=EXAMPLE)
    took = time.perf_counter() - began
    answer = response.json()
    assert response.status_code == 200
    assert list(answer) == ["timestamp", "messageId", "modelInput", "modelResult", "decision"]
    assert answer["modelInput"] == EXAMPLE
    assert answer["modelResult"]["modelName"] == "dt"
    assert answer["modelResult"]["result"] == 2
    assert took < 0.5, "it waits out its deadline"


async def test_200_clients_each_get_the_answer_to_their_own_input(system, url, models):
    seen = await many(url, requests=2000, clients=200)
    assert seen.bad == []
    assert len(seen.answers) == 2000
    dt = load(models / "dt" / "1")
    inputs = [list(a["modelInput"].values()) for a in seen.answers]
    expected = dt.predict(np.asarray(inputs, dtype=np.float32)).values
    got = [a["modelResult"]["result"] for a in seen.answers]
    assert got == expected.tolist()
    assert set(seen.models) == {"dt"}


def test_a_second_endpoint_is_only_configuration(system, url):
    house = {
        "CRIM": 0.00632, "ZN": 18, "INDUS": 2.31, "CHAS": 0, "NOX": 0.538, "RM": 6.575,
        "AGE": 65.2, "DIS": 4.09, "RAD": 1, "TAX": 296, "PTRATIO": 15.3, "B": 396.9, "LSTAT": 4.98,
    }  # fmt: skip
    answer = httpx.post(f"{url}/endpoints/housing/predict", json=house).json()
    assert answer["modelResult"]["modelName"] == "price"
    assert 15 < answer["modelResult"]["result"] < 40


def test_serves_its_metrics_and_documentation(system, url):
    assert "rendezvous_answers_total" in httpx.get(f"{url}/metrics").text
    assert httpx.get(f"{url}/docs").status_code == 200


async def test_stops_in_order_with_everything_archived_once(system, url, project):
    seen = await many(url, requests=300, clients=20)
    late = asyncio.create_task(many(url, requests=20, clients=20))
    await asyncio.sleep(0.01)
    system.running.send_signal(signal.SIGTERM)
    assert system.running.wait(20) == 0
    answered = seen.ids | (await late).ids
    for folder in ("logs", "scores", "decisions"):
        assert list(verify(project / "archive" / folder)) == []
    inputs = [json.loads(line)["messageId"] for line in read(project / "archive" / "logs")]
    assert len(inputs) == len(set(inputs))
    assert answered <= set(inputs)
    scores = [json.loads(line) for line in read(project / "archive" / "scores")]
    keys = [(s["messageId"], s["provenance"]["model"]["modelName"]) for s in scores]
    assert len(keys) == len(set(keys))
    assert {(i, name) for i in answered for name in ("lr", "dt")} <= set(keys)
    decisions = [json.loads(line) for line in read(project / "archive" / "decisions")]
    ids = [d["messageId"] for d in decisions]
    assert len(ids) == len(set(ids))
    assert answered <= set(ids)
    for decision in decisions:
        compared = {*decision.get("agreeing", []), *decision.get("disagreeing", [])}
        if decision["messageId"] in answered:
            assert (decision["answeredBy"], compared) == ("dt@1", {"lr@0"})
