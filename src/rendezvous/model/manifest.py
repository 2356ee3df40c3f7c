"""What is known of a model: its name, its inputs and outputs, and where it comes from."""

from __future__ import annotations

import math
from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rendezvous.errors import InputError
from rendezvous.schema import NAME, InputField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Format = Literal["onnx", "joblib"]
MODEL_FILES: Mapping[Format, str] = {"onnx": "model.onnx", "joblib": "model.joblib"}

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """Base of the parts: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Output(_Part):
    """What a model says.

    Attributes:
        kind: ``classification``: a class index, and a probability for each class.
            ``regression``: a number.
        classes: Names of the classes in the order of their indices; empty for a regression.
    """

    kind: Literal["classification", "regression"]
    classes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if (self.kind == "classification") != bool(self.classes):
            raise ValueError("classes: must be named for a classification, and only for one")
        return self


class Manifest(_Part):
    """A model's description, ``manifest.json`` of its bundle.

    Attributes:
        name: The model's name.
        version: Its version; higher is newer.
        input: The fields of its input, in the order of the columns.
        output: What it says.
        format: How its file is to be read.
        files: sha256 of each file of the bundle beside the manifest.
        created: When it was made.
        metrics: Figures on held-out rows, such as ``accuracy`` or ``r2``.
        data_hash: sha256 of the data set, rows and target.
        libraries: Versions of the libraries that made it.
        description: What it is, in a sentence.
    """

    name: Annotated[str, Field(pattern=NAME)]
    version: Annotated[int, Field(ge=0)]
    input: Annotated[tuple[InputField, ...], Field(min_length=1)]
    output: Output
    format: Format
    files: dict[str, Sha256] = {}
    created: datetime
    metrics: dict[str, float] = {}
    data_hash: Sha256 | None = None
    libraries: dict[str, str] = {}
    description: str = ""

    @property
    def digest(self) -> str:
        """The sha256 of the model's file. Raises: KeyError before it is in a bundle."""
        return self.files[MODEL_FILES[self.format]]


def rows(
    inputs: Sequence[Mapping[str, Any]], manifest: Manifest
) -> tuple[NDArray[np.float32], list[InputError | None]]:
    """Return the valid inputs as rows, and what is wrong with each of the others.

    Args:
        inputs: Fields by name; those that the manifest does not name are ignored.
        manifest: Says which fields there must be, of which kind and within which bounds.

    Returns:
        A matrix of shape ``(valid inputs, fields)``, and for each input ``None`` or the error
        that names the field and the rule.
    """
    if (matrix := _all_rows(inputs, manifest.input)) is not None:
        return matrix, [None] * len(inputs)
    problems = [_problem(one, manifest.input) for one in inputs]
    valid = [
        [one[field.name] for field in manifest.input]
        for one, problem in zip(inputs, problems, strict=True)
        if problem is None
    ]
    return np.array(valid, np.float32).reshape(-1, len(manifest.input)), problems


def _all_rows(
    inputs: Sequence[Mapping[str, Any]], fields: Sequence[InputField]
) -> NDArray[np.float32] | None:
    """Return all inputs as rows if all are valid, which is the common case; else ``None``."""
    names = [field.name for field in fields]
    try:
        values = [one[name] for one in inputs for name in names]
        if not {type(value) for value in values} <= {int, float}:
            return None
        matrix = np.array(values, np.float64).reshape(-1, len(names))
    except (KeyError, OverflowError):
        return None
    integers = matrix[:, [field.type == "integer" for field in fields]]
    in_bounds = (matrix >= [f.minimum for f in fields]) & (matrix <= [f.maximum for f in fields])
    if in_bounds.all() and (integers == np.floor(integers)).all():
        return matrix.astype(np.float32)
    return None


def _problem(one: Mapping[str, Any], fields: Sequence[InputField]) -> InputError | None:
    for field in fields:
        if field.name not in one:
            return InputError(f"{field.name}: is missing")
        value = one[field.name]
        if type(value) not in {int, float} or not math.isfinite(_float(value)):
            return InputError(f"{field.name}: must be a finite number")
        if field.type == "integer" and value != math.floor(value):
            return InputError(f"{field.name}: must be an integer")
        if not field.minimum <= value <= field.maximum:
            allowed = f"from {field.minimum:g} to {field.maximum:g}"
            return InputError(f"{field.name}: must be {allowed}")
    return None


def _float(value: float) -> float:
    """Return ``value`` as a float, infinite where an integer is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
