"""A bundle is written whole, and loaded only as it was written."""

import json
import os
from pathlib import Path

import joblib
import pytest

from rendezvous.errors import BundleError
from rendezvous.model import bundle
from training.train import Plan, train


def make(models, model_format="onnx", **options):
    plan = Plan("Iris", "DecisionTree", format=model_format)
    return train(plan, models, lambda done, of: None, **options).path


@pytest.fixture
def path(tmp_path):
    return make(tmp_path)


def test_lies_under_name_and_version_with_two_files(tmp_path, path):
    assert path == tmp_path / "dt" / "1"
    assert sorted(p.name for p in path.iterdir()) == ["manifest.json", "model.onnx"]


def test_the_manifest_says_what_the_model_is(path):
    manifest = bundle.read_manifest(path)
    assert (manifest.name, manifest.version, manifest.format) == ("dt", 1, "onnx")
    names = ["sepalLength", "sepalWidth", "petalLength", "petalWidth"]
    assert [field.name for field in manifest.input] == names
    assert manifest.output.classes == ("setosa", "versicolor", "virginica")
    assert manifest.metrics["accuracy"] > 0.9
    assert {"scikit-learn", "onnx", "skl2onnx", "python"} <= set(manifest.libraries)
    assert manifest.data_hash
    assert manifest.created.tzinfo


def test_an_altered_model_is_not_loaded(path):
    model = path / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(BundleError, match="sha256"):
        bundle.load(path)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_missing_file_is_named(path, name):
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: No such file"):
        bundle.load(path)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_link_is_not_followed(path, tmp_path, name):
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=name):
        bundle.load(path)


def test_a_pipe_does_not_hold_up_the_loading(path):
    (path / "model.onnx").unlink()
    os.mkfifo(path / "model.onnx")
    with pytest.raises(BundleError, match="sha256"):
        bundle.load(path)


def test_a_file_that_the_manifest_does_not_name_is_refused(path):
    (path / "sitecustomize.py").touch()
    with pytest.raises(BundleError, match=r"not in the manifest: sitecustomize\.py"):
        bundle.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "one"}, "version"),
        ({"files": {}}, "files"),
        ({"files": {"../../other": "0" * 64}}, "files"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_manifest_names_the_field(path, change, message):
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BundleError, match=message):
        bundle.load(path)


def test_a_manifest_that_is_no_json_or_too_large_is_an_error(path):
    (path / "manifest.json").write_bytes(b"{")
    with pytest.raises(BundleError, match="the file: Invalid JSON"):
        bundle.load(path)
    (path / "manifest.json").write_bytes(b" " * (bundle.MANIFEST_MOST + 1))
    with pytest.raises(BundleError, match="larger than"):
        bundle.load(path)


def test_a_version_is_replaced_only_where_that_is_asked_for(tmp_path, path):
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="is there already"):
        make(tmp_path)
    assert (path / "manifest.json").read_bytes() == before
    make(tmp_path, replace=True)
    assert (path / "manifest.json").read_bytes() != before
    assert [p.name for p in path.parent.iterdir()] == ["1"]
    bundle.load(path)


def test_nothing_is_left_of_a_bundle_that_cannot_be_written(tmp_path, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="No space left"):
        make(tmp_path, replace=True)
    assert [p.name for p in path.parent.iterdir()] == ["1"]
    monkeypatch.undo()
    bundle.load(path)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("which", [1, 2])
def test_what_was_there_stays_when_it_cannot_be_replaced(tmp_path, path, monkeypatch, error, which):
    before = contents(path)
    renames = iter(range(1, 10))
    rename = Path.rename

    def failing(self, target):
        if next(renames) == which:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((BundleError, KeyboardInterrupt)):
        make(tmp_path, replace=True)
    monkeypatch.undo()
    assert contents(path) == before
    assert [p.name for p in path.parent.iterdir()] == ["1"]
    bundle.load(path)


def test_an_interrupt_right_after_a_rename_leaves_one_whole_bundle(tmp_path, path, monkeypatch):
    rename = Path.rename

    def interrupted(self, target):
        rename(self, target)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, replace=True)
    assert [p.name for p in path.parent.iterdir()] == ["1"]
    bundle.load(path)


def test_what_was_there_is_kept_aside_when_it_cannot_even_be_put_back(tmp_path, path, monkeypatch):
    before = contents(path)
    rename = Path.rename

    def failing(self, target):
        if Path(target) == path:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(BundleError, match="Input/output error"):
        make(tmp_path, replace=True)
    [kept] = path.parent.iterdir()
    assert kept.name.endswith("-retired")
    assert contents(kept) == before


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_is_not_even_opened_unless_it_is_allowed(tmp_path):
    path = make(tmp_path, "joblib")
    joblib.dump(Evil(tmp_path / "was here"), path / "model.joblib")
    with pytest.raises(BundleError, match="pickle"):
        bundle.load(path)
    with pytest.raises(BundleError, match="sha256"):
        bundle.load(path, allow_joblib=True)
    assert not (tmp_path / "was here").exists()


def test_a_pickle_of_another_kind_of_model_is_refused(tmp_path):
    path = make(tmp_path, "joblib")
    manifest = bundle.read_manifest(path).model_copy(update={"name": "other"})
    for content, message in [(b"no pickle", "other"), (_pickled([1]), "list, no estimator")]:
        broken = bundle.write(tmp_path, manifest, content, replace=True)
        with pytest.raises(BundleError, match=message):
            bundle.load(broken, allow_joblib=True)


def _pickled(value):
    import io

    out = io.BytesIO()
    joblib.dump(value, out)
    return out.getvalue()
