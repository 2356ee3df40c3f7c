"""Every service a process of its own, over a real Pulsar and a real Elasticsearch."""

import asyncio
import json
import time

import httpx
import pytest
from elasticsearch import Elasticsearch

from rendezvous.sink.archive import read, verify
from rendezvous.testing.processes import Process, free_port, running
from tests.e2e.clients import EXAMPLE, Seen, many, steadily
from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.pulsar, pytest.mark.elasticsearch, pytest.mark.timeout(300)]


DEADLINE = 3.0
"""Seconds; roomy, for a broker, Elasticsearch and ten services share a small machine here."""


class System:
    """The processes, by name."""

    def __init__(self, project, pulsar_url, elasticsearch_url):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.project = project
        bus = {"RENDEZVOUS_BUS": pulsar_url, "RENDEZVOUS_LOG_FORMAT": "json"}

        def service(name, module, **more):
            env = bus | {f"RENDEZVOUS_{key.upper()}": str(value) for key, value in more.items()}
            return Process(name, ["-m", f"services.{module}"], project, ROOT, env)

        elastic = {"elasticsearch": elasticsearch_url, "timeout": 1}
        archive = {"timeout": 1}
        models = project / "models"
        config = project / "rendezvous.yaml"
        self.parts = {
            "lr": service("lr", "model", bundle=models / "lr" / "0", role="canary"),
            "dt": service("dt", "model", bundle=models / "dt" / "1"),
            "price": service("price", "model", bundle=models / "price" / "1", endpoint="housing"),
            "decoy": service("decoy", "decoy", topics="iris,housing"),
            "logs": service(
                "logs", "log_connector", topics="decoy", output_dir=project / "logs", **archive
            ),
            "scores": service(
                "scores",
                "log_connector",
                topics="score,score-*",
                output_dir=project / "scores",
                **archive,
            ),
            "decisions": service(
                "decisions",
                "log_connector",
                topics="decisions",
                output_dir=project / "decisions",
                **archive,
            ),
            "log-es": service("log-es", "elasticsearch_connector", topics="decoy", **elastic),
            "score-es": service(
                "score-es",
                "elasticsearch_connector",
                topics="score,score-*",
                index="score-log",
                **elastic,
            ),
            "front": service(
                "front", "front_end", port=self.port, config=config, deadline=DEADLINE
            ),
        }
        self.rf = service("rf", "model", bundle=models / "rf" / "2")

    def __getitem__(self, name):
        return self.parts[name]

    def wait_ready(self):
        self["front"].wait_ready(f"{self.url}/readyz")

    def archived(self, folder):
        """Return the records of an archive, after proving it whole."""
        assert list(verify(self.project / folder)) == []
        return [json.loads(line) for line in read(self.project / folder)]


@pytest.fixture(scope="module")
def system(project, pulsar_url, elasticsearch_url):
    whole = System(project, pulsar_url, elasticsearch_url)
    with running([*whole.parts.values()]):
        whole.wait_ready()
        yield whole


@pytest.fixture
def elastic(elasticsearch_url):
    with Elasticsearch(elasticsearch_url) as client:
        yield client


