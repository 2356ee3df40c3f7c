"""What can be asked, and the record of what was chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rendezvous.errors import ConfigurationError

if TYPE_CHECKING:
    from rendezvous.contract import Request, Score
    from rendezvous.mailbox import Arrival
    from rendezvous.policy.port import Candidate, Policy

RESERVE_SHARE = 0.05
RESERVE_LEAST = 0.002
RESERVE_BURST = 0.01
"""Seconds, but not more than a tenth of the deadline: where many requests expire at one moment,
their answers leave one after the other."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A business question that several models answer.

    Attributes:
        name: Its name in URLs, metrics and the record.
        topic: The topic on which its requests are published.
        policy: Which score to answer with.
        deadline: Seconds after a request's arrival at which its answer has left, at the latest.
        tolerance: By how much two amounts may differ that say the same, relative to the larger.

    Raises:
        ConfigurationError: The deadline leaves no time to decide in, or the tolerance is none.
    """

    name: str
    topic: str
    policy: Policy
    deadline: float = 1.0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.budget < math.inf:
            raise ConfigurationError(f"deadline: must be more than {RESERVE_LEAST * 1000:g} ms")
        if not 0.0 <= self.tolerance < math.inf:
            raise ConfigurationError("tolerance: must be 0 or more")

    @property
    def budget(self) -> float:
        """Seconds to decide in: the deadline less a reserve for the way back.

        The reserve is 5 %, but at least 10 ms or a tenth, whichever is less, and 2 ms.
        """
        burst = min(RESERVE_BURST, 2.0 * RESERVE_SHARE * self.deadline)
        return self.deadline - max(RESERVE_SHARE * self.deadline, burst, RESERVE_LEAST)


@dataclass(frozen=True, slots=True)
class Decision:
    """The record of one choice.

    Attributes:
        request: As it was published.
        score: The chosen one; ``None`` where nothing acceptable came.
        reason: Why this one, in one word of the policy; ``exhausted`` for none.
        policy: The policy's name.
        elapsed: Seconds from the request's arrival to the choice.
        arrivals: All scores seen until then, in the order they came.
        missing: The models that were awaited and had not come.
    """

    request: Request
    score: Score | None
    reason: str
    policy: str
    elapsed: float
    arrivals: tuple[Arrival, ...]
    missing: tuple[Candidate, ...]
