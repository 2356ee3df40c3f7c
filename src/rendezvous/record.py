"""The record of a decision: one message for each request, of all that its choice was made of.

Pure: built when no more scores are to come. Models stand in its lists as ``name@version``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rendezvous.contract import ScoreError, Wire, written

if TYPE_CHECKING:
    from rendezvous.contract import Score
    from rendezvous.decision import Decision, Endpoint
    from rendezvous.mailbox import Arrival, Mailbox


class PolicyName(Wire, frozen=True):
    """The policy that chose."""

    name: str


class Chosen(Wire, frozen=True):
    """The score that was answered with."""

    model: str
    version: int
    role: str
    result: Any
    probabilities: list[float] | None = None


class RecordedScore(Wire, frozen=True):
    """One score of the request.

    Attributes:
        model: The model's name.
        version: Its version.
        role: Its role when it scored.
        after_ms: Milliseconds from the request's arrival to the score's.
        valid: Whether it is a result, not an error; a shadow's too, though it may not answer.
        late: Whether it came after the choice.
        evaluated_ms: Milliseconds the model took for the batch.
        queue_ms: Milliseconds from the request's timestamp to the start of that.
        result: What the model says.
        probabilities: Of each class, where it has them.
        error: Why it has no result.
        agrees: Whether it says the same as the chosen one, where both are results.
    """

    model: str
    version: int
    role: str
    after_ms: float
    valid: bool
    late: bool
    evaluated_ms: float | None = None
    queue_ms: float | None = None
    result: Any = None
    probabilities: list[float] | None = None
    error: ScoreError | None = None
    agrees: bool | None = None

    @property
    def name(self) -> str:
        """``model@version``."""
        return f"{self.model}@{self.version}"


class DecisionRecord(Wire, frozen=True):
    """One choice and all that it was made of.

    Attributes:
        timestamp: The request's, epoch seconds.
        message_id: The request's; the record's own, too.
        endpoint: The endpoint's name.
        model_input: The request's.
        deadline_ms: Milliseconds in which the answer had to leave.
        policy: Who chose.
        outcome: ``answered`` or ``exhausted``.
        reason: Why, in one word of the policy.
        decided_ms: Milliseconds from the request's arrival to the choice.
        closed_ms: Milliseconds from the request's arrival to the record's closing.
        scores: All that came until then, in their order.
        schema_version: Of the request's fields.
        chosen: The score that was answered with.
        answered_by: Whose it is.
        agreeing: Models that say the same as the chosen one.
        disagreeing: Models that say something else.
        late_models: Models whose score came after the choice.
        failed_models: Models whose score is no result.
        missing_models: Models that were live at the request's arrival and have not scored.
    """

    timestamp: float
    message_id: str
    endpoint: str
    model_input: dict[str, Any]
    deadline_ms: float
    policy: PolicyName
    outcome: str
    reason: str
    decided_ms: float
    closed_ms: float
    scores: list[RecordedScore]
    schema_version: int | None = None
    chosen: Chosen | None = None
    answered_by: str | None = None
    agreeing: tuple[str, ...] = ()
    disagreeing: tuple[str, ...] = ()
    late_models: tuple[str, ...] = ()
    failed_models: tuple[str, ...] = ()
    missing_models: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the JSON bytes. Raises: ContractError, where JSON has no way to write a value."""
        return written(self)


def make_record(
    endpoint: Endpoint, decision: Decision, mailbox: Mailbox, closed: float
) -> DecisionRecord:
    """Return the record of ``decision``.

    Args:
        endpoint: Which was asked.
        decision: What was chosen, and the scores that had come until then.
        mailbox: All scores that have come until now, and who was live at the request's arrival.
        closed: Seconds from the request's arrival until now.
    """
    request, chosen = decision.request, decision.score
    in_time = len(decision.arrivals)
    scores = [
        _recorded(arrival, chosen, endpoint.tolerance, late=number >= in_time)
        for number, arrival in enumerate(mailbox.arrivals)
    ]
    return DecisionRecord(
        timestamp=request.timestamp,
        message_id=request.message_id,
        endpoint=endpoint.name,
        schema_version=request.schema_version,
        model_input=request.model_input,
        deadline_ms=endpoint.deadline * 1000.0,
        policy=PolicyName(name=decision.policy),
        outcome="answered" if chosen else "exhausted",
        reason=decision.reason,
        decided_ms=_milliseconds(decision.elapsed),
        closed_ms=_milliseconds(closed),
        scores=scores,
        chosen=_chosen(chosen) if chosen else None,
        answered_by=f"{chosen.model.model_name}@{chosen.model.model_version}" if chosen else None,
        agreeing=tuple([score.name for score in scores if score.agrees]),
        disagreeing=tuple([score.name for score in scores if score.agrees is False]),
        late_models=tuple([score.name for score in scores if score.late]),
        failed_models=tuple([score.name for score in scores if not score.valid]),
        missing_models=tuple([f"{c.name}@{c.version}" for c in mailbox.unheard]),
    )


def agree(one: Any, other: Any, tolerance: float) -> bool:
    """Return whether two results say the same.

    Classes (integers, texts, truth values) do when they are equal. Where one is a fraction, both
    are amounts: they do within ``tolerance``, relative to the larger.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if not isinstance(one, float) and not isinstance(other, float):
        return bool(one == other)
    try:
        return math.isclose(one, other, rel_tol=tolerance)
    except (TypeError, OverflowError):  # no number, or one beyond every float
        return False


def _recorded(
    arrival: Arrival, chosen: Score | None, tolerance: float, *, late: bool
) -> RecordedScore:
    score = arrival.score
    model, said = score.provenance.model, score.result
    valid = score.error is None and said is not None and said.result is not None
    agrees = None
    if valid and said and chosen and chosen.result and not _same_model(chosen, score):
        agrees = agree(said.result, chosen.result.result, tolerance)
    return RecordedScore(
        model=model.model_name,
        version=model.model_version,
        role=_role(score),
        after_ms=_milliseconds(arrival.after),
        evaluated_ms=model.evaluated_ms,
        queue_ms=model.queue_ms,
        valid=valid,
        late=late,
        result=said.result if said else None,
        probabilities=said.probabilities if said else None,
        error=score.error,
        agrees=agrees,
    )


def _chosen(score: Score) -> Chosen:
    return Chosen(
        model=score.model.model_name,
        version=score.model.model_version,
        role=_role(score),
        result=score.result.result if score.result else None,
        probabilities=score.result.probabilities if score.result else None,
    )


def _same_model(one: Score, other: Score) -> bool:
    names = one.model.model_name == other.model.model_name
    return names and one.model.model_version == other.model.model_version


def _role(score: Score) -> str:
    """Return the role; a foreign model, which names none, is in production."""
    return score.model.role or "production"


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000.0, 3)
