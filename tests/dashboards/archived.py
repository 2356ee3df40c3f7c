"""Traffic, archived in Elasticsearch by the library itself.

Requests and scores are made by a rendezvous server, workers, a decoy and connectors. The records of
decisions and dead letters are written here, as their description says; see ``decision_records``.
"""

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field

import numpy as np

from rendezvous.bus.memory import MemoryBus
from rendezvous.contract import decode_score
from rendezvous.core import Rendezvous
from rendezvous.decision import Endpoint
from rendezvous.local import Local
from rendezvous.model.decoy import Decoy
from rendezvous.model.port import Prediction
from rendezvous.model.worker import Post, Worker
from rendezvous.policy import Newest
from rendezvous.sink.elastic import ElasticSink
from rendezvous.sink.port import Record
from rendezvous.sink.runner import Connector
from tests.unit.scores import IRIS, manifest

VIEWS = ("decoy-log", "score-log", "decision-log", "dead-letter-log")
ASKED = 12
HURRIED = 2
HURRY_SECONDS = 0.5
"""The deadline of the endpoint whose only model is slower than that."""

FIELD = "sepalLength"
POISON = 7.0
"""An input that the model ``rf`` fails on."""


class Saying:
    """A model that says ``say`` of the first field, after a while."""

    def __init__(self, name, version, say, seconds=0.0):
        self.manifest = manifest(name, version)
        self._say = say
        self._seconds = seconds

    def predict(self, matrix):
        """Say it of each row."""
        time.sleep(self._seconds)
        return Prediction(np.array([float(self._say(value)) for value in matrix[:, 0]]))


def failing(value):
    """Return the class, or fail."""
    if value == POISON:
        raise RuntimeError("I cannot do this one")
    return value % 3


class Kept:
    """Passes records on to a sink, and keeps them."""

    def __init__(self, sink):
        self.records = []
        self._sink = sink
        self.aclose = sink.aclose

    async def write(self, batch):
        """Pass them on."""
        rejections = await self._sink.write(batch)
        self.records += batch
        return rejections


@dataclass
class Archived:
    """Which index each data view has, and what was answered.

    Attributes:
        indices: By the name of the data view.
        decided: The decisions, in the order they were asked for.
        records: Those of decisions, as they were written.
        scores: The scores, as they were archived.
    """

    indices: dict = field(default_factory=dict)
    decided: list = field(default_factory=list)
    records: list = field(default_factory=list)
    scores: list = field(default_factory=list)


async def archive(url):
    """Make traffic and archive it; return what there is now."""
    run = uuid.uuid4()
    archived = Archived({view: f"{view}-{run}" for view in VIEWS})
    sinks = {view: ElasticSink(url, index) for view, index in archived.indices.items()}
    scores = Kept(sinks["score-log"])
    async with asyncio.timeout(60), system(sinks["decoy-log"], scores).running() as rendezvous:
        for number in range(ASKED):
            archived.decided.append(await ask(rendezvous, "iris", number))
        for number in range(HURRIED):
            archived.decided.append(await ask(rendezvous, "hurry", number))
            await asyncio.sleep(HURRY_SECONDS)  # the model is done, and free for the next one
    archived.scores = [decode_score(each.payload) for each in scores.records]
    archived.records = list(decision_records(archived))
    decisions = [Record(r["messageId"], "decisions", encoded(r)) for r in archived.records]
    dead = [Record(r["messageId"], "dead", encoded(r)) for r in dead_letters()]
    assert not await sinks["decision-log"].write(decisions)
    assert not await sinks["dead-letter-log"].write(dead)
    for sink in sinks.values():
        await sink.aclose()
    return archived


