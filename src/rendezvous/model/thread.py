"""A thread for a model's evaluations, so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class EvaluationThread(Generic[T]):
    """One thread that works on one thing after the other.

    A daemon, unlike an executor's: a model that hangs does not hold up the end of the process.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Callable[[], T], asyncio.Future[T]] | None] = SimpleQueue()
        Thread(target=self._serve, name=name, daemon=True).start()

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have ``work`` done, which must not raise; return the future of its result."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.put((work, done))
        return done

    def close(self) -> None:
        """End the thread after what it has in hand; does not wait for that."""
        self._work.put(None)

    def _serve(self) -> None:
        while (job := self._work.get()) is not None:
            work, done = job
            result = work()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                done.get_loop().call_soon_threadsafe(_settle, done, result)


def _settle(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)
