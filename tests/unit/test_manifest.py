"""From inputs to rows: what fits goes in, and each of the others gets a sentence."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rendezvous.model.manifest import Manifest, Output, rows
from rendezvous.schema import InputField

MANIFEST = Manifest(
    name="m",
    version=1,
    input=(
        InputField(name="length", minimum=-10, maximum=10),
        InputField(name="count", type="integer", minimum=0, maximum=5),
    ),
    output=Output(kind="regression"),
    format="onnx",
    created=datetime(2026, 1, 1, tzinfo=UTC),
)
GOOD = {"length": 1.5, "count": 2}


def test_rows_have_the_columns_of_the_manifest_in_its_order():
    matrix, problems = rows([GOOD, {"count": 0, "length": -3, "other": "ignored"}], MANIFEST)
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[1.5, 2.0], [-3.0, 0.0]]
    assert problems == [None, None]


def test_no_inputs_are_no_rows():
    matrix, problems = rows([], MANIFEST)
    assert matrix.shape == (0, 2)
    assert problems == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": "1.5"}, "length: must be a finite number"),
        ({"length": None}, "length: must be a finite number"),
        ({"length": True}, "length: must be a finite number"),
        ({"length": [1]}, "length: must be a finite number"),
        ({"length": {}}, "length: must be a finite number"),
        ({"length": math.nan}, "length: must be a finite number"),
        ({"length": math.inf}, "length: must be a finite number"),
        ({"length": 10**400}, "length: must be a finite number"),
        ({"length": 11}, "length: must be from -10 to 10"),
        ({"length": -10.1}, "length: must be from -10 to 10"),
        ({"count": 1.5}, "count: must be an integer"),
        ({"count": 6}, "count: must be from 0 to 5"),
    ],
)
def test_a_bad_input_is_named_and_the_others_go_on(change, message):
    matrix, problems = rows([GOOD, GOOD | change, GOOD], MANIFEST)
    assert matrix.tolist() == [[1.5, 2.0]] * 2
    assert [str(problem) for problem in problems] == ["None", message, "None"]


def test_a_missing_field_is_named():
    _, problems = rows([{"length": 1}], MANIFEST)
    assert str(problems[0]) == "count: is missing"


number = st.one_of(st.floats(-20, 20), st.integers(-20, 20), st.none(), st.text(max_size=3))


@given(st.lists(st.fixed_dictionaries({"length": number, "count": number}), max_size=20))
def test_there_is_a_row_or_a_problem_for_each_input(inputs):
    matrix, problems = rows(inputs, MANIFEST)
    assert len(problems) == len(inputs)
    good = [one for one, problem in zip(inputs, problems, strict=True) if problem is None]
    expected = np.array([[o["length"], o["count"]] for o in good], np.float32).reshape(-1, 2)
    assert np.array_equal(matrix, expected)
    alone = [rows([one], MANIFEST)[1][0] is None for one in inputs]
    assert alone == [problem is None for problem in problems]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../m"}, {"name": ""}, {"version": -1}, {"input": ()}, {"format": "pickle"},
        {"files": {"model.onnx": "short"}}, {"surprise": 1},
        {"output": {"kind": "classification"}},
        {"output": {"kind": "regression", "classes": ["a"]}},
    ],
)  # fmt: skip
def test_a_manifest_is_strict(wrong):
    with pytest.raises(ValidationError):
        Manifest.model_validate(MANIFEST.model_dump() | wrong)


def test_a_manifest_survives_json():
    assert Manifest.model_validate_json(MANIFEST.model_dump_json()) == MANIFEST
