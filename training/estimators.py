"""The kinds of models that can be trained, and what each is called where no name is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from rendezvous.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    Advanced = Callable[[int, int], None]

KindName = Literal["LogisticRegression", "DecisionTree", "RandomForest"]

TREES_A_STEP = 10


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model.

    Attributes:
        name: Of the model, if no other is given.
        version: Of the model, if no other is given.
        makers: By what is asked: given a seed, an estimator that is not fitted yet.
    """

    name: str
    version: int
    makers: Mapping[str, Callable[[int], Any]]


def _logistic(seed: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))


KINDS: Mapping[KindName, Kind] = {
    "LogisticRegression": Kind("lr", 0, {"classification": _logistic}),
    "DecisionTree": Kind(
        "dt",
        1,
        {
            "classification": lambda seed: DecisionTreeClassifier(random_state=seed),
            "regression": lambda seed: DecisionTreeRegressor(random_state=seed),
        },
    ),
    "RandomForest": Kind(
        "rf",
        2,
        {
            "classification": lambda seed: RandomForestClassifier(random_state=seed),
            "regression": lambda seed: RandomForestRegressor(random_state=seed),
        },
    ),
}


def make(kind: KindName, asked: str, seed: int, trees: int) -> Any:
    """Return an estimator that is not fitted yet.

    Args:
        kind: One of ``KINDS``.
        asked: ``classification`` or ``regression``.
        seed: Of every random choice.
        trees: Of a forest.

    Raises:
        ConfigurationError: That kind of model does not do what is asked.
    """
    makers = KINDS[kind].makers
    if asked not in makers:
        able = ", ".join(name for name, other in KINDS.items() if asked in other.makers)
        raise ConfigurationError(f"{kind} does no {asked}; these do: {able}")
    estimator = makers[asked](seed)
    if hasattr(estimator, "n_estimators"):
        estimator.set_params(n_estimators=trees)
    return estimator


def fit(
    estimator: Any, rows: NDArray[np.float32], target: NDArray[Any], advanced: Advanced
) -> None:
    """Fit ``estimator``; a forest grows in steps, each told as ``advanced(done, all)``."""
    trees = getattr(estimator, "n_estimators", None)
    if trees is None:
        estimator.fit(rows, target)
        advanced(1, 1)
        return
    estimator.set_params(warm_start=True)
    for grown in [*range(TREES_A_STEP, trees, TREES_A_STEP), trees]:
        estimator.set_params(n_estimators=grown)
        estimator.fit(rows, target)
        advanced(grown, trees)
    estimator.set_params(warm_start=False)
