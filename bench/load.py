"""A closed loop over HTTP: so many clients, each with one request at a time, every body checked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

INPUTS = [
    ({"sepalLength": 5.1, "sepalWidth": 3.5, "petalLength": 1.4, "petalWidth": 0.2}, 0),
    ({"sepalLength": 6.0, "sepalWidth": 2.9, "petalLength": 4.5, "petalWidth": 1.5}, 1),
    ({"sepalLength": 5.9, "sepalWidth": 3.0, "petalLength": 5.1, "petalWidth": 1.8}, 2),
]


@dataclass(slots=True)
class Figures:
    """What one run of the loop saw.

    Attributes:
        seconds: How long it ran.
        latencies: Milliseconds of each right answer.
        wrong: Answers with another label than the model gives for that input.
        empty: Answers of status 200 without a result.
        failed: Answers of another status, and broken connections.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    empty: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency in milliseconds that ``share`` of the answers did not exceed."""
        if not self.latencies:
            return float("nan")
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def request_bytes(port: int, body: dict[str, float]) -> bytes:
    """Return a whole HTTP request."""
    content = json.dumps(body).encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lower = head.lower()
    start = lower.index(b"content-length:") + len(b"content-length:")
    length = int(lower[start : lower.index(b"\r\n", start)])
    return status, await reader.readexactly(length)


async def _client(port: int, until: float, figures: Figures, offset: int, count: Count) -> None:
    requests = [(request_bytes(port, body), label) for body, label in INPUTS]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    turn = offset
    try:
        while time.perf_counter() < until:
            payload, label = requests[turn % len(requests)]
            turn += 1
            began = time.perf_counter()
            writer.write(payload)
            status, body = await _answer(reader)
            took = (time.perf_counter() - began) * 1000.0
            count(figures, status, body, label, took)
    except (OSError, asyncio.IncompleteReadError):
        figures.failed += 1
    finally:
        writer.close()


Count = Callable[[Figures, int, bytes, int, float], None]


def right_answers(figures: Figures, status: int, body: bytes, label: int, took: float) -> None:
    """Count an answer, which should be the production model's for that very input."""
    if status != 200:  # noqa: PLR2004 - the status of a good answer
        figures.failed += 1
        return
    result = json.loads(body)["modelResult"]
    if not result:
        figures.empty += 1
    elif result["result"] != label or result["modelName"] != "dt":
        figures.wrong += 1
    else:
        figures.latencies.append(took)


def gateway_timeouts(figures: Figures, status: int, _: bytes, __: int, took: float) -> None:
    """Count an answer, which should say that nothing came in time."""
    if status == 504:  # noqa: PLR2004 - the status of that
        figures.latencies.append(took)
    else:
        figures.failed += 1


async def closed_loop(
    port: int, clients: int, seconds: float, count: Count = right_answers
) -> Figures:
    """Load ``127.0.0.1:port`` with ``clients`` for ``seconds``; ``count`` judges each answer."""
    figures = Figures()
    began = time.perf_counter()
    await asyncio.gather(
        *(_client(port, began + seconds, figures, offset, count) for offset in range(clients))
    )
    figures.seconds = time.perf_counter() - began
    return figures
