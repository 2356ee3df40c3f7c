"""What every model must do, as tests: an adapter's tests inherit ``ModelSuite``.

Give two fixtures: ``model``, loaded, and ``rows``, at least ten valid rows that it can score, of
shape ``(n, fields)``, float32.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from rendezvous.model.evaluation import evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rendezvous.model.port import Model, Prediction


def same(one: Prediction, other: Prediction) -> bool:
    """Return whether two predictions are equal, save for rounding."""
    if (one.probabilities is None) != (other.probabilities is None):
        return False
    if one.probabilities is not None and other.probabilities is not None:
        close = np.allclose(one.probabilities, other.probabilities, atol=1e-6)
    else:
        close = True
    return close and np.allclose(one.values, other.values)


def as_inputs(model: Model, rows: NDArray[np.float32]) -> list[Mapping[str, Any]]:
    """Return rows as inputs, fields by name."""
    names = [field.name for field in model.manifest.input]
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


class ModelSuite:
    """The behaviour of a loaded model."""

    def test_tells_who_it_is(self, model: Model) -> None:
        assert model.manifest.name
        assert model.manifest.version >= 0
        assert re.fullmatch("[0-9a-f]{64}", model.manifest.digest)

    def test_scores_a_batch_row_by_row(self, model: Model, rows: NDArray[np.float32]) -> None:
        prediction = model.predict(rows)
        assert prediction.values.shape == (len(rows),)
        if model.manifest.output.kind == "classification":
            classes = len(model.manifest.output.classes)
            assert np.issubdtype(prediction.values.dtype, np.integer)
            assert set(prediction.values.tolist()) <= set(range(classes))
            if prediction.probabilities is not None:
                assert prediction.probabilities.shape == (len(rows), classes)
                assert np.allclose(prediction.probabilities.sum(axis=1), 1.0, atol=1e-4)
        else:
            assert np.issubdtype(prediction.values.dtype, np.floating)
            assert prediction.probabilities is None

    def test_a_row_gets_the_same_in_any_company(
        self, model: Model, rows: NDArray[np.float32]
    ) -> None:
        whole = model.predict(rows)
        alone = [model.predict(rows[n : n + 1]) for n in range(len(rows))]
        backwards = model.predict(np.ascontiguousarray(rows[::-1]))
        assert np.allclose(whole.values, [one.values[0] for one in alone])
        assert np.allclose(whole.values, backwards.values[::-1])

    def test_says_the_same_again(self, model: Model, rows: NDArray[np.float32]) -> None:
        assert same(model.predict(rows), model.predict(rows))

    def test_leaves_its_input_as_it_was(self, model: Model, rows: NDArray[np.float32]) -> None:
        before = rows.copy()
        model.predict(rows)
        assert np.array_equal(rows, before)

    def test_its_outcomes_are_json_and_in_order(
        self, model: Model, rows: NDArray[np.float32]
    ) -> None:
        outcomes = evaluate(model, as_inputs(model, rows))
        expected = model.predict(rows).values
        assert [getattr(outcome, "result", None) for outcome in outcomes] == expected.tolist()
