"""What a part says of itself: whether it reads its topics as a member of its group."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class MembershipObserver(Protocol):
    """Who is told whether a part reads."""

    def reading(self, group: str, topics: Sequence[str], *, now: bool) -> None:
        """Take note whether a member of ``group`` has its subscription of ``topics`` and works."""


@contextmanager
def membership(
    observer: MembershipObserver, group: str, topics: Sequence[str]
) -> Iterator[Callable[[], None]]:
    """Tell ``observer`` that a part has begun and does not read yet, and at the end that it ends.

    Yields:
        What to call when it reads.
    """
    observer.reading(group, topics, now=False)
    try:
        yield partial(observer.reading, group, topics, now=True)
    finally:
        observer.reading(group, topics, now=False)
