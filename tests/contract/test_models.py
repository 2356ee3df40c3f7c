"""Every kind of model does what the port says."""

import numpy as np
import pytest

from rendezvous.errors import BundleError, ModelError
from rendezvous.model import bundle
from rendezvous.model.onnx import OnnxModel
from rendezvous.testing.model_suite import ModelSuite
from training.datasets import DATASETS
from training.train import Plan, train


def nothing(done, of):
    pass


def trained(tmp_path_factory, dataset, kind, model_format):
    plan = Plan(dataset, kind, name="m", version=1, format=model_format)
    return train(plan, tmp_path_factory.mktemp("models"), nothing).path


@pytest.fixture(scope="class", params=[("Iris", "LogisticRegression"), ("Iris", "DecisionTree"),
                                       ("Iris", "RandomForest"), ("Housing", "DecisionTree"),
                                       ("Housing", "RandomForest")], ids="-".join)  # fmt: skip
def what(request):
    return request.param


@pytest.fixture
def rows(what):
    return DATASETS[what[0]]().rows


class TestOnnxModel(ModelSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory, what):
        return bundle.load(trained(tmp_path_factory, *what, "onnx"))

    def test_a_wrong_shape_is_a_model_error(self, model):
        with pytest.raises(ModelError, match="m:"):
            model.predict(np.zeros((2, 3), np.float32))

    def test_bytes_that_are_no_model_are_a_bundle_error(self, model):
        with pytest.raises(BundleError, match="no ONNX model"):
            OnnxModel(model.manifest, b"no model")

    def test_a_model_of_another_input_is_a_bundle_error(self, model, tmp_path_factory):
        other = "Housing" if len(model.manifest.input) == 4 else "Iris"
        path = trained(tmp_path_factory, other, "DecisionTree", "onnx")
        with pytest.raises(BundleError, match="its input is not"):
            OnnxModel(model.manifest, (path / "model.onnx").read_bytes())


class TestSklearnModel(ModelSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory, what):
        return bundle.load(trained(tmp_path_factory, *what, "joblib"), allow_joblib=True)

    def test_a_wrong_shape_is_a_model_error(self, model):
        with pytest.raises(ModelError):
            model.predict(np.zeros((2, 3), np.float32))


def test_onnx_and_scikit_learn_say_the_same(tmp_path_factory, what, rows):
    as_onnx = bundle.load(trained(tmp_path_factory, *what, "onnx")).predict(rows)
    path = trained(tmp_path_factory, *what, "joblib")
    as_sklearn = bundle.load(path, allow_joblib=True).predict(rows)
    assert np.allclose(as_onnx.values, as_sklearn.values, rtol=1e-4)
    if as_onnx.probabilities is not None:
        assert np.allclose(as_onnx.probabilities, as_sklearn.probabilities, atol=1e-4)
