"""Join a group on families of topics, of which some come later."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pulsar

from rendezvous.bus.topics import DEAD_LETTER, is_family

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DISCOVERY_SECONDS = 2
"""Within which a topic is read that has come to a family."""

_FIRST, _NEW = pulsar.InitialPosition.Earliest, pulsar.InitialPosition.Latest


class ShortNames(dict[str, str]):
    """The short names of topics by their full ones, those of topics that come later too."""

    def __init__(self, prefix: str, topics: Sequence[str]) -> None:
        super().__init__({prefix + topic: topic for topic in topics if not is_family(topic)})
        self._prefix = prefix

    def __missing__(self, full: str) -> str:
        short = self[full] = full.removeprefix(self._prefix)
        return short


def pattern(prefix: str, topics: Sequence[str]) -> re.Pattern[str]:
    """Return what the full names of ``topics`` match, families among them, and no other."""
    names = [
        f"{re.escape(topic.removesuffix('*'))}(?!(.*-)?{DEAD_LETTER[1:]}$).+"
        if is_family(topic)
        else re.escape(topic)
        for topic in topics
    ]
    return re.compile(f"{prefix}({'|'.join(names)})")


def join(
    subscribe: Callable[..., pulsar.Consumer],
    prefix: str,
    topics: Sequence[str],
    start: pulsar.InitialPosition,
) -> pulsar.Consumer:
    """Return a consumer of ``topics`` that reads each topic which comes later from its beginning.

    The vendor has one position for all topics, those that come later too. So a new group is made
    first where it is to begin, on what is there; then it is joined, with the other position.

    Args:
        subscribe: ``subscribe`` of a ``discovering`` client; all that is not said here is.
        prefix: Of full names.
        topics: Short names, at least one of them a family.
        start: Where a new group begins.

    Raises:
        pulsar.PulsarException: The broker cannot be reached, or refuses.
    """
    single = [prefix + topic for topic in topics if not is_family(topic)]
    every = pattern(prefix, topics)
    if single:  # a pattern would not make them
        subscribe(single, initial_position=start, receiver_queue_size=1).close()
    if start == _NEW:
        subscribe(every, initial_position=start, receiver_queue_size=1).close()
    return subscribe(every, initial_position=_FIRST)


class _Discovering:
    """The client inside the vendor's, save that it looks for new topics often enough.

    ``pulsar.Client.subscribe`` takes ``pattern_auto_discovery_period`` and forgets it, so that it
    is 60 s always (apache/pulsar-client-python, issue 171).
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def subscribe_pattern(self, topics: str, group: str, configuration: Any) -> Any:
        configuration.pattern_auto_discovery_period(DISCOVERY_SECONDS)
        return self._inner.subscribe_pattern(topics, group, configuration)


def discovering(client: pulsar.Client) -> pulsar.Client:
    """Have ``client`` find topics that come to a family within ``DISCOVERY_SECONDS``; return it."""
    client._client = _Discovering(client._client)  # noqa: SLF001 - it has no other way
    return client
