"""From inputs to what a model says of each: one prediction a batch, and no input harms another."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from rendezvous.contract import Result, ScoreError
from rendezvous.model.manifest import rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from rendezvous.model.manifest import Manifest
    from rendezvous.model.port import Model, Prediction

log = logging.getLogger(__name__)

Outcome = Result | ScoreError


def evaluate(model: Model, inputs: Sequence[Mapping[str, Any]]) -> list[Outcome]:
    """Return one outcome for each input, in order. Never raises for what a model does.

    An input that does not fit the schema gets an ``InputError``; one on which the model fails a
    ``ModelError``; a result that is not finite an ``OutputError``. The others get their results.
    """
    matrix, problems = rows(inputs, model.manifest)
    outcomes = iter(_predict(model, matrix))
    return [
        next(outcomes) if problem is None else ScoreError(type="InputError", message=str(problem))
        for problem in problems
    ]


def _predict(model: Model, matrix: NDArray[np.float32]) -> list[Outcome]:
    """Predict all rows at once; where that fails, halve until the failing ones are alone."""
    if not len(matrix):
        return []
    try:
        return _outcomes(model.manifest, model.predict(matrix), len(matrix))
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        if len(matrix) > 1:
            middle = len(matrix) // 2
            return _predict(model, matrix[:middle]) + _predict(model, matrix[middle:])
        log.warning("%s failed on an input: %s", model.manifest.name, error)
        return [ScoreError(type="ModelError", message=f"{type(error).__name__}: {error}"[:300])]


def _outcomes(manifest: Manifest, prediction: Prediction, count: int) -> list[Outcome]:
    """Turn arrays into outcomes. Raises: ValueError where a shape or a type is wrong."""
    values, probabilities = prediction.values, prediction.probabilities
    if values.dtype.kind not in "biuf":
        raise ValueError(f"values are of type {values.dtype}, not numbers")
    if values.shape != (count,):
        raise ValueError(f"{count} rows gave values of shape {values.shape}")
    if probabilities is None:
        shown: list[list[float] | None] = [None] * count
    elif probabilities.shape[:1] != (count,):
        raise ValueError(f"{count} rows gave probabilities of shape {probabilities.shape}")
    else:
        shown = probabilities.tolist()
    finite = np.isfinite(values)
    if probabilities is not None:
        finite &= np.isfinite(probabilities).all(axis=1)
    return [
        Result(model_name=manifest.name, result=value, probabilities=row)
        if good
        else ScoreError(type="OutputError", message="the model's result is not a finite number")
        for value, row, good in zip(values.tolist(), shown, finite.tolist(), strict=True)
    ]
