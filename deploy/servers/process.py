"""A process that outlives the one that started it, known by its pid file."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LOG = logging.getLogger(__name__)
_PROC = Path("/proc")
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05

# Ours, so that an ended child is waited for and does not stay as a zombie.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class Account:
    """Numbers of a user and of a group."""

    user: int
    group: int


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process is started.

    Attributes:
        command: Absolute path of the executable, and its arguments.
        cwd: Where it runs.
        env: All of its variables.
        account: Whom it runs as; None: as this process.
    """

    command: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class DetachedProcess:
    """The process of one directory: a session of its own, with all that it starts itself.

    Attributes:
        directory: Has the files ``pid`` and ``output.log``.
        mark: Text that is in its command line and in no other one's: a pid that the system has
            given to another process since is not taken for it.
    """

    directory: Path
    mark: str

    @property
    def _pid_file(self) -> Path:
        return self.directory / "pid"

    @property
    def output(self) -> Path:
        """The file with what it prints."""
        return self.directory / "output.log"

    def pid(self) -> int | None:
        """Return its pid, or None when it does not run."""
        try:
            pid = int(self._pid_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return pid if _is_child(pid) or _is_running(pid, self.mark) else None

    def launch(self, how: Launch) -> None:
        """Start it. It goes on when this process and its terminal end."""
        with self.output.open("wb") as out:
            child = subprocess.Popen(  # noqa: S603 - a server we have installed ourselves
                [*how.command],
                cwd=how.cwd,
                env=dict(how.env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=how.account.user if how.account else None,
                group=how.account.group if how.account else None,
                extra_groups=[] if how.account else None,
            )
        _CHILDREN[child.pid] = child
        aside = self._pid_file.with_suffix(".part")
        aside.write_text(str(child.pid), encoding="utf-8")
        aside.rename(self._pid_file)

    def terminate(self) -> None:
        """End it with SIGTERM and wait until it is gone; after 30 s it is killed."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        if not _ends(pid, STOP_SECONDS):
            _LOG.warning("still there after %.0f s: killing process %d", STOP_SECONDS, pid)
            _kill_group(pid)
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it, and all that it started, with SIGKILL, and wait until they are gone."""
        pid = self.pid()
        if pid is not None:
            _kill_group(pid)
            self._pid_file.unlink(missing_ok=True)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    _ends(pid, STOP_SECONDS)


def _ends(group: int, seconds: float) -> bool:
    """Wait until no process of ``group`` runs; return whether that came about."""
    until = time.monotonic() + seconds
    while _group_runs(group):
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _is_child(pid: int) -> bool:
    """Return whether ``pid`` is a child of ours that runs; forget it when it has ended."""
    child = _CHILDREN.get(pid)
    if child is None:
        return False
    if child.poll() is None:
        return True
    del _CHILDREN[pid]
    return False


def _is_running(pid: int, mark: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, so not ours
        return False
    if not _PROC.joinpath("self").exists():
        return True
    try:
        return mark.encode() in _PROC.joinpath(str(pid), "cmdline").read_bytes()
    except FileNotFoundError:
        return False


def _group_runs(group: int) -> bool:
    if _is_child(group):
        return True
    if not _PROC.joinpath("self").exists():
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    return any(_group_of(stat) == group for stat in _PROC.glob("[0-9]*/stat"))


def _group_of(stat: Path) -> int | None:
    """Return the process group in a ``/proc/<pid>/stat`` file; None for a process that ended."""
    try:
        fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, group, threads = fields[0], int(fields[2]), int(fields[17])
    # The first thread of a killed process is a zombie while others still hold its files and ports.
    return None if state in "ZX" and threads <= 1 else group
