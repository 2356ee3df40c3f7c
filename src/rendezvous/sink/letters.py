"""Dead letters as records: what nobody could use becomes a JSON object that a sink can store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rendezvous.contract import Wire, written
from rendezvous.deadletter import origin
from rendezvous.sink.port import Record

if TYPE_CHECKING:
    from rendezvous.bus.port import Delivery

LONGEST = 32 * 1024
"""Bytes of a payload that are kept, as text."""

ID_LENGTH = 32


class DeadLetter(Wire, frozen=True):
    """What was buried.

    Attributes:
        topic: Where it came from.
        reason: Why nobody could use it, where it says so.
        tries: How often it was delivered, where it says so.
        payload: Its bytes as text, cut; what is not UTF-8 is replaced.
    """

    topic: str
    payload: str
    reason: str | None = None
    tries: int | None = None


class LetterRecord(Wire, frozen=True):
    """The record of a dead letter.

    Attributes:
        timestamp: When the connector read it, epoch seconds.
        message_id: The same whenever it is read, and for every group that buried the message.
        dead_letter: The letter.
    """

    timestamp: float
    message_id: str
    dead_letter: DeadLetter


def letter_record(delivery: Delivery, now: float) -> Record:
    """Return the record of a delivery of a dead-letter topic, whatever is in it.

    Args:
        delivery: Its properties say why it was buried, if ``Undertaker`` did it.
        now: Epoch seconds.
    """
    properties = delivery.properties
    tries = properties.get("tries", "")
    letter = DeadLetter(
        topic=origin(delivery.topic),
        payload=_text(delivery.payload),
        reason=_writable(properties.get("reason", "")) or None,
        tries=int(tries) if tries.isdecimal() and len(tries) < ID_LENGTH else None,
    )
    name = _name(delivery)
    record = LetterRecord(timestamp=now, message_id=name, dead_letter=letter)
    return Record(name, delivery.topic, written(record))


def _name(delivery: Delivery) -> str:
    """Return a digest of what tells this letter from others; lengths keep its parts apart."""
    digest = hashlib.sha256()
    for part in (
        delivery.topic.encode(),
        delivery.payload,
        (delivery.key or "").encode(errors="replace"),
    ):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()[:ID_LENGTH]


def _writable(text: str) -> str:
    """Return text without halves of surrogate pairs, which JSON has no way to write."""
    return text.encode(errors="replace").decode()


def _text(payload: bytes) -> str:
    text = payload[:LONGEST].decode(errors="replace")
    return text.encode()[:LONGEST].decode(errors="ignore")  # a replacement takes three bytes
