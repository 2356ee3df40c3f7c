"""The data sets: rows, what is asked of them, and the fields of an input."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.datasets import load_iris

from rendezvous.model.manifest import Output
from rendezvous.schema import InputField

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

DatasetName = Literal["Iris", "Housing"]

HOUSING = Path(__file__).parent / "data" / "boston_housing.csv"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table to learn from.

    Attributes:
        name: As the command line names it.
        rows: Shape ``(n, fields)``, float32: the type in which models are served.
        target: Shape ``(n,)``: class indices, or the numbers of a regression.
        fields: The columns of ``rows`` as the fields of an input.
        output: What a model of it says.
    """

    name: str
    rows: NDArray[np.float32]
    target: NDArray[np.generic]
    fields: Sequence[InputField]
    output: Output

    @property
    def digest(self) -> str:
        """The sha256 of rows and target, in little-endian bytes."""
        content = self.rows.astype("<f4").tobytes() + self.target.astype("<f8").tobytes()
        return hashlib.sha256(content).hexdigest()


def iris() -> Dataset:
    """Return Fisher's Iris: 150 flowers, 4 lengths in centimetres, 3 species."""
    data = load_iris()
    names = ("sepalLength", "sepalWidth", "petalLength", "petalWidth")
    return Dataset(
        name="Iris",
        rows=data.data.astype(np.float32),
        target=data.target.astype(np.int64),
        fields=[InputField(name=name, minimum=-1000, maximum=1000) for name in names],
        output=Output(
            kind="classification", classes=tuple(str(name) for name in data.target_names)
        ),
    )


_HOUSING_MOST = {
    "CRIM": 1000, "ZN": 100, "INDUS": 100, "CHAS": 1, "NOX": 10, "RM": 100, "AGE": 100,
    "DIS": 100, "RAD": 100, "TAX": 10000, "PTRATIO": 100, "B": 1000, "LSTAT": 100,
}  # fmt: skip


def housing() -> Dataset:
    """Return Boston housing: 506 tracts, 13 numbers, the median price in 1,000 dollars.

    Source: Harrison and Rubinfeld 1978, StatLib. See ``README.md`` on column ``B``.
    """
    with HOUSING.open(encoding="utf-8", newline="") as file:
        table = [{k.upper(): float(v) for k, v in line.items()} for line in csv.DictReader(file)]
    return Dataset(
        name="Housing",
        rows=np.array([[line[name] for name in _HOUSING_MOST] for line in table], np.float32),
        target=np.array([line["MEDV"] for line in table]),
        fields=[
            InputField(
                name=name, type="integer" if name == "CHAS" else "number", minimum=0, maximum=most
            )
            for name, most in _HOUSING_MOST.items()
        ],
        output=Output(kind="regression"),
    )


DATASETS: Mapping[DatasetName, Callable[[], Dataset]] = {"Iris": iris, "Housing": housing}