def until(condition, seconds=30.0):
    """Wait until ``condition`` is true; return its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return value


def test_answers_in_milliseconds(system):
    for _ in range(20):
        answer = httpx.post(f"{system.url}/predict", json=EXAMPLE).json()
    assert answer["modelResult"]["modelName"] == "dt"
    assert answer["modelResult"]["result"] == 2
    assert answer["decision"]["elapsedMs"] < 300, "it waits out its deadline"


async def test_2000_requests_are_archived_once_each_in_files_and_elasticsearch(system, elastic):
    seen = await many(system.url, requests=2000, clients=64)
    assert seen.bad == []
    ids = seen.ids
    assert len(ids) == 2000
    expected = {(i, name, version) for i in ids for name, version in (("lr", 0), ("dt", 1))}

    def inputs():
        found = [r["messageId"] for r in system.archived("logs") if r["messageId"] in ids]
        return len(found) >= 2000 and found

    def scores():
        found = [_key(r) for r in system.archived("scores") if r["messageId"] in ids]
        return len(found) >= 4000 and found

    def decisions():
        found = [r for r in system.archived("decisions") if r["messageId"] in ids]
        return len(found) >= 2000 and found

    records = until(decisions) or []
    assert sorted(r["messageId"] for r in records) == sorted(ids)
    assert {r["answeredBy"] for r in records} == {"dt@1"}
    assert sum(len(r["scores"]) for r in records) == 4000
    assert sorted(until(inputs) or []) == sorted(ids)
    assert sorted(until(scores) or []) == sorted(expected)

    def indexed(index, least):
        elastic.indices.refresh(index=index)
        return elastic.count(index=index)["count"] >= least

    assert until(lambda: indexed("decoy-log", 2000))
    assert until(lambda: indexed("score-log", 4000))
    documents = [d["_source"] for d in _all(elastic, "decoy-log")]
    assert sorted(d["messageId"] for d in documents if d["messageId"] in ids) == sorted(ids)
    documents = [d["_source"] for d in _all(elastic, "score-log")]
    assert sorted(_key(d) for d in documents if d["messageId"] in ids) == sorted(expected)


async def test_a_newer_model_answers_at_once_and_the_older_again_when_it_stops(system):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(system.url, stop, seen))
    system.rf.start()
    try:
        assert await asyncio.to_thread(until, lambda: "rf" in seen.models)
        before = len(seen.answers)
        await asyncio.sleep(1.0)
        assert models_of(seen.answers[before:]) == {"rf"}
    finally:
        assert await asyncio.to_thread(system.rf.stop) == 0
    await asyncio.sleep(0.5)
    after = len(seen.answers)
    await asyncio.sleep(1.0)
    stop.set()
    await load
    assert models_of(seen.answers[after:]) == {"dt"}
    assert seen.bad == []
    assert seen.slowest_ms() < DEADLINE * 1000


@pytest.mark.parametrize(
    "name", ["dt", "lr", "decoy", "logs", "scores", "decisions", "log-es", "score-es"]
)
async def test_any_part_but_the_front_end_can_stop_and_start_while_clients_run(system, name):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(system.url, stop, seen))
    await asyncio.sleep(0.3)
    assert await asyncio.to_thread(system[name].stop) == 0
    await asyncio.sleep(0.3)
    system[name].start()
    assert await asyncio.to_thread(until, lambda: len(seen.answers) > 100)
    assert await asyncio.to_thread(until, lambda: models_of(seen.answers[-5:]) == {"dt"})
    stop.set()
    await load
    assert seen.bad == []
    assert await asyncio.to_thread(until, lambda: _archived_all(system, seen))


@pytest.mark.parametrize("name", ["dt", "decoy", "logs", "scores", "decisions", "score-es"])
async def test_a_part_that_is_killed_costs_no_answer_and_no_record(system, name):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(system.url, stop, seen))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(system[name].kill)
    await asyncio.sleep(0.3)
    system[name].start()
    assert await asyncio.to_thread(until, lambda: len(seen.answers) > 150)
    assert await asyncio.to_thread(until, lambda: models_of(seen.answers[-5:]) == {"dt"})
    stop.set()
    await load
    assert seen.bad == []
    assert seen.slowest_ms() < DEADLINE * 1000
    assert await asyncio.to_thread(until, lambda: _archived_all(system, seen))


async def test_the_front_end_can_stop_and_start(system):
    assert await asyncio.to_thread(system["front"].stop) == 0
    system["front"].start()
    await asyncio.to_thread(system.wait_ready)
    seen = await many(system.url, requests=50, clients=5)
    assert seen.bad == []


def test_logs_are_json_lines(system):
    lines = system["dt"].log().splitlines()
    assert lines
    assert all(json.loads(line)["level"] for line in lines)


def models_of(answers):
    return {answer["modelResult"]["modelName"] for answer in answers}


def _archived_all(system, seen):
    inputs = [r["messageId"] for r in system.archived("logs")]
    scores = [_key(r) for r in system.archived("scores")]
    assert len(inputs) == len(set(inputs))
    assert len(scores) == len(set(scores))
    decisions = [r["messageId"] for r in system.archived("decisions")]
    assert len(decisions) == len(set(decisions))
    by_dt = {(i, "dt", 1) for i in _ids_of(seen, "dt")}
    return seen.ids <= set(inputs) & set(decisions) and by_dt <= set(scores)


def _ids_of(seen, model):
    return {a["messageId"] for a in seen.answers if a["modelResult"]["modelName"] == model}


def _key(record):
    model = record["provenance"]["model"]
    return record["messageId"], model["modelName"], model["modelVersion"]


def _all(client, index):
    """Return every document of an index."""
    hits, after = [], None
    while True:
        page = client.search(
            index=index, size=5000, sort=[{"messageId": "asc"}, {"_doc": "asc"}], search_after=after
        )["hits"]["hits"]
        hits += page
        if len(page) < 5000:
            return hits
        after = page[-1]["sort"]
