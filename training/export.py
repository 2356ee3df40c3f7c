"""From a fitted estimator to the bytes of a model's file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from skl2onnx import to_onnx
from sklearn.base import is_classifier

from rendezvous.errors import ModelError
from rendezvous.model.onnx import OnnxModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rendezvous.model.manifest import Manifest

TOLERANCE = 1e-4
"""How far float32 may be from scikit-learn's float64: relative for numbers, absolute for
probabilities."""


def to_bytes(estimator: Any, manifest: Manifest, rows: NDArray[np.float32]) -> bytes:
    """Return the model's file in the manifest's format.

    Args:
        estimator: Fitted.
        manifest: What is known of the model.
        rows: Those on which an ONNX model must say the same as ``estimator``, shape
            ``(n, fields)``.

    Raises:
        ModelError: The ONNX model says something else.
    """
    if manifest.format == "joblib":
        out = io.BytesIO()
        joblib.dump(estimator, out)
        return out.getvalue()
    options = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
    content: bytes = to_onnx(estimator, rows[:1], options=options).SerializeToString()
    compare(estimator, OnnxModel(manifest, content), rows)
    return content


def compare(estimator: Any, model: OnnxModel, rows: NDArray[np.float32]) -> None:
    """Compare an ONNX model with the estimator it came from, on every row. Raises: ModelError."""
    prediction = model.predict(rows)
    expected = estimator.predict(rows)
    if is_classifier(estimator):
        same = prediction.values == expected
        distances = np.abs(prediction.probabilities - estimator.predict_proba(rows)).max(axis=1)
        same &= distances <= TOLERANCE
    else:
        same = np.isclose(prediction.values, expected, rtol=TOLERANCE, atol=0.0)
    if not same.all():
        differing = np.flatnonzero(~same)
        raise ModelError(
            f"as ONNX it differs from scikit-learn on {len(differing)} of {len(rows)} rows, "
            f"the first of them row {differing[0]}; --format joblib keeps it as it is"
        )
