"""Which score to answer with, and how long to wait for it.

A policy is a pure function of what is known about one request: no clock, no input or output, no
await. It is asked on every arrival, at every moment it asked for, and at the deadline.
"""

from rendezvous.policy.port import (
    STRANGER,
    Answer,
    Candidate,
    Exhausted,
    Policy,
    Situation,
    Verdict,
    Wait,
)
from rendezvous.policy.simple import First, Newest, Priority, Rank

__all__ = [
    "STRANGER",
    "Answer",
    "Candidate",
    "Exhausted",
    "First",
    "Newest",
    "Policy",
    "Priority",
    "Rank",
    "Situation",
    "Verdict",
    "Wait",
]
