"""``python tree.py FOLDER COMMAND ...``: run it, and at the end leave nothing of it.

Some peers start processes that outlive the one that was started. Here whatever loses its parent is
given to this process as a child (a "subreaper" of Linux), so none escapes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_END_SECONDS = 10.0  # for the peer to end by itself
_REST_SECONDS = 2.0  # for what it left
_POLL_SECONDS = 0.05


def descendants(pid: int) -> list[int]:
    """Return the living processes that ``pid`` started, or those that they started, and so on."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        if state not in "ZX":
            parents[int(status.parent.name)] = int(parent)
    found = [pid]
    for each in found:  # grows as we go
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def main() -> None:
    """Run the command; at its end, or when a signal ends us, end all that it started."""
    folder, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_CHILD_SUBREAPER, 1) or libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM):
        raise OSError(ctypes.get_errno(), "prctl")
    _on_signals(_leave)
    peer = subprocess.Popen(command, cwd=folder, start_new_session=True)
    try:
        sys.exit(peer.wait())
    finally:
        _on_signals(signal.SIG_IGN)
        peer.terminate()
        _until(lambda: peer.poll() is not None, _END_SECONDS)
        _send(signal.SIGTERM)
        _until(lambda: not descendants(os.getpid()), _REST_SECONDS)
        while _send(signal.SIGKILL):
            time.sleep(_POLL_SECONDS)
        with suppress(ChildProcessError):  # there is none any more
            while True:
                os.wait()


def _on_signals(action: Callable[[int, FrameType | None], NoReturn] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, action)


def _leave(*_: object) -> NoReturn:
    sys.exit()


def _send(number: signal.Signals) -> bool:
    """Send it to all that is left, and return whether there was anything."""
    left = descendants(os.getpid())
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(left)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
