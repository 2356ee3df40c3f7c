"""Many different inputs with the label that the production model gives each."""

from __future__ import annotations

import random
from pathlib import Path

from bench.load import QUESTIONS, Question
from rendezvous.contract import Result
from rendezvous.model.bundle import load
from rendezvous.model.evaluation import evaluate

BUNDLE = Path(__file__).resolve().parent.parent / "models" / "dt" / "1"


def different(number: int, seed: int = 1) -> list[Question]:
    """Return ``number`` questions, no two alike: an answer that went astray would show.

    Raises:
        BundleError: The model is not trained yet.
    """
    chance = random.Random(seed)
    names = list(QUESTIONS[0].body)
    # the first field is the number itself, in millionths: no two are the same
    bodies = [
        {name: round(chance.uniform(0.1, 7.0), 2) for name in names}
        | {names[0]: round(4.0 + n / 1e6, 6)}
        for n in range(number)
    ]
    outcomes = evaluate(load(BUNDLE), bodies)
    return [
        Question(body, outcome.result)
        for body, outcome in zip(bodies, outcomes, strict=True)
        if isinstance(outcome, Result)
    ]
