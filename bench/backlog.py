"""How fast a service works through what waits for it on the bus, and what that takes."""

from __future__ import annotations

import asyncio
import time
import urllib.request
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families as parse

from bench.load import QUESTIONS
from bench.systems import Part, elasticsearch_connector, log_connector, model, process
from bench.usage import Use, use
from rendezvous.bus.factory import connect
from rendezvous.contract import ModelProvenance, Request, Result, decode_request, encode_score
from rendezvous.testing.processes import free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONGEST = 120.0
AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Drained:
    """A backlog that is worked through.

    Attributes:
        messages: How many waited.
        seconds: From the first to the last.
        cpu_us: Microseconds of a core for each message, in the service's process.
        memory_mib: The process's resident memory, when a fifth was done and at the end.
        model_us: Of ``cpu_us``, what the model itself took.
    """

    messages: int
    seconds: float
    cpu_us: float
    memory_mib: tuple[float, float]
    model_us: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


def worker(broker: str, logs: Path, messages: int) -> Drained:
    """Let the worker of the decision tree score a backlog of requests."""
    topic = f"requests-{uuid.uuid4().hex[:8]}"
    reply = f"score-{topic}"
    payloads = [_request(number, reply).encode() for number in range(messages)]
    part = model("worker", "dt/1", RENDEZVOUS_TOPIC=topic, RENDEZVOUS_INSTANCE="bench")
    return _drain(part, broker, logs, (topic, "dt-1"), payloads, "rendezvous_worker_requests")


def archive(broker: str, logs: Path, messages: int) -> Drained:
    """Let a log connector archive a backlog of scores."""
    topic = f"backlog-{uuid.uuid4().hex[:8]}"
    part = log_connector("drained-log-connector", topic, logs)
    return _drain(
        part, broker, logs, (topic, f"log-{topic}"), _scores(messages), "rendezvous_archived"
    )


def index(broker: str, logs: Path, messages: int, elasticsearch: str) -> Drained:
    """Let an Elasticsearch connector index a backlog of scores."""
    topic = f"backlog-{uuid.uuid4().hex[:8]}"
    part = elasticsearch_connector("drained-elasticsearch-connector", topic, elasticsearch)
    return _drain(
        part, broker, logs, (topic, f"elasticsearch-{topic}"), _scores(messages),
        "rendezvous_archived",
    )  # fmt: skip


def _request(number: int, reply: str) -> Request:
    question = QUESTIONS[number % len(QUESTIONS)]
    return Request(
        timestamp=time.time(), message_id=str(uuid.uuid4()), model_input=dict(question.body),
        score_topic=reply, deadline=(time.time() + 3600) * 1000, endpoint="iris", schema_version=1,
    )  # fmt: skip


def _scores(messages: int) -> list[bytes]:
    said = Result(model_name="dt", result=1, probabilities=[0.0, 1.0, 0.0])
    by = ModelProvenance(
        model_name="dt", model_version=1, elapsed_time_after_request=3.21, role="production",
        digest="0" * 64, evaluated_ms=0.123, queue_ms=2.345,
    )  # fmt: skip
    requests = (_request(number, "score").encode() for number in range(messages))
    return [encode_score(decode_request(request)[1], by, said) for request in requests]


def _drain(
    part: Part,
    broker: str,
    logs: Path,
    read: tuple[str, str],
    payloads: list[bytes],
    counter: str,
) -> Drained:
    asyncio.run(_fill(broker, *read, payloads))
    pages = free_port()
    env = {**part.env, "RENDEZVOUS_BUS": broker, "RENDEZVOUS_METRICS_PORT": str(pages)}
    with ExitStack() as stack:
        service = process(f"{part.name}-{read[0]}", ["-m", part.module], logs, env)
        stack.enter_context(running([service]))
        service.wait_ready(f"http://127.0.0.1:{pages}/healthz")
        pid = service.running.pid

        def done() -> float:
            return _counted(pages, counter)

        before, began = _begun(done, pid)
        fifth = _until(done, len(payloads) / 5, pid)
        end = _until(done, len(payloads), pid)
        seconds = time.monotonic() - began
        model_seconds = _counted(pages, "rendezvous_worker_evaluation_seconds")
        number = len(payloads)
        return Drained(
            messages=number,
            seconds=seconds,
            cpu_us=(end.cpu_seconds - before.cpu_seconds) / number * 1e6,
            memory_mib=(fifth.memory_mib, end.memory_mib),
            model_us=model_seconds / number * 1e6,
        )


async def _fill(broker: str, topic: str, group: str, payloads: list[bytes]) -> None:
    """Make the group, then let messages wait for it."""
    bus = connect(broker)
    try:
        async with bus.subscribe([topic], group):
            pass
        for start in range(0, len(payloads), AT_ONCE):
            some = payloads[start : start + AT_ONCE]
            await asyncio.gather(*[bus.publish(topic, each, linger=0.0) for each in some])
    finally:
        await bus.aclose()


def _begun(done: Callable[[], float], pid: int) -> tuple[Use, float]:
    """Wait for the first message; return what was used until then, and when that was."""
    used, now = use(pid), time.monotonic()
    until = now + LONGEST
    while not done():
        used, now = use(pid), time.monotonic()
        if now > until:
            raise RuntimeError("it did not begin")
        time.sleep(0.002)
    return used, now


def _until(done: Callable[[], float], number: float, pid: int) -> Use:
    until = time.monotonic() + LONGEST
    while done() < number:
        if time.monotonic() > until:
            raise RuntimeError(f"{done():.0f} of {number:.0f} messages after {LONGEST:.0f} s")
        time.sleep(0.01)
    return use(pid)


def _counted(port: int, name: str) -> float:
    """Return the sum of a counter, or of a histogram, that a service shows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        families: Any = parse(page.read().decode())
    wanted = {f"{name}_total", f"{name}_sum"}
    samples = [sample for family in families for sample in family.samples]
    return float(sum(sample.value for sample in samples if sample.name in wanted))
