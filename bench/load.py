"""Loads over HTTP of which every answer is checked against its own question.

``paced`` is an open loop: requests are due at moments that do not depend on the answers, for
latency. ``crowd`` is a closed loop: so many clients, each with one request at a time. For the
highest rate there is ``bench.closed``, which costs the machine less.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.history import Event, History, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Judge = Callable[["Question", int, bytes], Verdict]


PRODUCTION = "dt"
NAMES = ("sepalLength", "sepalWidth", "petalLength", "petalWidth")


@dataclass(frozen=True, slots=True)
class Question:
    """An input, and the label that each model gives it."""

    body: dict[str, float]
    labels: dict[str, int]


def _flower(values: Sequence[float], label: int) -> Question:
    return Question(dict(zip(NAMES, values, strict=True)), {PRODUCTION: label, "lr": label})


QUESTIONS = (
    _flower((5.1, 3.5, 1.4, 0.2), 0),
    _flower((6.0, 2.9, 4.5, 1.5), 1),
    _flower((5.9, 3.0, 5.1, 1.8), 2),
)


def own_answer(question: Question, status: int, body: bytes) -> Verdict:
    """Judge a rendezvous server's answer: it must be a model's own to this very input."""
    if status != 200:  # noqa: PLR2004 - the status of a good answer
        return "failed"
    answer = json.loads(body)
    result = answer["modelResult"]
    if not result:
        return "empty"
    model = result["modelName"]
    if result["result"] != question.labels.get(model) or answer["modelInput"] != question.body:
        return "wrong"
    return "right" if model == PRODUCTION else "fallback"


def bare_answer(question: Question, status: int, body: bytes) -> Verdict:
    """Judge an answer of the bare service, which does not repeat the input."""
    if status != 200:  # noqa: PLR2004 - the status of a good answer
        return "failed"
    right = json.loads(body)["modelResult"]["result"] == question.labels[PRODUCTION]
    return "right" if right else "wrong"


class Connection:
    """A connection that is kept, with one request at a time."""

    def __init__(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to this machine's ``port``."""
        return cls(port, *await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, question: Question) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        content = json.dumps(question.body).encode()
        self._writer.write(
            self._head
            + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
            + content
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        start = head.index(b"content-length:") + len(b"content-length:")
        length = int(head[start : head.index(b"\r\n", start)])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Let go."""
        self._writer.close()


async def _ask(
    connection: Connection, question: Question, judge: Judge, due: float, history: History
) -> bool:
    """Ask, and note what came; return whether the connection can be used again."""
    sent = time.perf_counter()
    try:
        status, body = await connection.ask(question)
    except (OSError, asyncio.IncompleteReadError):
        history.events.append(Event(due, sent, time.perf_counter(), "failed"))
        return False
    answered = time.perf_counter()
    history.events.append(Event(due, sent, answered, judge(question, status, body)))
    return True


async def crowd(
    port: int,
    clients: int,
    seconds: float,
    questions: Sequence[Question] = QUESTIONS,
    judge: Judge = own_answer,
) -> History:
    """Load with ``clients`` for ``seconds``; no two of them ask the same at the same time."""
    history = History()
    connections = [await Connection.open(port) for _ in range(clients)]
    until = time.perf_counter() + seconds

    async def client(number: int, connection: Connection) -> None:
        turn = number
        while (now := time.perf_counter()) < until:
            question = questions[turn % len(questions)]
            turn += clients
            if not await _ask(connection, question, judge, now, history):
                return

    await asyncio.gather(*(client(n, c) for n, c in enumerate(connections)))
    for connection in connections:
        connection.close()
    return history


async def paced(
    port: int,
    rate: float,
    seconds: float,
    questions: Sequence[Question] = QUESTIONS,
    judge: Judge = own_answer,
) -> History:
    """Load with ``rate`` requests a second, at moments of a Poisson process, for ``seconds``.

    A request that finds no free connection opens one: nothing waits for an answer to be sent.
    """
    history = History()
    free: list[Connection] = [await Connection.open(port) for _ in range(8)]
    moments = poisson(rate, seconds)
    began = time.perf_counter()

    async def one(due: float, question: Question) -> None:
        connection = free.pop() if free else await Connection.open(port)
        if await _ask(connection, question, judge, due, history):
            free.append(connection)

    async with asyncio.TaskGroup() as group:
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
            group.create_task(one(began + moment, questions[number % len(questions)]))
    for connection in free:
        connection.close()
    return history


def poisson(rate: float, seconds: float, seed: int = 1) -> list[float]:
    """Return the moments, in seconds, at which independent users come; the same for a seed."""
    chance = random.Random(seed)
    moments: list[float] = []
    moment = chance.expovariate(rate)
    while moment < seconds:
        moments.append(moment)
        moment += chance.expovariate(rate)
    return moments
