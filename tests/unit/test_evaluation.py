"""From inputs to what a model says of each: one prediction a batch, and no input harms another."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.contract import Result, ScoreError, encode_score
from rendezvous.errors import ModelError
from rendezvous.model.evaluation import evaluate
from rendezvous.model.port import Prediction
from tests.unit.scores import IRIS, Summing, manifest, provenance

POISON = dict.fromkeys(IRIS, Summing.poison)


class Says:
    """A model that says whatever it is told to."""

    manifest = manifest()

    def __init__(self, say):
        self.predict = say


def flat(*values, dtype=np.float64):
    return lambda matrix: Prediction(np.resize(np.array(values, dtype), len(matrix)))


def results(outcomes):
    return [outcome.result if isinstance(outcome, Result) else None for outcome in outcomes]


def kinds(outcomes):
    return [outcome.type if isinstance(outcome, ScoreError) else "" for outcome in outcomes]


class TestResults:
    def test_come_in_the_order_of_the_inputs_from_one_prediction(self):
        model = Summing()
        inputs = [dict.fromkeys(IRIS, number) for number in range(5)]

        outcomes = evaluate(model, inputs)

        assert results(outcomes) == [0.0, 4.0, 8.0, 12.0, 16.0]
        assert model.batches == [5]

    def test_are_none_for_no_inputs_and_the_model_is_not_asked(self):
        model = Summing()

        assert evaluate(model, []) == []
        assert model.batches == []

    def test_of_a_classification_are_a_class_index_with_its_probabilities(self):
        def predict(matrix):
            return Prediction(np.array([2, 0]), np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]))

        outcomes = evaluate(Says(predict), [IRIS, IRIS])

        assert outcomes == [
            Result(model_name="dt", result=2, probabilities=[0.1, 0.2, 0.7]),
            Result(model_name="dt", result=0, probabilities=[0.8, 0.1, 0.1]),
        ]
        assert type(outcomes[0].result) is int

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
    def test_are_plain_numbers_that_json_can_hold_whatever_the_array_is_of(self, dtype):
        (outcome,) = evaluate(Says(flat(1, dtype=dtype)), [IRIS])

        written = json.loads(encode_score({}, provenance("dt"), outcome))

        assert written["result"] == {"modelName": "dt", "result": 1}

    def test_see_the_columns_in_the_manifests_order_and_no_others(self):
        seen = []

        def predict(matrix):
            seen.append(matrix.tolist())
            return flat(0)(matrix)

        jumbled = {"other": "x"} | dict(reversed(IRIS.items()))
        evaluate(Says(predict), [jumbled])

        assert seen == [[list(IRIS.values())]]


class TestBadInputs:
    def test_get_an_error_that_names_the_field_and_the_others_their_results(self):
        model = Summing()
        outcomes = evaluate(model, [IRIS, {"sepalLength": 1}, IRIS, IRIS | {"petalWidth": None}])

        assert kinds(outcomes) == ["", "InputError", "", "InputError"]
        assert outcomes[1].message == "sepalWidth: is missing"
        assert outcomes[3].message == "petalWidth: must be a finite number"
        assert results(outcomes)[::2] == [42.0, 42.0]
        assert model.batches == [2]

    @pytest.mark.parametrize(
        "value", [math.nan, math.inf, 1e300, 10**400, "9", True, None, [1], {}, 1000.1]
    )
    def test_never_reach_the_model(self, value):
        model = Summing()

        assert kinds(evaluate(model, [IRIS | {"petalWidth": value}])) == ["InputError"]
        assert model.batches == []

    def test_on_which_the_model_fails_get_an_error_and_the_others_their_results(self):
        outcomes = evaluate(Summing(), [IRIS, POISON, IRIS, IRIS, POISON])

        assert kinds(outcomes) == ["", "ModelError", "", "", "ModelError"]
        assert results(outcomes) == [42.0, None, 42.0, 42.0, None]
        assert outcomes[1].message == "RuntimeError: I cannot do this one"

    @given(bad=st.lists(st.sampled_from(["good", "short", "poison"]), max_size=40))
    def test_harm_no_other_wherever_they_are(self, bad):
        inputs = {
            "good": (IRIS, ""),
            "short": ({"sepalLength": 1.0}, "InputError"),
            "poison": (POISON, "ModelError"),
        }

        outcomes = evaluate(Summing(), [inputs[kind][0] for kind in bad])

        assert kinds(outcomes) == [inputs[kind][1] for kind in bad]


class TestBadModels:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_whose_result_is_not_finite_give_an_output_error_for_that_one(self, value):
        outcomes = evaluate(Says(flat(1.5, value)), [IRIS, IRIS])

        assert kinds(outcomes) == ["", "OutputError"]
        assert results(outcomes)[0] == 1.5

    def test_whose_probabilities_are_not_finite_give_an_output_error_for_that_one(self):
        def predict(matrix):
            return Prediction(np.array([0, 1]), np.array([[0.5, 0.5], [math.nan, 1.0]]))

        assert kinds(evaluate(Says(predict), [IRIS, IRIS])) == ["", "OutputError"]

    @pytest.mark.parametrize(
        "predict",
        [
            lambda matrix: None,
            lambda matrix: 1 / 0,
            lambda matrix: Prediction([1.0] * len(matrix)),
            lambda matrix: Prediction(np.zeros(len(matrix) + 1)),
            lambda matrix: Prediction(np.zeros((len(matrix), 1))),
            lambda matrix: Prediction(np.array(1.0)),
            lambda matrix: Prediction(np.zeros(len(matrix)), np.zeros((len(matrix) + 1, 2))),
            lambda matrix: Prediction(np.zeros(len(matrix)), np.zeros(len(matrix))),
            lambda matrix: Prediction(np.array(["setosa"] * len(matrix))),
            lambda matrix: Prediction(np.array([object()] * len(matrix))),
            lambda matrix: Prediction(np.full(len(matrix), 1j)),
            lambda matrix: Prediction(np.full(len(matrix), np.datetime64("2026-01-01"))),
        ],
        ids=[
            "nothing",
            "raises",
            "a list",
            "too many values",
            "a column",
            "one number",
            "too many probabilities",
            "flat probabilities",
            "texts",
            "objects",
            "complex numbers",
            "dates",
        ],
    )
    def test_that_say_what_they_must_not_give_a_model_error_for_each(self, predict):
        outcomes = evaluate(Says(predict), [IRIS, {}, IRIS])

        assert kinds(outcomes) == ["ModelError", "InputError", "ModelError"]

    def test_that_say_why_they_failed_are_quoted_in_one_sentence_and_no_trace(self, caplog):
        def predict(matrix):
            raise ModelError("the file is gone " + "x" * 1000)

        (outcome,) = evaluate(Says(predict), [IRIS])

        assert outcome.message.startswith("ModelError: the file is gone")
        assert len(outcome.message) == 300
        assert "dt failed on an input" in caplog.text
