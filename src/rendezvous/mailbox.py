"""Where the scores of one request are kept until its answer is decided. Pure: no clock, no loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rendezvous.policy.port import STRANGER, Candidate, Situation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rendezvous.contract import Score

Key = tuple[str, int]
"""A model's name and version."""

_NOBODY: Mapping[Key, Candidate] = {}

MAY_ANSWER = frozenset({"production", "canary", "backup"})
"""The roles whose scores may go out; ``shadow`` and ``decoy`` never do."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A score in the mailbox.

    Attributes:
        score: As it was decoded.
        after: Seconds from the request's arrival to the score's.
        valid: Whether it may answer: no error, a result, from a role that may.
    """

    score: Score
    after: float
    valid: bool


class Mailbox:
    """The scores of one request, each model's first only, and who is still to come.

    Args:
        message_id: The request's id.
        candidates: The live models that may answer, at the request's arrival, by name and
            version; empty where none is known, and then any model may come.
        budget: Seconds after the request's arrival at which it is answered at the latest.
        shadows: The live models that may not answer, at the request's arrival.
    """

    __slots__ = (
        "_live", "_pending", "_seen", "_silent", "arrivals", "budget", "message_id", "scores",
    )  # fmt: skip

    def __init__(
        self,
        message_id: str,
        candidates: Mapping[Key, Candidate],
        budget: float,
        shadows: Mapping[Key, Candidate] = _NOBODY,
    ) -> None:
        self.message_id = message_id
        self.budget = budget
        self.arrivals: list[Arrival] = []
        self.scores: list[Score] = []
        self._seen: set[Key] = set()
        self._live = (candidates, shadows)
        self._silent = set(shadows)
        self._pending = dict(candidates) or {(STRANGER.name, STRANGER.version): STRANGER}

    def put(self, score: Score, after: float) -> bool:
        """Keep ``score``; return False for a second one of the same model and version."""
        key = (score.model.model_name, score.model.model_version)
        if key in self._seen:
            return False
        valid = (
            score.error is None
            and score.result is not None
            and score.result.result is not None
            and (score.model.role or "production") in MAY_ANSWER
        )
        self._seen.add(key)
        self.arrivals.append(Arrival(score, after, valid))
        self._pending.pop(key, None)
        self._silent.discard(key)
        if valid:
            self.scores.append(score)
        return True

    def drop(self, key: Key) -> bool:
        """Wait no more for this model, for it is gone; return whether it was pending."""
        self._silent.discard(key)
        return self._pending.pop(key, None) is not None

    @property
    def pending(self) -> Mapping[Key, Candidate]:
        """The models that may answer, are live, and have neither scored nor failed."""
        return self._pending

    @property
    def settled(self) -> bool:
        """Whether nobody is to come any more, shadows included."""
        return not self._pending and not self._silent

    @property
    def unheard(self) -> list[Candidate]:
        """The models that were live at the request's arrival, shadows included, without a score."""
        return [c for live in self._live for key, c in live.items() if key not in self._seen]

    def situation(self, elapsed: float) -> Situation:
        """Return what a policy may know, ``elapsed`` seconds after the request's arrival."""
        return Situation(self.scores, self._pending.values(), elapsed, self.budget)
