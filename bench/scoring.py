"""Scoring alone, without a bus: rows a second of one model process."""

from __future__ import annotations

import time

from bench.questions import BUNDLE, different
from rendezvous.model.bundle import load
from rendezvous.model.evaluation import evaluate

BATCH = 64


def rows_per_second(seconds: float) -> float:
    """Return how many rows a second the ONNX model scores: from fields by name to results."""
    model = load(BUNDLE)
    batch = [question.body for question in different(BATCH)]
    evaluate(model, batch)
    began = time.perf_counter()
    rows = 0
    while time.perf_counter() < began + seconds:
        evaluate(model, batch)
        rows += BATCH
    return rows / (time.perf_counter() - began)
