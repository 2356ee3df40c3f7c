"""Train one model: fit, measure on held-out rows, export, write the bundle."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split

from rendezvous.errors import ConfigurationError
from rendezvous.model import bundle
from rendezvous.model.manifest import Format, Manifest
from training.datasets import DATASETS, Dataset, DatasetName
from training.estimators import KINDS, KindName, fit, make
from training.export import to_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from training.estimators import Advanced

LIBRARIES = ("scikit-learn", "numpy", "skl2onnx", "onnx", "onnxruntime", "joblib")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train.

    Attributes:
        dataset: One of ``datasets.DATASETS``.
        kind: One of ``estimators.KINDS``.
        name: The model's name; the kind's own if ``None``.
        version: The model's version; the kind's own if ``None``.
        format: Of the model's file.
        seed: Of every random choice.
        test_share: Share of the rows that is held out, in (0, 1).
        trees: Of a forest.
    """

    dataset: DatasetName
    kind: KindName
    name: str | None = None
    version: int | None = None
    format: Format = "onnx"
    seed: int = 0
    test_share: float = 0.2
    trees: int = 100


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it: the bundle's directory, and its manifest."""

    path: Path
    manifest: Manifest


def train(plan: Plan, models: Path, advanced: Advanced, *, replace: bool = False) -> Trained:
    """Train, measure and write a bundle below ``models``.

    ``advanced(done, all)`` is told as the fitting goes on.

    Raises:
        ConfigurationError: That kind of model does not do what the data set asks.
        ModelError: As ONNX the model would say something else.
        BundleError: There is one of that name and version, or it cannot be written.
    """
    dataset = DATASETS[plan.dataset]()
    estimator = make(plan.kind, dataset.output.kind, plan.seed, plan.trees)
    strata = dataset.target if dataset.output.kind == "classification" else None
    rows, held_out, target, truth = train_test_split(
        dataset.rows, dataset.target,
        test_size=plan.test_share, random_state=plan.seed, stratify=strata,
    )  # fmt: skip
    fit(estimator, rows, target, advanced)
    manifest = _manifest(plan, dataset, _metrics(dataset, estimator, held_out, truth))
    content = to_bytes(estimator, manifest, dataset.rows)
    path = bundle.write(models, manifest, content, replace=replace)
    return Trained(path, bundle.load(path, allow_joblib=plan.format == "joblib").manifest)


def _manifest(plan: Plan, dataset: Dataset, metrics: dict[str, float]) -> Manifest:
    try:
        return _checked_manifest(plan, dataset, metrics)
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors(include_url=False))
        raise ConfigurationError(wrong) from error


def _checked_manifest(plan: Plan, dataset: Dataset, metrics: dict[str, float]) -> Manifest:
    kind = KINDS[plan.kind]
    return Manifest(
        name=plan.name or kind.name,
        version=kind.version if plan.version is None else plan.version,
        input=tuple(dataset.fields),
        output=dataset.output,
        format=plan.format,
        created=datetime.now(UTC),
        metrics=metrics,
        data_hash=dataset.digest,
        libraries={"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        description=f"{plan.kind} on {plan.dataset}, seed {plan.seed}",
    )


def _metrics(
    dataset: Dataset, estimator: Any, rows: NDArray[np.float32], truth: NDArray[Any]
) -> dict[str, float]:
    said = estimator.predict(rows)
    count = {"held_out_rows": float(len(rows))}
    if dataset.output.kind == "classification":
        return {"accuracy": float(accuracy_score(truth, said)), **count}
    error = float(mean_absolute_error(truth, said))
    return {"r2": float(r2_score(truth, said)), "mean_absolute_error": error, **count}
