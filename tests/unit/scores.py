"""Requests, scores, announcements and a model, small enough to read in a test."""

import json
import time
from datetime import UTC, datetime

import numpy as np

from rendezvous.contract import (
    Announcement,
    ModelProvenance,
    Provenance,
    Request,
    Result,
    Score,
    ScoreError,
    decode_request,
    encode_score,
)
from rendezvous.model.manifest import Manifest
from rendezvous.model.port import Prediction
from rendezvous.policy import Candidate
from rendezvous.schema import InputField

IRIS = {"sepalLength": 9.0, "sepalWidth": 10.0, "petalLength": 11.0, "petalWidth": 12.0}


def score(name, version=1, *, result=2, error=None, role=None, message_id="r1", endpoint=None):
    """Return a model's score; with ``error`` (a sentence) its failure."""
    return Score(
        message_id=message_id,
        provenance=Provenance(model=provenance(name, version, role)),
        endpoint=endpoint,
        result=None if error else Result(model_name=name, result=result),
        error=ScoreError(type="ModelError", message=error) if error else None,
    )


def provenance(name, version=1, role=None):
    """Return who scored."""
    return ModelProvenance(
        model_name=name, model_version=version, elapsed_time_after_request=5.0, role=role
    )


def candidates(*models):
    """Return candidates by name and version: ``candidates(("lr", 0), ("dt", 1))``."""
    return {model: Candidate(*model) for model in models}


def request(
    message_id="r1", *, model_input=None, score_topic="score", age=0.0, ends_in=60.0, **fields
):
    """Return a request ``age`` seconds old, with its deadline ``ends_in`` seconds away.

    ``ends_in=None`` for none.
    """
    now = time.time()
    return Request(
        timestamp=now - age,
        message_id=message_id,
        model_input=IRIS if model_input is None else model_input,
        score_topic=score_topic,
        deadline=None if ends_in is None else (now + ends_in) * 1000.0,
        **fields,
    )


def scored(payload, name, version=1, *, result=2, error=None, role=None):
    """Return the bytes of the score that a model gives to the request ``payload``."""
    _, fields = decode_request(payload)
    outcome = (
        ScoreError(type="ModelError", message=error)
        if error
        else Result(model_name=name, result=result)
    )
    return encode_score(fields, provenance(name, version, role), outcome)


def foreign_score(payload, name, version=1, *, result=2):
    """Return the bytes of a score as the original system's model containers write it."""
    message = json.loads(payload)
    message["result"] = {"modelName": name, "result": result}
    message.setdefault("provenance", {})["model"] = {
        "modelName": name,
        "elapsedTimeAfterRequest": 8.25,
        "modelVersion": version,
    }
    return json.dumps(message).encode()


def announcement(name, version=1, *, endpoint="iris", instance="0", role="production", state=None):
    """Return what a worker says of itself; it serves unless ``state`` says otherwise."""
    return Announcement(
        timestamp=time.time(),
        endpoint=endpoint,
        instance=instance,
        model_name=name,
        model_version=version,
        role=role,
        state=state or "serving",
    )


def manifest(name="dt", version=1, *, fields=tuple(IRIS)):
    """Return a manifest of a regression on ``fields``, each from -1000 to 1000."""
    return Manifest(
        name=name,
        version=version,
        input=[InputField(name=field, minimum=-1000, maximum=1000) for field in fields],
        output={"kind": "regression"},
        format="onnx",
        files={"model.onnx": "0" * 64},
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


class Summing:
    """A model that says the sum of its inputs, and keeps the size of each batch it was given.

    It fails on a row that holds ``poison``, and on every batch that has one.
    """

    poison = -666.0

    def __init__(self, name="dt", version=1):
        self.manifest = manifest(name, version)
        self.batches = []

    def predict(self, matrix):
        """Return the sum of each row."""
        self.batches.append(len(matrix))
        if (matrix == self.poison).any():
            raise RuntimeError("I cannot do this one")
        return Prediction(matrix.sum(axis=1, dtype=np.float64))
