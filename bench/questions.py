"""Many different inputs with the label that the production model gives each."""

from __future__ import annotations

import random
from pathlib import Path

from bench.load import NAMES, PRODUCTION, Question
from rendezvous.contract import Result
from rendezvous.model.bundle import load
from rendezvous.model.evaluation import evaluate

MODELS = Path(__file__).resolve().parent.parent / "models"
BUNDLE = MODELS / "dt" / "1"


def different(number: int, seed: int = 1) -> list[Question]:
    """Return ``number`` questions, no two alike: an answer that went astray would show.

    Raises:
        BundleError: The models are not trained yet.
    """
    chance = random.Random(seed)
    # the first field is the number itself, in millionths: no two are the same
    bodies = [
        {name: round(chance.uniform(0.1, 7.0), 2) for name in NAMES}
        | {NAMES[0]: round(4.0 + n / 1e6, 6)}
        for n in range(number)
    ]
    by_model = {PRODUCTION: _labels(BUNDLE, bodies), "lr": _labels(MODELS / "lr" / "0", bodies)}
    return [
        Question(body, {model: labels[n] for model, labels in by_model.items()})
        for n, body in enumerate(bodies)
    ]


def _labels(bundle: Path, bodies: list[dict[str, float]]) -> list[int]:
    return [o.result for o in evaluate(load(bundle), bodies) if isinstance(o, Result)]
