"""The bare bus: a message to an echo in another process, and its reply, with the vendor's client.

Run as a program it is the echo: ``python -m bench.two_hops URL``.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pulsar

from bench.history import Event, Figures, History, summary
from bench.load import poisson

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)
PAYLOAD = b"x" * 300


def echo(url: str) -> None:
    """Send every message of the one topic to the other, until killed."""
    client = pulsar.Client(url, logger=QUIET)
    consumer = client.subscribe("bench-in", "echo", consumer_type=pulsar.ConsumerType.Shared)
    producer = client.create_producer("bench-out", batching_enabled=False)
    print("ready", flush=True)
    while True:
        message = consumer.receive()
        producer.send_async(message.data(), _sent)
        consumer.acknowledge(message)


def _sent(result: object, _: object) -> None:
    if result != pulsar.Result.Ok:
        raise SystemExit(f"echo: {result}")


@contextmanager
def _ends(url: str) -> Iterator[tuple[pulsar.Producer, pulsar.Consumer]]:
    client = pulsar.Client(url, logger=QUIET)
    try:
        consumer = client.subscribe("bench-out", "bench", consumer_type=pulsar.ConsumerType.Shared)
        yield client.create_producer("bench-in", batching_enabled=False), consumer
    finally:
        client.close()


def _numbered(number: int) -> bytes:
    return number.to_bytes(8, "big") + PAYLOAD


def _number(message: pulsar.Message) -> int:
    return int.from_bytes(message.data()[:8], "big")


def round_trips(url: str, in_flight: int, seconds: float) -> Figures:
    """Keep ``in_flight`` messages under way for ``seconds``: a closed loop."""
    with _ends(url) as (producer, consumer):
        began = time.perf_counter()
        sent: dict[int, float] = {}
        took: list[float] = []

        def send() -> None:
            number = len(took) + len(sent)
            sent[number] = time.perf_counter()
            producer.send_async(_numbered(number), _sent)

        for _ in range(in_flight):
            send()
        while sent:
            message = consumer.receive(10_000)
            consumer.acknowledge(message)
            started = sent.pop(_number(message), None)
            if started is None:
                continue  # left from an earlier run
            took.append((time.perf_counter() - started) * 1000.0)
            if time.perf_counter() < began + seconds:
                send()
        return summary(took, time.perf_counter() - began)


def paced_round_trips(url: str, rate: float, seconds: float) -> History:
    """Send ``rate`` messages a second, at the moments of ``bench.load.paced``: an open loop."""
    history = History()
    moments = poisson(rate, seconds)
    due: dict[int, float] = {}
    with _ends(url) as (producer, consumer):

        def hear() -> None:
            while len(history.events) < len(moments):
                message = consumer.receive(10_000)
                consumer.acknowledge(message)
                if (moment := due.pop(_number(message), None)) is not None:
                    now = time.perf_counter()
                    history.events.append(Event(moment, moment, now, "right"))

        hearing = threading.Thread(target=hear)
        hearing.start()
        began = time.perf_counter()
        for number, moment in enumerate(moments):
            time.sleep(max(0.0, began + moment - time.perf_counter()))
            due[number] = began + moment
            producer.send_async(_numbered(number), _sent)
        hearing.join()
    return history


if __name__ == "__main__":
    echo(sys.argv[1])
