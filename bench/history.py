"""What a load did and saw: one event for each request, and the figures of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["right", "fallback", "wrong", "empty", "failed"]
GOOD = {"right", "fallback"}


@dataclass(frozen=True, slots=True)
class Figures:
    """A run in numbers.

    Attributes:
        answers: Right answers, fallbacks among them.
        seconds: How long it ran.
        p50_ms: Milliseconds that half of the right answers did not exceed.
        p99_ms: Likewise, 99 of 100.
        longest_ms: The longest.
        wrong: Answers that are not the model's for that very input.
        empty: Answers of status 200 without a result.
        failed: Answers of another status, and broken connections.
        fallback: Right answers of another model than production, for that was too late.
    """

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    wrong: int = 0
    empty: int = 0
    failed: int = 0
    fallback: int = 0

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return self.answers / self.seconds if self.seconds else 0.0


class Event(NamedTuple):
    """One request, in seconds of one clock.

    Attributes:
        due: When it should have been sent: latency counts from here, so that a system which makes
            the load wait does not thereby hide how slow it is.
        sent: When it was.
        answered: When its answer was there.
        verdict: What the answer was worth.
    """

    due: float
    sent: float
    answered: float
    verdict: Verdict


@dataclass(slots=True)
class History:
    """All events of a run."""

    events: list[Event] = field(default_factory=list)

    def figures(self, seconds: float) -> Figures:
        """Return the figures of a run of ``seconds``."""
        verdicts = Counter(event.verdict for event in self.events)
        took = [1000.0 * (e.answered - e.due) for e in self.events if e.verdict in GOOD]
        return summary(took, seconds, verdicts)


def summary(
    latencies: Sequence[float], seconds: float, verdicts: Counter[Verdict] | None = None
) -> Figures:
    """Return the figures of right answers that took ``latencies`` milliseconds, and of others."""
    others = verdicts or Counter()
    ordered = sorted(latencies) or [float("nan")]
    return Figures(
        answers=len(latencies),
        seconds=seconds,
        p50_ms=_percentile(ordered, 0.50),
        p99_ms=_percentile(ordered, 0.99),
        longest_ms=ordered[-1],
        wrong=others["wrong"],
        empty=others["empty"],
        failed=others["failed"],
        fallback=others["fallback"],
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
