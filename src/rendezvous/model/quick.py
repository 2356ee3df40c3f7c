"""Evaluations of a quick model, without the way to another thread and back.

That way, through two threads that must wake up, takes longer than a small model needs. So a
process that has nothing else to do than one model may evaluate in its event loop, once the model
has shown itself quick. What it gives up is that a model which hangs leaves the loop alive; so a
process whose model hangs there ends, and whoever supervises it starts it again (unless the model
never lets go of the interpreter). Its requests were not acked: they come again, to a thread at
first, where a model that hangs only falls silent.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from rendezvous.model.thread import EvaluationThread

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = logging.getLogger(__name__)

QUICK = 0.001
"""Seconds that an evaluation takes at most, on average, of a model that is quick."""

STUCK = 10.0
"""Seconds of an evaluation in the loop after which the process ends."""

LOOKS = 10

_WEIGHT = 0.1
_UNKNOWN = 1.0  # at first: about 70 quick evaluations bring the average below QUICK


class Evaluations(Generic[T]):
    """Runs one evaluation after the other.

    Args:
        name: Of the thread.
        in_loop: Whether a quick model may be evaluated in the event loop.
        give_up: Ends the process.
    """

    def __init__(
        self, name: str, *, in_loop: bool, give_up: Callable[[int], None] = os._exit
    ) -> None:
        self._name = name
        self._in_loop = in_loop
        self._give_up = give_up
        self._thread: EvaluationThread[tuple[T, float]] = EvaluationThread(name)
        self._average = _UNKNOWN
        self._turn = 0
        self._busy = False
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    @property
    def quick(self) -> bool:
        """Whether the next one is in the loop."""
        return self._in_loop and self._average < QUICK

    async def run(self, work: Callable[[], T]) -> T:
        """Have ``work`` done, which must not raise, and return its result."""
        if self.quick:
            self._begin_watch()
            self._turn += 1
            self._busy = True
            try:
                result, seconds = _timed(work)
            finally:
                self._busy = False
        else:
            result, seconds = await self._thread.submit(lambda: _timed(work))
        self._average += _WEIGHT * (seconds - self._average)
        return result

    def close(self) -> None:
        """End the threads after what they have in hand; does not wait for that."""
        self._closed.set()
        self._thread.close()

    def _begin_watch(self) -> None:
        if self._watch is None:
            self._watch = threading.Thread(
                target=self._see, name=f"{self._name}-watch", daemon=True
            )
            self._watch.start()

    def _see(self) -> None:
        """End the process when it is at the same evaluation at ten looks running.

        Looks, and not the clock: a process that was paused has not hung.
        """
        seen, looks = 0, 0
        while not self._closed.wait(STUCK / LOOKS):
            looks = looks + 1 if self._busy and self._turn == seen else 0
            seen = self._turn
            if looks >= LOOKS:
                log.critical("%s hangs since %.0f s: the process ends", self._name, STUCK)
                self._give_up(1)
                return


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began
