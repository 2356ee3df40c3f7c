"""The policies that look at rank, version and time alone: ``newest``, ``first``, ``priority``."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from rendezvous.errors import ConfigurationError
from rendezvous.policy.port import STRANGER, Answer, Exhausted, Situation, Verdict, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rendezvous.contract import Score


@dataclass(frozen=True, slots=True)
class Newest:
    """The highest model version within the deadline; of equals, the first that came.

    The original Pulsar system's rule, save that it answers at once when no live model of a higher
    version is still to come.
    """

    name: str = field(default="newest", init=False)

    def decide(self, situation: Situation) -> Verdict:
        """Answer when no pending model is newer than the newest score."""
        if not situation.scores:
            return Exhausted() if situation.final else Wait(situation.budget)
        best = max(situation.scores, key=_version)  # max keeps the first of equals
        if all(candidate.version <= _version(best) for candidate in situation.pending):
            return Answer(best, "newest")
        if situation.final:
            return Answer(best, "deadline_best")
        return Wait(situation.budget)


@dataclass(frozen=True, slots=True)
class First:
    """The first valid score: the lowest latency."""

    name: str = field(default="first", init=False)

    def decide(self, situation: Situation) -> Verdict:
        """Answer with whatever came first."""
        if situation.scores:
            return Answer(situation.scores[0], "first")
        return Exhausted() if situation.final else Wait(situation.budget)


@dataclass(frozen=True, slots=True)
class Rank:
    """One place in the ranking.

    Attributes:
        model: The model's name; any version of it.
        patience: Seconds after the request's arrival from which on this model's score will do
            although a better one is pending.
    """

    model: str
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Priority:
    """Ranked models with patience: wait for a better one only so long.

    With models ranked 1..K and their patience ``0 = p_1 <= ... <= p_K``: the best rank present is
    answered with as soon as nobody better is pending, or its patience has passed. A model that is
    not ranked does not answer.

    Raises:
        ConfigurationError: The ranking is empty, names a model twice, or patience falls or is no
            number.
    """

    ranking: Sequence[Rank]
    name: str = field(default="priority", init=False)

    def __post_init__(self) -> None:
        models = [rank.model for rank in self.ranking]
        patience = [rank.patience for rank in self.ranking]
        if not models or len(set(models)) < len(models):
            raise ConfigurationError("ranking: must name at least one model, and each only once")
        if not all(a <= b for a, b in pairwise([0.0, *patience])):  # so for a NaN too
            raise ConfigurationError("ranking: patience must not be negative nor fall with rank")

    def decide(self, situation: Situation) -> Verdict:
        """Answer with the best rank present, if nobody better is worth the wait."""
        places = {rank.model: place for place, rank in enumerate(self.ranking)}
        places[STRANGER.name] = -1  # might be the best of all
        awaited = [places[c.name] for c in situation.pending if c.name in places]
        ranked = [score for score in situation.scores if score.model.model_name in places]
        if not ranked:
            over = not awaited or situation.final
            return Exhausted() if over else Wait(situation.budget)
        best = min(ranked, key=lambda score: (places[score.model.model_name], -_version(score)))
        place = places[best.model.model_name]
        if all(place <= other for other in awaited):
            return Answer(best, "preferred" if place == 0 else "only_live")
        if situation.elapsed >= self.ranking[place].patience:
            return Answer(best, "patience_expired")
        if situation.final:
            return Answer(best, "deadline_best")
        return Wait(min(self.ranking[place].patience, situation.budget))


def _version(score: Score) -> int:
    return score.model.model_version
