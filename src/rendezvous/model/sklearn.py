"""Models as scikit-learn estimators in a joblib file, for what ONNX cannot express.

A joblib file is a pickle: loading it runs whatever code it holds. ``bundle.load`` does it only
where it is told that it may.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator, is_classifier

from rendezvous.errors import BundleError, ModelError
from rendezvous.model.port import Model, Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rendezvous.model.manifest import Manifest


class SklearnModel(Model):
    """An estimator with ``predict``, and ``predict_proba`` where it has it.

    Args:
        manifest: What is known of it.
        estimator: Fitted on columns as in the manifest.

    Raises:
        BundleError: It does not fit the manifest.
    """

    def __init__(self, manifest: Manifest, estimator: Any) -> None:
        if not isinstance(estimator, BaseEstimator):
            raise BundleError(f"{manifest.name}: holds {type(estimator).__name__}, no estimator")
        kind = "classification" if is_classifier(estimator) else "regression"
        if kind != manifest.output.kind:
            raise BundleError(f"{manifest.name}: is for {kind}, not {manifest.output.kind}")
        if getattr(estimator, "n_features_in_", None) != len(manifest.input):
            raise BundleError(f"{manifest.name}: was not fitted on {len(manifest.input)} columns")
        self._manifest = manifest
        self._estimator = estimator

    @property
    def manifest(self) -> Manifest:
        """What is known of it."""
        return self._manifest

    def predict(self, matrix: NDArray[np.float32]) -> Prediction:
        """Score a batch of shape ``(n, fields)``. Raises: ModelError."""
        try:
            values = self._estimator.predict(matrix)
            if self._manifest.output.kind == "regression":
                return Prediction(np.asarray(values, np.float64).reshape(len(matrix)))
            indices = np.searchsorted(self._estimator.classes_, values)  # classes_ is sorted
            if not hasattr(self._estimator, "predict_proba"):
                return Prediction(indices)
            return Prediction(indices, self._estimator.predict_proba(matrix))
        except Exception as error:
            raise ModelError(f"{type(error).__name__}: {error}") from error


def load_joblib(manifest: Manifest, content: bytes) -> SklearnModel:
    """Return the model in the bytes of a joblib file, which the caller has verified and trusts.

    Raises:
        BundleError: It cannot be loaded, was made with another version of scikit-learn, or does
            not fit the manifest.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # another version may load, and answer otherwise
            estimator = joblib.load(io.BytesIO(content))
    except Exception as error:
        raise BundleError(f"{manifest.name}: {type(error).__name__}: {error}") from error
    return SklearnModel(manifest, estimator)
