"""Messages that are under way together."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pulsar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

_FRAME = 64  # bytes of a message beside what it carries, about


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message on its way.

    Attributes:
        payload: The bytes.
        key: Of the message.
        properties: Of the message.
        leaves: When it has waited for others long enough, by the loop's time.
        done: Is done when the broker has stored it.
        alone: Whether it must travel alone, for it was refused in company.
        size: Its bytes, about.
    """

    payload: bytes
    key: str | None
    properties: Mapping[str, str] | None
    leaves: float
    done: asyncio.Future[None]
    alone: bool = False
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.payload) + len(self.key or "") + _FRAME
        if self.properties:
            self.size += sum(len(k) + len(v) for k, v in self.properties.items())

    def check(self) -> None:
        """Raise ValueError, TypeError or AttributeError where it is no message."""
        if not isinstance(self.payload, bytes):
            raise TypeError(f"the payload is {type(self.payload).__name__}, not bytes")
        if self.key:
            self.key.encode()
        for name, value in (self.properties or {}).items():
            name.encode()
            value.encode()


class Burst:
    """Messages under way together, and what becomes of each.

    Args:
        messages: In their order.
        told: Is called when the outcome of all is known; by any thread.
    """

    def __init__(self, messages: Sequence[Outgoing], told: Callable[[Burst], None]) -> None:
        self.messages = messages
        self.results: list[pulsar.Result] = [pulsar.Result.UnknownError] * len(messages)
        self.lost: set[int] = set()
        """Places of those that could not be handed over."""
        self._told = told
        self._count = itertools.count(1)

    def came(self, place: int, result: pulsar.Result, _: object = None) -> None:
        """Take what became of one message; called by the client's threads, so it must be quick."""
        self.results[place] = result
        if next(self._count) == len(self.messages):  # counts right, whoever calls at once
            self._told(self)

    def came_as_one(self, result: pulsar.Result, last: pulsar.MessageId | None = None) -> None:
        """Take what became of the last message, and by that of all: they are one batch.

        Its place in the batch is the proof; where it has another, of the rest nothing is known.
        """
        sent = len(self.messages) - len(self.lost)
        known = result != pulsar.Result.Ok or (last and last.batch_index() == sent - 1)
        if known:
            self.results = [result] * len(self.messages)
        else:
            self.results[-1] = result
        for place in self.lost:
            self.results[place] = pulsar.Result.UnknownError
        self._told(self)
