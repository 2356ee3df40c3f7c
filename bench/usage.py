"""What processes take of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Use:
    """Of one process, with its children.

    Attributes:
        cpu_seconds: Time on a core, its own and the system's for it, until now or in a span.
        memory_mib: Resident memory now, in MiB.
    """

    cpu_seconds: float
    memory_mib: float


def use(pid: int) -> Use:
    """Return what the process has taken so far; nothing, where it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        times = [each.cpu_times() for each in family]
        memory = sum(each.memory_info().rss for each in family)
    except psutil.NoSuchProcess:
        return Use(0.0, 0.0)
    return Use(sum(t.user + t.system for t in times), memory / MIB)


def uses(pids: Mapping[str, int]) -> dict[str, Use]:
    """Return what each has taken so far."""
    return {name: use(pid) for name, pid in pids.items()}


def since(before: Mapping[str, Use], now: Mapping[str, Use]) -> dict[str, Use]:
    """Return what each has taken in between, and the memory it has now."""
    return {
        name: Use(used.cpu_seconds - before[name].cpu_seconds, used.memory_mib)
        for name, used in now.items()
    }
