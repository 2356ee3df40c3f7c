"""`make up` on a real engine: the original's README, word for word, and more."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from deploy.stack.compose import FILE
from rendezvous.bus.factory import connect
from tests.dashboards.test_kibana_panels import LAYERS, TITLES
from tests.e2e.clients import Seen, many, steadily
from tests.e2e.containers.conftest import make
from tests.e2e.containers.stack import OURS, score_id, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

NOT_HERE = {"Errors by type: types"}
"""Layers about what this module's traffic does not have: no model fails on an input."""
INPUT = {"sepalLength": 9, "sepalWidth": 10, "petalLength": 11, "petalWidth": 12}


def test_is_ready_within_90_seconds_of_up(stack):
    assert stack.ready_seconds < 90


def test_says_where_everything_is_and_what_to_try(stack):
    assert f"front end      {stack.url}" in stack.printed
    assert f"curl -s {stack.url}/predict" in stack.printed


def test_the_originals_readme_holds_word_for_word(stack):
    # its steps 3 and 4, `make train-canary`, `make train-model`, `make up`, are the fixture's
    assert httpx.get(f"{stack.url}/ping").json() == {"ping": "pong"}  # step 5
    answer = httpx.post(f"{stack.url}/predict", json=INPUT).json()  # step 6
    assert list(answer)[:4] == ["timestamp", "messageId", "modelInput", "modelResult"]
    assert answer["modelInput"] == {name: float(value) for name, value in INPUT.items()}
    assert answer["modelResult"]["modelName"] == "dt"
    assert answer["modelResult"]["result"] == 2
    expected = {
        "decoy-log": {answer["messageId"]},
        "score-log": {score_id(answer["messageId"], m, v) for m, v in (("dt", 1), ("lr", 0))},
    }
    for index, ids in expected.items():  # step 7: the indices are there, made by nobody's hand
        assert until(lambda i=index, wanted=ids: wanted <= set(stack.indexed(i))), index


def test_the_second_endpoint_answers_too(stack):
    house = {
        "CRIM": 0.00632, "ZN": 18, "INDUS": 2.31, "CHAS": 0, "NOX": 0.538, "RM": 6.575,
        "AGE": 65.2, "DIS": 4.09, "RAD": 1, "TAX": 296, "PTRATIO": 15.3, "B": 396.9, "LSTAT": 4.98,
    }  # fmt: skip
    answer = httpx.post(f"{stack.url}/endpoints/housing/predict", json=house).json()
    assert answer["modelResult"]["modelName"] == "price"
    assert 15 < answer["modelResult"]["result"] < 40


async def test_1000_requests_are_answered_and_archived_once_each(whole, tmp_path):
    seen = await many(whole.url, requests=1000, clients=32)
    assert seen.bad == []
    assert await asyncio.to_thread(until, lambda: archived_once(whole, seen, tmp_path))


async def test_three_replicas_share_a_models_work_and_nothing_is_lost(whole, tmp_path):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(whole.url, stop, seen))
    await asyncio.sleep(1)
    scale = ("up", "--detach", "--no-build", "--no-recreate", "--scale")
    await asyncio.to_thread(whole.compose.output, *scale, "dt_model=3")
    await asyncio.to_thread(whole.wait_ready)
    assert len(await asyncio.to_thread(whole.names, "dt_model")) == 3
    assert await asyncio.to_thread(until, lambda: len(sharing(whole)) == 3), sharing(whole)
    await asyncio.to_thread(whole.compose.output, *scale, "dt_model=1")
    await asyncio.sleep(1)
    stop.set()
    await load
    assert seen.bad == []
    assert len(seen.answers) > 100
    assert await asyncio.to_thread(until, lambda: archived_once(whole, seen, tmp_path))


async def test_a_message_that_nobody_can_read_is_found_in_elasticsearch(whole):
    bus = connect(f"pulsar://127.0.0.1:{os.environ['PULSAR_BINARY_PORT']}")
    try:
        await bus.publish("score", b"neither a score nor JSON")
    finally:
        await bus.aclose()

    def letters():
        return [d["deadLetter"] for d in whole.indexed("dead-letter-log").values()]

    assert await asyncio.to_thread(until, letters)
    [letter] = letters()  # both connectors that read the topic bury it: one message, one record
    assert letter["topic"] == "score"
    assert letter["payload"] == "neither a score nor JSON"
    assert letter["reason"]


def test_each_part_logs_json_lines_and_no_error(whole):
    for service in OURS:
        lines = whole.logs(whole.names(service)[0]).splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        assert entries, service
        assert [e for e in entries if e["level"] in {"ERROR", "CRITICAL"}] == [], service


