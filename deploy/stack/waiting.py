"""Wait until every container is ready, and show how far it is."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console

from deploy.stack.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploy.stack.compose import Container

POLL_SECONDS = 1.0


def wait_ready(
    containers: Callable[[], Sequence[Container]],
    started: Callable[[], bool],
    seconds: float,
    console: Console | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> float:
    """Return how many seconds it took until all were ready.

    Args:
        containers: Asked again and again.
        started: Whether all that is to run is among them.
        seconds: How long to wait, at most.
        console: Where progress is shown; None: standard output.
        pause: Waits for so many seconds.

    Raises:
        StackError: They were not ready in time; the text names who was not.
    """
    console = console or Console(soft_wrap=True)
    began = time.monotonic()
    said = ""
    with console.status("starting") as status:
        while True:
            seen = containers()
            waited = time.monotonic() - began
            if started() and seen and all(each.is_ready for each in seen):
                return waited
            if waited > seconds:
                raise StackError(
                    f"not ready within {seconds:.0f} s: {_unready(seen)};"
                    " `make logs` shows what they say"
                )
            line = f"{sum(each.is_ready for each in seen)} of {len(seen)} ready"
            status.update(f"{line} after {waited:.0f} s: {_unready(seen)}")
            if line != said and not console.is_terminal:
                console.print(f"{line} after {waited:.0f} s")
                said = line
            pause(POLL_SECONDS)


def _unready(containers: Sequence[Container]) -> str:
    """Return who is not ready and in what state, such as ``pulsar (starting), 3 x decoy (...)``."""
    states = Counter(
        f"{each.service} ({each.health if each.state == 'running' else each.state})"
        for each in containers
        if not each.is_ready
    )
    named = [name if count == 1 else f"{count} x {name}" for name, count in states.items()]
    return ", ".join(named) or "no container"
