"""What a connector asks of the place it writes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the wire contract on its way to a sink.

    Attributes:
        id: ``contract.record_id`` of the payload: equal for equal records, whatever the delivery.
        topic: The short name of the topic it came from.
        payload: The bytes as they were on the bus: one JSON object.
    """

    id: str
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that this sink can never store, and why."""

    record: Record
    reason: str


class Sink(Protocol):
    """A place that stores records durably, each id once.

    It opens itself with the first write, also with the first after ``aclose``.
    """

    async def write(self, batch: Sequence[Record]) -> Sequence[Rejection]:
        """Store the whole batch durably, save for what is returned as rejected.

        Idempotent: a record whose id is stored already is not stored twice. An empty batch stores
        nothing and makes the sink ready. A cancelled write may have stored its batch, or part of
        it; the caller writes it again.

        Raises:
            SinkUnavailable: Nothing, or not all, is known to be stored; write the batch again.
            SinkError: The sink cannot go on, and waiting does not mend it.
            ConfigurationError: It is not what the configuration says.
        """
        ...

    async def aclose(self) -> None:
        """Let go of every resource. Idempotent."""
        ...