def test_the_dashboards_are_brought_into_kibana_once_it_is_healthy(stack):
    # a stand-in of its API: this shows the wiring, not what a Kibana makes of them
    with_kibana = replace(
        stack.compose,
        profiles=["kibana"],
        files=[FILE, Path(__file__).parent / "kibana.yml"],
    )
    setup = ("up", "--detach", "--no-build", "--no-deps", "--wait", "kibana")
    try:
        with_kibana.output(*setup)
        with_kibana.output("up", "--detach", "--no-build", "--no-deps", "kibana_setup")
        assert until(lambda: of_setup(with_kibana).state == "exited", 30)
        assert of_setup(with_kibana).exit_code == 0
        said = stack.logs(of_setup(with_kibana).name)
        assert "dashboard rendezvous-traffic" in said
        assert "dashboard rendezvous-models" in said
    finally:
        with_kibana.output("rm", "--stop", "--force", "kibana", "kibana_setup")


def of_setup(compose):
    return next(each for each in compose.containers() if each.service == "kibana_setup")


@pytest.mark.parametrize("name", LAYERS)
def test_every_panel_of_the_dashboards_can_be_asked_of_what_is_archived(stack, name):
    layer = LAYERS[name]
    with stack.elastic() as client:
        answer = client.search(index=TITLES[layer.view], ignore_unavailable=True, **layer.search())
    assert answer["timed_out"] is False
    assert answer["_shards"]["failed"] == 0
    if name not in NOT_HERE:
        assert layer.rows(answer.body)


def test_prometheus_finds_every_part(whole):
    port = whole.compose.published()
    [at] = [number for number, service in port.items() if service == "prometheus"]

    def up():
        query = {"query": "up"}
        found = httpx.get(f"http://127.0.0.1:{at}/api/v1/query", params=query).json()
        return {r["metric"]["job"]: r["value"][1] for r in found["data"]["result"]}

    wanted = dict.fromkeys((*OURS, "pulsar"), "1")
    assert until(lambda: up() == wanted, 30), up()


def test_what_is_archived_is_there_after_down_and_up(whole, tmp_path):
    seen = asyncio.run(many(whole.url, requests=20, clients=4))

    def archived():
        files = {name: len(whole.archived(name, tmp_path)) for name in ("logs", "scores")}
        return files | {index: len(whole.indexed(index)) for index in ("decoy-log", "score-log")}

    assert until(lambda: archived_once(whole, seen, tmp_path))
    before = archived()
    make("down")
    assert whole.compose.containers() == []
    assert make("up").count("ready after")
    assert archived() == before
    assert until(whole.answers)
    assert "healthy" in make("ps")


def sharing(stack):
    """Return the replicas of dt that have scored something."""
    code = (
        "import urllib.request as u; "
        "print(u.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
    )
    mark = 'rendezvous_worker_requests_total{model="dt",outcome="ok"'
    return [
        name
        for name in stack.names("dt_model")
        if mark in stack.docker("exec", name, "python", "-c", code)
    ]


def archived_once(stack, seen, folder, gone=None):
    """Return whether everything that was answered is in the files and indices; never twice.

    Of a model that was ``gone`` for a while only the scores that were answered with: it leaves out
    requests that nobody waits for any more.
    """
    others = {"dt": 1, "lr": 0}
    others.pop(gone, None)
    wanted = scores_answered_with(seen)
    wanted |= {score_id(i, model, version) for i in seen.ids for model, version in others.items()}
    inputs, scores = archived_ids(stack, folder)
    decisions = [record["messageId"] for record in stack.archived("decisions", folder)]
    assert len(decisions) == len(set(decisions))
    return (
        seen.ids <= set(inputs)
        and wanted <= set(scores)
        and seen.ids <= set(decisions)
        and seen.ids <= stack.indexed("decoy-log").keys()
        and wanted <= stack.indexed("score-log").keys()
        and seen.ids <= stack.indexed("decision-log").keys()
    )


def archived_ids(stack, folder):
    """Return the ids of the inputs and scores in the files, after proving each there once."""
    inputs = [record["messageId"] for record in stack.archived("logs", folder)]
    scores = [
        score_id(r["messageId"], m["modelName"], m["modelVersion"])
        for r in stack.archived("scores", folder)
        for m in [r["provenance"]["model"]]
    ]
    for ids in (inputs, scores):
        assert len(ids) == len(set(ids))
    return inputs, scores


def scores_answered_with(seen):
    """Return the ids of the scores that the answers are."""
    return {
        score_id(a["messageId"], a["decision"]["model"], a["decision"]["version"])
        for a in seen.answers
    }
