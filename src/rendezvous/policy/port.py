"""What a policy is given, and what it may say."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rendezvous.contract import Score


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer.

    Attributes:
        name: The model's name.
        version: Its version.
        role: ``production``, ``canary`` or ``backup``.
    """

    name: str
    version: int
    role: str = "production"


STRANGER = Candidate("(any model)", sys.maxsize)
"""Pending where no live model is known: whoever it is that may still answer."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about one request.

    Attributes:
        scores: The valid scores of models that may answer, in the order they came.
        pending: The models that may answer, are live, and have neither scored nor failed.
        elapsed: Seconds since the request arrived.
        budget: Seconds after its arrival at which the request is answered at the latest.
    """

    scores: Sequence[Score]
    pending: Collection[Candidate]
    elapsed: float
    budget: float

    @property
    def final(self) -> bool:
        """Whether waiting longer can change nothing, or is not allowed."""
        return not self.pending or self.elapsed >= self.budget


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with ``score``; ``reason`` is one word for the record."""

    score: Score
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again on the next arrival, and ``until`` seconds after the request's at the latest."""

    until: float


@dataclass(frozen=True, slots=True)
class Exhausted:
    """No score can be had any more that may answer."""


Verdict = Answer | Wait | Exhausted


class Policy(Protocol):
    """A rule for the choice. Must be final (not ``Wait``) whenever the situation is."""

    @property
    def name(self) -> str:
        """Its name in the configuration and in the record."""
        ...

    def decide(self, situation: Situation) -> Verdict:
        """Say what to do now; the same situation always gets the same verdict."""
        ...
