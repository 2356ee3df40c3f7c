"""Every kind of model does what the port says."""

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from rendezvous.errors import BundleError, ModelError
from rendezvous.model import bundle
from rendezvous.model.onnx import OnnxModel
from rendezvous.testing.model_suite import ModelSuite
from training.datasets import DATASETS
from training.train import Plan, train


def nothing(done, of):
    pass


WHERE_WEIGHTS_ARE = ["MatMul", "Gemm", "Constant", "If"]


def graph(kind, weights):
    """Return the bytes of a model (n, 4) -> (n, 1) with its weights at one of those places."""
    node = helper.make_node
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", 4), ("y", 1))
    )
    product = node("MatMul", ["x", "w"], ["y"])
    if kind == "Constant":
        nodes = [node("Constant", [], ["w"], value=weights), product]
    elif kind == "If":  # a subgraph, chosen by the input
        branch = helper.make_graph([product], "branch", [], [y], initializer=[weights])
        nodes = [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Cast", ["sum"], ["any"], to=TensorProto.BOOL),
            node("If", ["any"], ["y"], then_branch=branch, else_branch=branch),
        ]
    else:
        nodes = [node(kind, ["x", "w"], ["y"])]
    initializers = [weights] if kind in {"MatMul", "Gemm"} else []
    whole = helper.make_graph(nodes, "model", [x], [y], initializer=initializers)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(whole, opset_imports=[opset], ir_version=9).SerializeToString()


def external(location):
    """Return weights that are in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


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


class TestWeightsInAnotherFile:
    """They are what no digest covers."""

    @pytest.fixture
    def manifest(self, tmp_path_factory):
        path = trained(tmp_path_factory, "Housing", "DecisionTree", "onnx")
        fields = bundle.read_manifest(path)
        return fields.model_copy(update={"input": fields.input[:4]})

    @pytest.fixture
    def here(self, tmp_path, monkeypatch):
        """The directory of the process, with the weights in it."""
        monkeypatch.chdir(tmp_path)
        np.ones((4, 1), np.float32).tofile(tmp_path / "w.bin")
        return tmp_path

    @pytest.mark.parametrize("kind", WHERE_WEIGHTS_ARE)
    def test_are_refused_though_they_lie_where_the_process_runs(self, manifest, here, kind):
        with pytest.raises(BundleError, match=r"m: no ONNX model: .*w\.bin"):
            OnnxModel(manifest, graph(kind, external("w.bin")))

    @pytest.mark.parametrize("kind", WHERE_WEIGHTS_ARE)
    @pytest.mark.parametrize("up", ["../..", "../../..", "../../../.."])
    def test_are_refused_by_a_path_that_leads_there_too(self, manifest, here, kind, up):
        with pytest.raises(BundleError, match="no ONNX model"):
            OnnxModel(manifest, graph(kind, external(f"{up}{here}/w.bin")))

    @pytest.mark.parametrize("kind", WHERE_WEIGHTS_ARE)
    def test_are_refused_by_an_absolute_path(self, manifest, here, kind):
        with pytest.raises(BundleError, match="no ONNX model"):
            OnnxModel(manifest, graph(kind, external(str(here / "w.bin"))))

    @pytest.mark.parametrize("kind", WHERE_WEIGHTS_ARE)
    def test_in_the_model_itself_are_taken(self, manifest, here, kind):
        inside = helper.make_tensor("w", TensorProto.FLOAT, [4, 1], [2.0] * 4)
        model = OnnxModel(manifest, graph(kind, inside))
        assert model.predict(np.ones((2, 4), np.float32)).values.tolist() == [8.0, 8.0]


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


def test_onnxruntime_sends_nothing_to_its_maker_and_leaves_nothing_behind(tmp_path):
    # no CI variable: with one, it is silent anyhow
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    code = "import rendezvous.model.onnx"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
