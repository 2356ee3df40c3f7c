"""What processes take of the machine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 2**20

Pids = tuple[int, ...]
"""The processes that are one thing in the report."""


@dataclass(frozen=True, slots=True)
class Use:
    """Of one process, or of several together.

    Attributes:
        cpu_seconds: Time on a core, its own and the system's for it, until now or in a span.
        memory_mib: Resident memory now, in MiB.
    """

    cpu_seconds: float
    memory_mib: float


def use(*pids: int) -> Use:
    """Return what processes have taken so far; nothing, of one that has ended."""
    seconds, memory = 0.0, 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            times = process.cpu_times()
            seconds += times.user + times.system
            memory += process.memory_info().rss / MIB
    return Use(seconds, memory)


def uses(pids: Mapping[str, Pids]) -> dict[str, Use]:
    """Return what each has taken so far."""
    return {name: use(*each) for name, each in pids.items()}


def since(before: Mapping[str, Use], now: Mapping[str, Use]) -> dict[str, Use]:
    """Return what each has taken in between, and the memory it has now."""
    return {
        name: Use(used.cpu_seconds - before[name].cpu_seconds, used.memory_mib)
        for name, used in now.items()
    }
