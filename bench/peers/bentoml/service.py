"""BentoML: one service with one worker; the method is a coroutine, so no thread between."""

from __future__ import annotations

import bentoml
import numpy as np  # noqa: TC002 - BentoML reads the annotations
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier


@bentoml.service(
    workers=1,
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Iris:
    """A decision tree on Iris."""

    def __init__(self) -> None:
        rows, labels = load_iris(return_X_y=True)
        self.model = DecisionTreeClassifier(random_state=0).fit(rows, labels)

    @bentoml.api
    async def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return a label for each row."""
        labels: np.ndarray = self.model.predict(rows)
        return labels
