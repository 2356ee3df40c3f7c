"""What the worker asks of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rendezvous.model.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of a batch of n rows.

    Attributes:
        values: Shape ``(n,)``: class indices (integers), or the numbers of a regression.
        probabilities: Shape ``(n, classes)``, each row summing to 1, or ``None`` where the model
            has none.
    """

    values: NDArray[Any]
    probabilities: NDArray[np.floating[Any]] | None = None


class Model(Protocol):
    """A loaded model. Called by one thread at a time."""

    @property
    def manifest(self) -> Manifest:
        """What is known of it."""
        ...

    def predict(self, matrix: NDArray[np.float32]) -> Prediction:
        """Score a batch.

        Args:
            matrix: Validated inputs of shape ``(n, fields)``, n >= 1, columns as in the manifest.

        Raises:
            ModelError: The model failed.
        """
        ...
