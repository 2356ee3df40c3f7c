"""Models as ONNX, run by onnxruntime: no code of the training side, and no pickle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# onnxruntime looks at it once, when it is imported: unless told not to, it sends figures about
# models and their use to its maker, and leaves an id in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from rendezvous.errors import BundleError, ModelError
from rendezvous.model.port import Model, Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rendezvous.model.manifest import Manifest

_ERRORS_ONLY = 3
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_NOWHERE = "/dev/null/nowhere"


class OnnxModel(Model):
    """A classifier with the outputs (labels, probabilities), or a regressor with one output.

    Runs on one thread: batches are small, and the worker's process is the unit of scale.

    Args:
        manifest: What is known of it.
        content: The bytes of the ONNX file, verified by the caller.

    Raises:
        BundleError: The bytes are no such model, do not fit the manifest, or refer to weights in
            another file.
    """

    def __init__(self, manifest: Manifest, content: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Weights in a file of their own are not what the digest covers. Without this they are read
        # from wherever the process happens to run.
        options.add_session_config_entry(_WEIGHTS_FOLDER, _NOWHERE)
        try:
            session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its class depends on which other libraries are loaded
            raise BundleError(f"{manifest.name}: no ONNX model: {error}") from error
        inputs = session.get_inputs()
        outputs = [output.name for output in session.get_outputs()]
        expected = 2 if manifest.output.kind == "classification" else 1
        if len(inputs) != 1 or inputs[0].shape[1:] != [len(manifest.input)]:
            raise BundleError(f"{manifest.name}: its input is not (n, {len(manifest.input)})")
        if len(outputs) != expected:
            raise BundleError(f"{manifest.name}: has {len(outputs)} outputs and not {expected}")
        self._manifest = manifest
        self._session = session
        self._input = inputs[0].name
        self._outputs = outputs

    @property
    def manifest(self) -> Manifest:
        """What is known of it."""
        return self._manifest

    def predict(self, matrix: NDArray[np.float32]) -> Prediction:
        """Score a batch of shape ``(n, fields)``. Raises: ModelError."""
        try:
            outputs = self._session.run(self._outputs, {self._input: matrix})
        except Exception as error:  # its class depends on which other libraries are loaded
            raise ModelError(f"{self._manifest.name}: {error}") from error
        probabilities = outputs[1] if len(outputs) > 1 else None
        return Prediction(outputs[0].reshape(len(matrix)), probabilities)
