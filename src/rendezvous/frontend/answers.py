"""What an answer looks like in HTTP: the original's four keys, and the decision beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rendezvous.policy import STRANGER

if TYPE_CHECKING:
    from rendezvous.contract import Result, ScoreError
    from rendezvous.decision import Decision, Endpoint
    from rendezvous.policy import Candidate


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of the answer's parts."""


class SeenScore(_Wire, frozen=True):
    """A score that had come when the choice was made: whose, when, and whether it failed."""

    model: str
    version: int
    after_ms: float
    role: str | None = None
    result: Any = None
    error: str | None = None


class MissingModel(_Wire, frozen=True):
    """A live model that had not scored when the choice was made."""

    model: str
    version: int


class DecisionView(_Wire, frozen=True):
    """Why this answer: the chosen model, the reason in a word, and what was seen until then."""

    endpoint: str
    policy: str
    reason: str
    elapsed_ms: float
    deadline_ms: float
    model: str | None = None
    version: int | None = None
    role: str | None = None
    scores: list[SeenScore] = []
    missing: list[MissingModel] = []


class Reply(_Wire, frozen=True):
    """The body of an answer."""

    timestamp: float
    message_id: str
    model_input: dict[str, Any]
    model_result: Result | dict[str, Any]
    decision: DecisionView


def decision_view(endpoint: Endpoint, decision: Decision) -> DecisionView:
    """Return the part of the decision that callers may see."""
    chosen = decision.score.model if decision.score else None
    return DecisionView(
        endpoint=endpoint.name,
        policy=decision.policy,
        reason=decision.reason,
        elapsed_ms=round(decision.elapsed * 1000.0, 3),
        deadline_ms=endpoint.deadline * 1000.0,
        model=chosen.model_name if chosen else None,
        version=chosen.model_version if chosen else None,
        role=chosen.role if chosen else None,
        scores=[
            SeenScore(
                model=arrival.score.model.model_name,
                version=arrival.score.model.model_version,
                role=arrival.score.model.role,
                after_ms=round(arrival.after * 1000.0, 3),
                result=arrival.score.result.result if arrival.score.result else None,
                error=_told(arrival.score.error) if arrival.score.error else None,
            )
            for arrival in decision.arrivals
        ],
        missing=[MissingModel(model=c.name, version=c.version) for c in _awaited(decision)],
    )


def reply(endpoint: Endpoint, decision: Decision) -> bytes:
    """Return the JSON body of an answer; ``modelResult`` is empty where nothing was chosen."""
    request, score = decision.request, decision.score
    body = Reply(
        timestamp=request.timestamp,
        message_id=request.message_id,
        model_input=request.model_input,
        model_result=(score.result if score else None) or {},
        decision=decision_view(endpoint, decision),
    )
    return msgspec.json.encode(body)


def sample(endpoint: Endpoint, model_input: dict[str, Any]) -> Any:
    """Return an answer as the documentation shows it, in plain JSON values."""
    name = f"{endpoint.name}-model"
    seen = SeenScore(model=name, version=1, after_ms=1.9, role="production", result=1)
    body = Reply(
        timestamp=1795426181.017,
        message_id="9a1db766-3a3c-4f0e-8d0c-6a4ff1a2b9f3",
        model_input=model_input,
        model_result={"modelName": seen.model, "result": seen.result},
        decision=DecisionView(
            endpoint=endpoint.name,
            policy=endpoint.policy.name,
            reason="newest",
            elapsed_ms=2.1,
            deadline_ms=endpoint.deadline * 1000.0,
            model=seen.model,
            version=seen.version,
            role=seen.role,
            scores=[seen],
        ),
    )
    return msgspec.to_builtins(body)


def why_not(decision: Decision) -> list[str]:
    """Return one sentence for each model that could not be chosen."""
    reasons = [
        f"{a.score.model.model_name} version {a.score.model.model_version}: "
        + (_told(a.score.error) if a.score.error else "may not answer")
        for a in decision.arrivals
    ]
    reasons += [f"{c.name} version {c.version}: did not score in time" for c in _awaited(decision)]
    return reasons or ["no model of this endpoint is live"]


def _awaited(decision: Decision) -> list[Candidate]:
    """Return the models that had not come; whoever might have been there is none of them."""
    return [candidate for candidate in decision.missing if candidate is not STRANGER]


def _told(error: ScoreError) -> str:
    """Return what a caller may know of a model's failure: what was wrong with the input.

    What a failing model says may hold paths and values; it is in the archived score and in the log.
    """
    return error.message if error.type == "InputError" else error.type