def system(requests, scores):
    """Return a whole system: a canary, two newer models, and a slow one alone on an endpoint."""
    bus = MemoryBus()
    endpoints = [
        Endpoint("iris", "iris", Newest(), 10.0),
        Endpoint("hurry", "hurry", Newest(), HURRY_SECONDS),
    ]
    workers = [
        Worker(Saying("lr", 0, lambda v: v // 6, 0.03), bus, Post("iris", "iris", role="canary")),
        Worker(Saying("dt", 1, lambda v: v % 3), bus, Post("iris", "iris")),
        Worker(Saying("rf", 2, failing), bus, Post("iris", "iris")),
        Worker(Saying("old", 1, lambda v: v % 3, 1.4 * HURRY_SECONDS), bus, Post("hurry", "hurry")),
    ]
    sinks = {"decoy": requests, "score": scores}
    return Local(
        bus=bus,
        rendezvous=Rendezvous(bus, endpoints),
        workers=workers,
        decoy=Decoy(bus, ["iris", "hurry"]),
        connectors=[
            Connector(bus, sink, [topic], group=f"{topic} connector", timeout=0.05)
            for topic, sink in sinks.items()
        ],
    )


async def ask(rendezvous, endpoint, number):
    """Return the decision about one request."""
    return await rendezvous.ask(endpoint, {**IRIS, FIELD: float(number)})


def decision_records(archived):
    """Yield the record of each decision, from what was decided and the scores that were archived.

    Written here as long as no front end publishes such records.
    """
    for decision in archived.decided:
        request, chosen = decision.request, decision.score
        scores = [s for s in archived.scores if s.message_id == request.message_id]
        seen = {named(arrival.score.model) for arrival in decision.arrivals}
        decided = decision.elapsed * 1000.0
        record = {
            "timestamp": request.timestamp,
            "messageId": request.message_id,
            "endpoint": request.endpoint,
            "schemaVersion": 1,
            "modelInput": request.model_input,
            "deadlineMs": 10_000.0,
            "policy": {"name": decision.policy},
            "outcome": "answered" if chosen else "exhausted",
            "reason": decision.reason,
            "decidedMs": decided,
            "closedMs": decided + 50.0,
            "scores": [entry(score, chosen, seen) for score in scores],
        }
        if chosen:
            who = {"model": chosen.model.model_name, "version": chosen.model.model_version}
            record["chosen"] = {**who, "role": "production", "result": chosen.result.result}
            record["answeredBy"] = named(chosen.model)
        yield {**record, **lists(record)}


def entry(score, chosen, seen):
    """Return one score as the record has it."""
    model = score.model
    told = {
        "model": model.model_name,
        "version": model.model_version,
        "role": model.role,
        "afterMs": model.elapsed_time_after_request,
        "valid": score.result is not None,
        "late": named(model) not in seen,
    }
    if score.error:
        return {**told, "error": {"type": score.error.type, "message": score.error.message}}
    told["result"] = score.result.result
    if chosen and named(model) != named(chosen.model):
        told["agrees"] = score.result.result == chosen.result.result
    return told


def lists(record):
    """Return the lists of models, those that are not empty."""

    def those(condition):
        return [f"{s['model']}@{s['version']}" for s in record["scores"] if condition(s)]

    every = {
        "agreeing": those(lambda s: s.get("agrees") is True),
        "disagreeing": those(lambda s: s.get("agrees") is False),
        "lateModels": those(lambda s: s["late"]),
        "failedModels": those(lambda s: not s["valid"]),
    }
    return {name: models for name, models in every.items() if models}


def named(model):
    """Return a model's name and version in one word."""
    return f"{model.model_name}@{model.model_version}"


def dead_letters():
    """Yield records of dead letters, of two topics."""
    for number, topic in enumerate(["iris", "iris", "score"]):
        letter = {"topic": topic, "reason": "not a request", "tries": 3, "payload": "{"}
        yield {"timestamp": time.time(), "messageId": f"{number:032x}", "deadLetter": letter}


def encoded(record):
    """Return a record as it goes over the bus."""
    return json.dumps(record).encode()
