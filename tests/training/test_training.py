"""The training command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner

from rendezvous.errors import ConfigurationError, ModelError
from rendezvous.model import bundle
from training.__main__ import app
from training.datasets import DATASETS, housing, iris
from training.estimators import fit, make
from training.export import compare
from training.train import Plan, train

ROOT = Path(__file__).resolve().parent.parent.parent


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def program(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "version"),
    [("LogisticRegression", "lr", 0), ("DecisionTree", "dt", 1), ("RandomForest", "rf", 2)],
)
def test_trains_iris_and_says_how_good_and_where(tmp_path, kind, name, version):
    done = command("Iris", kind, "--models-dir", tmp_path)
    assert done.exit_code == 0, done.output
    figures, where = done.stdout.strip().splitlines()[-2:]
    assert figures.startswith(f"{name} version {version}: accuracy 0.9")
    assert "30 held-out rows" in figures
    assert where == f"bundle: {tmp_path / name / str(version)}"
    assert bundle.load(tmp_path / name / str(version)).manifest.name == name


def test_trains_housing_under_any_name(tmp_path):
    arguments = ["--name", "price", "--version", 7, "--models-dir", tmp_path, "--trees", 25]
    done = command("Housing", "RandomForest", *arguments)
    assert done.exit_code == 0, done.output
    assert "r2 0." in done.stdout
    assert len(bundle.load(tmp_path / "price" / "7").manifest.input) == 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Iris", "NeuralNetwork"], "is not one of"),
        (["Tulips", "DecisionTree"], "is not one of"),
        (["Iris", "DecisionTree", "--version", "-1"], "--version"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, arguments, message):
    done = command(*arguments, "--models-dir", tmp_path)
    assert done.exit_code == 2
    assert message in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Housing", "LogisticRegression"], "LogisticRegression does no regression"),
        (["Iris", "DecisionTree", "--name", "../up"], "name: String should match"),
    ],
)
def test_what_can_not_be_trained_is_one_line(tmp_path, arguments, message):
    done = program(*arguments, "--models-dir", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"training: {message}")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_model(tmp_path):
    plan = Plan("Iris", "RandomForest", seed=3, trees=10)
    digests = {
        train(plan, tmp_path / str(n), lambda done, of: None).manifest.digest for n in (1, 2)
    }
    assert len(digests) == 1


def test_a_forest_tells_how_far_it_is():
    seen = []
    data = iris()
    forest = make("RandomForest", "classification", 0, 25)
    fit(forest, data.rows, data.target, lambda done, of: seen.append((done, of)))
    assert seen == [(10, 25), (20, 25), (25, 25)]
    assert len(forest.estimators_) == 25


def test_a_small_forest_has_no_more_trees_than_asked_for():
    data = iris()
    forest = make("RandomForest", "classification", 0, 3)
    fit(forest, data.rows, data.target, lambda done, of: None)
    assert len(forest.estimators_) == 3


def test_a_conversion_that_changes_an_answer_is_refused(tmp_path):
    data = iris()
    trained = train(Plan("Iris", "DecisionTree"), tmp_path, lambda done, of: None)
    other = DecisionTreeClassifier(max_depth=1, random_state=0).fit(data.rows, data.target)
    with pytest.raises(ModelError, match=r"differs from scikit-learn on \d+ of 150 rows"):
        compare(other, bundle.load(trained.path), data.rows)


def test_every_row_of_a_data_set_is_a_valid_input_of_its_models(tmp_path):
    for name, dataset in DATASETS.items():
        data = dataset()
        low = np.array([field.minimum for field in data.fields])
        high = np.array([field.maximum for field in data.fields])
        assert ((data.rows >= low) & (data.rows <= high)).all(), name
        assert data.rows.dtype == np.float32


def test_housing_is_the_table_of_506_tracts():
    data = housing()
    assert data.rows.shape == (506, 13)
    assert data.target[0] == 24.0
    assert data.fields[0].name == "CRIM"


def test_a_kind_says_what_it_can_not_do():
    with pytest.raises(ConfigurationError, match="these do: DecisionTree, RandomForest"):
        make("LogisticRegression", "regression", 0, 1)


def test_the_manifest_can_be_read_without_us(tmp_path):
    path = train(Plan("Iris", "DecisionTree"), tmp_path, lambda done, of: None).path
    plain = json.loads((path / "manifest.json").read_text())
    assert plain["input"][0] == {
        "name": "sepalLength", "type": "number", "minimum": -1000.0, "maximum": 1000.0,
    }  # fmt: skip
