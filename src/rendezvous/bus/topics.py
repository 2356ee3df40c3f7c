"""Names of topics: families of them, and those that keep dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEAD_LETTER = "-dead-letter"
"""How the name of a topic ends that keeps what could not be used of another."""

_EVERY = "-*"


def family(name: str) -> str:
    """Return what a reader subscribes to for every topic that is called ``<name>-<anything>``.

    Those that keep dead letters are never of a family, for they hold no messages of its kind; nor
    is ``name`` itself.
    """
    return f"{name}{_EVERY}"


def is_family(topic: str) -> bool:
    """Return whether ``topic`` stands for a family: it ends in ``-*``."""
    return topic.endswith(_EVERY)


def covers(topic: str, name: str) -> bool:
    """Return whether one who subscribes to ``topic`` reads the topic ``name``."""
    if not is_family(topic):
        return topic == name
    begins = topic.removesuffix("*")
    return len(name) > len(begins) and name.startswith(begins) and not name.endswith(DEAD_LETTER)


def kind(topic: str, read: Iterable[str]) -> str:
    """Return under what name ``topic`` is counted and its dead letters are kept.

    It is the family's name without ``-*`` where ``topic`` was read as one of a family: however
    many topics a family has, there is one of its kind. Else it is ``topic``.

    Args:
        topic: The topic that a message came from.
        read: What its reader subscribes to.
    """
    if topic in read:
        return topic
    return next((each.removesuffix(_EVERY) for each in read if covers(each, topic)), topic)
