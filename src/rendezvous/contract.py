"""What goes over the bus, as JSON: the only wire types, how they are written and read.

The fields are those of the original Pulsar system, so its containers read ours and ours read
theirs. Fields are only ever added, are optional, and are ignored by old readers; what a reader
does not know it passes on. Durations are milliseconds; moments are seconds since the epoch
(``timestamp``) or milliseconds since the epoch (``deadline``), UTC.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rendezvous.errors import ContractError

SCHEMA_VERSION = 1

REPLY_TOPICS = r"score(-[A-Za-z0-9_.-]{1,64})?"
"""Pattern of the return addresses that workers send to by default; as a whole."""

NESTING = 64
"""Levels that a request may nest at most: what is read must be safe to write again."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of the wire types: immutable, camelCase in JSON, absent where default."""


class Request(Wire, frozen=True):
    """One question, as the front end publishes it to every model of an endpoint.

    Attributes:
        timestamp: When the request was accepted, epoch seconds.
        message_id: Its id, unique; a UUID as text where we make it.
        model_input: The input's fields by name, as the front end validated them.
        score_topic: The return address: the topic on which scores are awaited.
        deadline: After this moment nobody waits, epoch milliseconds; ``None`` where a foreign
            front end does not say.
        endpoint: The endpoint's name.
        schema_version: Of these fields.
        provenance: Who touched it before, by any key; passed on.
    """

    timestamp: float
    message_id: str
    model_input: dict[str, Any]
    score_topic: str
    deadline: float | None = None
    endpoint: str | None = None
    schema_version: int | None = None
    provenance: dict[str, Any] | None = None

    def encode(self) -> bytes:
        """Return the JSON bytes. Raises: ContractError, where JSON has no way to write a value."""
        return written(self)


class Result(Wire, frozen=True):
    """What a model says.

    Attributes:
        model_name: Its name.
        result: The class index of a classification, the number of a regression, or whatever a
            foreign model answers with.
        probabilities: Of each class in the order of the model's manifest, where it has them.
    """

    model_name: str
    result: Any
    probabilities: list[float] | None = None


class ScoreError(Wire, frozen=True):
    """Why a model has no result.

    Attributes:
        type: ``InputError``, ``ModelError`` or ``OutputError``.
        message: One sentence, without a trace.
    """

    type: str
    message: str


class ModelProvenance(Wire, frozen=True):
    """Who scored, and how long it took.

    Attributes:
        model_name: The model's name.
        elapsed_time_after_request: Milliseconds from the request's ``timestamp`` to the score, by
            the clock of the model's machine.
        model_version: Its version.
        role: Its role when it scored.
        digest: sha256 of the model's file.
        evaluated_ms: Milliseconds the model took for the batch in which the request was.
        queue_ms: Milliseconds from the request's ``timestamp`` to the start of that.
    """

    model_name: str
    elapsed_time_after_request: float
    model_version: int
    role: str | None = None
    digest: str | None = None
    evaluated_ms: float | None = None
    queue_ms: float | None = None


class Provenance(Wire, frozen=True):
    """Who touched the message; keys that others wrote stay in the JSON."""

    model: ModelProvenance


class Score(Wire, frozen=True):
    """One model's answer to one request, as a reader sees it; ``encode_score`` writes one.

    Exactly one of ``result`` and ``error`` is set in ours.
    """

    message_id: str
    provenance: Provenance
    endpoint: str | None = None
    result: Result | None = None
    error: ScoreError | None = None

    @property
    def model(self) -> ModelProvenance:
        """Who scored."""
        return self.provenance.model


class Announcement(Wire, frozen=True):
    """What a worker says of itself at its start, then twice a second, and when it stops.

    Attributes:
        timestamp: Epoch seconds.
        endpoint: The endpoint whose requests it scores.
        instance: Which of the model's replicas speaks.
        model_name: The model's name.
        model_version: Its version.
        role: Its role.
        state: ``serving`` or ``stopped``.
        digest: sha256 of the model's file.
    """

    timestamp: float
    endpoint: str
    instance: str
    model_name: str
    model_version: int
    role: str
    state: str
    digest: str | None = None

    def encode(self) -> bytes:
        """Return the JSON bytes. Raises: ContractError, as for a request."""
        return written(self)


