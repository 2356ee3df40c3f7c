"""The bare bus: a message to an echo in another process, and its reply, with the vendor's client.

Run as a program it is the echo: ``python -m bench.two_hops URL``.
"""

from __future__ import annotations

import sys
import time

import pulsar

from bench.load import Figures

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


def round_trips(url: str, in_flight: int, seconds: float) -> Figures:
    """Keep ``in_flight`` messages under way for ``seconds``."""
    client = pulsar.Client(url, logger=QUIET)
    try:
        consumer = client.subscribe("bench-out", "bench", consumer_type=pulsar.ConsumerType.Shared)
        producer = client.create_producer("bench-in", batching_enabled=False)
        return _measure(producer, consumer, in_flight, seconds)
    finally:
        client.close()


def _measure(
    producer: pulsar.Producer, consumer: pulsar.Consumer, in_flight: int, seconds: float
) -> Figures:
    figures = Figures()
    began = time.perf_counter()
    sent = {}
    number = 0
    for number in range(in_flight):
        sent[number] = time.perf_counter()
        producer.send_async(number.to_bytes(8, "big") + PAYLOAD, _sent)
    while (now := time.perf_counter()) < began + seconds or sent:
        message = consumer.receive(10_000)
        consumer.acknowledge(message)
        started = sent.pop(int.from_bytes(message.data()[:8], "big"), None)
        if started is None:
            continue  # left from an earlier run
        figures.latencies.append((time.perf_counter() - started) * 1000.0)
        if now < began + seconds:
            number += 1
            sent[number] = time.perf_counter()
            producer.send_async(number.to_bytes(8, "big") + PAYLOAD, _sent)
    figures.seconds = time.perf_counter() - began
    return figures


if __name__ == "__main__":
    echo(sys.argv[1])
