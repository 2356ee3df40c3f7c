"""Traffic, archived in Elasticsearch by the library itself.

A rendezvous server, workers, a decoy and connectors make every record. What is expected of it is
worked out here of what was answered and what each model said, not of the records of decisions.
"""

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from rendezvous.bus.memory import MemoryBus
from rendezvous.contract import decode_score
from rendezvous.core import Rendezvous
from rendezvous.deadletter import dead_letter_topic
from rendezvous.decision import Endpoint
from rendezvous.local import Local
from rendezvous.model.decoy import Decoy
from rendezvous.model.port import Prediction
from rendezvous.model.worker import Post, Worker
from rendezvous.policy import Newest
from rendezvous.sink.elastic import ElasticSink
from rendezvous.sink.runner import Connector
from tests.unit.scores import IRIS, manifest

INPUTS = ("iris", "hurry")
DEAD_LETTERS = [dead_letter_topic(topic) for topic in (*INPUTS, "decoy", "score", "decisions")]
VIEWS = {
    "decoy-log": ["decoy"],
    "score-log": ["score"],
    "decision-log": ["decisions"],
    "dead-letter-log": DEAD_LETTERS,
}
"""The topics that are archived in the index of each data view."""

POISON = [("iris", b"not a request"), ("iris", b"nor this"), ("score", b"not a score")]
"""Messages that nobody can read, and their topics."""

BURIED = [*POISON, *(("decoy", payload) for topic, payload in POISON if topic in INPUTS)]
"""What becomes a dead letter: the decoy passes on every input, read or not."""

ASKED = 12
HURRIED = 2
HURRY_SECONDS = 0.3
"""The deadline of the endpoint whose only model is slower than that."""

HANGING_SECONDS = 1.6
"""What that model takes: the record of its decision is closed long before."""

FIELD = "sepalLength"
FATAL = 7.0
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
    if value == FATAL:
        raise RuntimeError("I cannot do this one")
    return value % 3


class Kept:
    """Passes records on to a sink, and keeps them."""

    def __init__(self, sink):
        self.records = {}
        self.rejections = []
        self._sink = sink
        self.aclose = sink.aclose

    async def write(self, batch):
        """Pass them on."""
        rejections = await self._sink.write(batch)
        self.records |= {each.id: each.payload for each in batch}
        self.rejections += rejections
        return rejections


@dataclass
class Archived:
    """Which index each data view has, and what was answered.

    Attributes:
        indices: By the name of the data view.
        records: By the name of the data view: what was archived there, by its id.
        rejections: What Elasticsearch would not take.
        decided: The decisions, in the order they were asked for.
    """

    indices: dict
    records: dict = field(default_factory=dict)
    rejections: list = field(default_factory=list)
    decided: list = field(default_factory=list)

    @property
    def scores(self):
        """What every model said, late ones too."""
        return [decode_score(payload) for payload in self.records["score-log"].values()]

    @property
    def answers(self):
        """How often each model's score was the answer."""
        return Counter(named(each.score) for each in self.decided if each.score)

    @property
    def verdicts(self):
        """For each request that was answered: who else had a result, and whether it agreed."""
        return [
            {
                named(score): score.result.result == decision.score.result.result
                for score in self.scores
                if score.message_id == decision.request.message_id
                and score.result
                and named(score) != named(decision.score)
            }
            for decision in self.decided
            if decision.score
        ]

    @property
    def late(self):
        """How often each model's score came after the choice, but before the record was closed."""
        in_time = {
            (decision.request.message_id, named(arrival.score))
            for decision in self.decided
            for arrival in decision.arrivals
        }
        late = [s for s in self.scores if (s.message_id, named(s)) not in in_time]
        return Counter(named(score) for score in late if score.endpoint == "iris")


async def archive(url):
    """Make traffic and archive it; return what there is now."""
    run = uuid.uuid4()
    archived = Archived({view: f"{view}-{run}" for view in VIEWS})
    sinks = {view: Kept(ElasticSink(url, index)) for view, index in archived.indices.items()}
    local = system(sinks)
    async with asyncio.timeout(60), local.running() as rendezvous:
        for topic, payload in POISON:
            await local.bus.publish(topic, payload)
        for number in range(ASKED):
            archived.decided.append(await ask(rendezvous, "iris", number))
        for number in range(HURRIED):
            archived.decided.append(await ask(rendezvous, "hurry", number))
            await asyncio.sleep(HANGING_SECONDS)  # the model is done, and free for the next one
    archived.records = {view: sink.records for view, sink in sinks.items()}
    archived.rejections = [each for sink in sinks.values() for each in sink.rejections]
    return archived


def system(sinks):
    """Return a whole system.

    A canary, two newer models and a slow shadow; and one that hangs, alone on an endpoint.
    """
    bus = MemoryBus()
    endpoints = [
        Endpoint("iris", "iris", Newest(), 10.0),
        Endpoint("hurry", "hurry", Newest(), HURRY_SECONDS),
    ]
    models = [
        (Saying("lr", 0, lambda v: v // 6, 0.03), Post("iris", "iris", role="canary")),
        (Saying("dt", 1, lambda v: v % 3), Post("iris", "iris")),
        (Saying("rf", 2, failing), Post("iris", "iris")),
        (Saying("nb", 3, lambda v: v % 2, 0.5), Post("iris", "iris", role="shadow")),
        (Saying("old", 1, lambda v: v % 3, HANGING_SECONDS), Post("hurry", "hurry")),
    ]
    return Local(
        bus=bus,
        rendezvous=Rendezvous(bus, endpoints),
        workers=[Worker(model, bus, post) for model, post in models],
        decoy=Decoy(bus, INPUTS),
        connectors=[
            Connector(bus, sinks[view], topics, group=f"{view} connector", timeout=0.05)
            for view, topics in VIEWS.items()
        ],
    )


async def ask(rendezvous, endpoint, number):
    """Return the decision about one request."""
    return await rendezvous.ask(endpoint, {**IRIS, FIELD: float(number)})


def named(score):
    """Return a score's model and version in one word."""
    return f"{score.model.model_name}@{score.model.model_version}"


def fields(document, before=""):
    """Return the whole name of every field that a record has; of an input, only that it is one."""
    found = set()
    for name, value in document.items():
        values = value if isinstance(value, list) else [value]
        objects = [each for each in values if isinstance(each, dict) and name != "modelInput"]
        for each in objects:
            found |= fields(each, f"{before}{name}.")
        if values and not objects:
            found.add(f"{before}{name}")
    return found