_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_decode_score = msgspec.json.Decoder(Score).decode
_decode_announcement = msgspec.json.Decoder(Announcement).decode


def decode_request(payload: bytes) -> tuple[Request, dict[str, Any]]:
    """Return the request, and all its fields with those that we do not know.

    Raises:
        ContractError: It is no JSON object, a field is missing or of the wrong type, or it nests
            too deeply.
    """
    try:
        fields = _decode_fields(payload)
        request = msgspec.convert(fields, Request)
    except _MALFORMED as error:
        raise ContractError(f"not a request: {error}") from error
    if _too_deep(payload, fields):
        raise ContractError(f"not a request: nested more than {NESTING} levels deep")
    return request, fields


def encode_score(
    fields: dict[str, Any], model: ModelProvenance, outcome: Result | ScoreError
) -> bytes:
    """Return the JSON bytes of a score: the request's ``fields`` with ``outcome`` and provenance.

    Keys of other parties in ``provenance`` are kept, as are fields that we do not know; a
    ``result`` or ``error`` that the request came with is not, for those are the model's to say.
    Numbers in ``outcome`` must be finite.

    Raises:
        ContractError: JSON has no way to write a value.
    """
    provenance = {**(fields.get("provenance") or {}), "model": model}
    key, other = ("result", "error") if isinstance(outcome, Result) else ("error", "result")
    score = {**fields, key: outcome, "provenance": provenance}
    score.pop(other, None)
    return written(score)


def decode_score(payload: bytes) -> Score:
    """Return the score. Raises: ContractError, as for a request."""
    try:
        score = _decode_score(payload)
    except _MALFORMED as error:
        raise ContractError(f"not a score: {error}") from error
    if score.result and _too_deep(payload, score.result.result):
        raise ContractError(f"not a score: nested more than {NESTING} levels deep")
    return score


def decode_announcement(payload: bytes) -> Announcement:
    """Return the announcement. Raises: ContractError, as for a request."""
    try:
        return _decode_announcement(payload)
    except _MALFORMED as error:
        raise ContractError(f"not an announcement: {error}") from error


def written(message: Wire | dict[str, Any]) -> bytes:
    """Return the JSON bytes. Raises: ContractError, where JSON has no way to write a value."""
    try:
        return _encode(message)
    except _UNWRITABLE as error:
        raise ContractError(f"can not be written as JSON: {error}") from error


def _too_deep(payload: bytes, value: Any) -> bool:
    """Return whether ``value``, decoded from ``payload``, nests more than may be written again."""
    return payload.count(b"[") + payload.count(b"{") > NESTING and _levels([value]) - 1 > NESTING


def _levels(value: Any) -> int:
    """Return how deeply ``value`` nests: 1 for an object or array of plain values."""
    levels, containers = 0, [value]
    while containers:
        levels += 1
        children = (c.values() if isinstance(c, dict) else c for c in containers)
        containers = [v for each in children for v in each if isinstance(v, dict | list)]
    return levels


class _RecordProvenance(Wire, frozen=True):
    model: _RecordModel | None = None


class _RecordModel(Wire, frozen=True):
    model_name: str
    model_version: int


class _Record(Wire, frozen=True):
    message_id: str
    provenance: _RecordProvenance | None = None


_decode_record = msgspec.json.Decoder(_Record).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_UNWRITABLE = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


def record_id(payload: bytes) -> str:
    """Return what tells a request or score from every other: the id that sinks store it under.

    ``messageId`` for a request; ``messageId:model:version`` for a score.

    Raises:
        ContractError: It is no JSON object, or has no ``messageId``.
    """
    try:
        record = _decode_record(payload)
    except _MALFORMED as error:
        raise ContractError(f"neither a request nor a score: {error}") from error
    model = record.provenance.model if record.provenance else None
    if model is None:
        return record.message_id
    return f"{record.message_id}:{model.model_name}:{model.model_version}"


def one_line(payload: bytes) -> bytes:
    """Return a JSON object as it was, save that it has no line break between its parts.

    Raises:
        ContractError: It is no JSON object, or not in UTF-8.
    """
    try:
        payload.decode()
        _decode_object(payload)
    except _MALFORMED as error:
        raise ContractError(f"no JSON object: {error}") from error
    if b"\n" in payload or b"\r" in payload:
        return msgspec.json.format(payload, indent=-1)
    return payload
