"""The tables and the picture of a run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence

Report = dict[str, Any]


def about(rounds: int, seconds: float) -> Report:
    """Return when, of which commit and on which machine a run is."""
    cores, python = f"{os.cpu_count()} cores", f"Python {platform.python_version()}"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {cores}, {python}",
        "rounds": rounds,
        "seconds": seconds,
    }


def _commit() -> str:
    """Return the short name of the commit that is measured, ``-dirty`` where files differ."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip() or "unknown"


def keep(report: Report, folder: Path, suffix: str = "") -> None:
    """Write the figures, the tables and the picture of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{report['date'][:10]}-{report['commit']}{suffix}"
    Path(f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    Path(f"{stem}.md").write_text(markdown(report), encoding="utf-8")
    plot(report, Path(f"{stem}.png"))
    print(f"kept in {stem}.md, .json and .png")


def markdown(report: Report) -> str:
    """Return all tables of a run."""
    how = (
        f"medians of {report['rounds']} rounds of {report['seconds']:g} s where not said otherwise"
    )
    parts = [
        f"{report['date']}, commit {report['commit']}, {report['machine']}; {how}.",
        _goals(report),
        _capacity(report),
        _latency(report),
        _uses(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are numbers."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _goals(report: Report) -> str:
    if not report.get("goals"):
        return ""
    rows = [
        (g["figure"], g["goal"], g["measured"], "yes" if g["met"] else "**no**")
        for g in report["goals"]
    ]
    return "## Goals\n\n" + table(("figure", "goal", "measured", "met"), rows)


def _capacity(report: Report) -> str:
    rows = [
        (
            row["system"], f"{row['clients']}", f"{row['rate']:.0f}", _ratio(row),
            f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}",
            f"{row['wrong']}", f"{row['empty']}", f"{row['failed']}",
        )
        for row in report["capacity"]
    ]  # fmt: skip
    heads = (
        "system", "clients", "answers/s", "ratio", "p50 ms", "p99 ms", "wrong", "empty", "failed",
    )  # fmt: skip
    text = "*ratio*: answers a second over those of the bare service, turn by turn in the same run."
    return f"## Capacity: closed loop\n\n{table(heads, rows)}\n\n{text}"


def _latency(report: Report) -> str:
    if not report.get("latency"):
        return ""
    rows = [
        (
            row["system"], f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}",
            f"{row['wrong']}", f"{row['empty']}", f"{row['failed']}",
        )
        for row in report["latency"]
    ]  # fmt: skip
    heads = ("system", "p50 ms", "p99 ms", "wrong", "empty", "failed")
    return "## Latency: open loop, 100 requests a second\n\n" + table(heads, rows)


def _uses(report: Report) -> str:
    rows = [
        (system, name, f"{used['cpu_us']:.0f}", f"{used['cores']:.2f}", f"{used['memory_mib']:.0f}")
        for system, uses in report.get("uses", {}).items()
        for name, used in uses.items()
    ]
    if not rows:
        return ""
    heads = ("system", "process", "CPU µs/answer", "cores", "resident MiB")
    return "## What the processes take, in the same rounds\n\n" + table(heads, rows)


def plot(report: Report, path: Path) -> None:
    """Draw answers a second, where the processor's time goes, and latency where it was measured."""
    draws = [_draw_rates, _draw_costs] + [_draw_latencies] * bool(report.get("latency"))
    figure, panels = plt.subplots(len(draws), 1, figsize=(12, 4 * len(draws)))
    for draw, axes in zip(draws, panels, strict=True):
        draw(axes, report)
        axes.margins(x=0.1)
    figure.suptitle(f"{report['date'][:10]}, commit {report['commit']}, {report['machine']}")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def _draw_rates(axes: Any, report: Report) -> None:
    rows = report["capacity"][::-1]
    names = [row["system"] for row in rows]
    colors = ["C0" if "rendezvous" in name else "C7" for name in names]
    bars = axes.barh(names, [row["rate"] for row in rows], color=colors)
    axes.bar_label(bars, [f" {_ratio(row)}" for row in rows])
    axes.set(
        xlabel="answers a second", title="Capacity at 64 clients, and its ratio to the bare service"
    )


def _draw_costs(axes: Any, report: Report) -> None:
    uses = report.get("uses", {})
    names = list(uses)[::-1]
    parts = list(dict.fromkeys(part for each in uses.values() for part in each))
    left = [0.0] * len(names)
    for number, part in enumerate(parts):
        widths = [uses[name].get(part, {"cpu_us": 0.0})["cpu_us"] for name in names]
        axes.barh(names, widths, left=left, label=part, color=plt.get_cmap("tab20")(number % 20))
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(xlabel="CPU µs an answer", title="Where the processor's time goes")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_latencies(axes: Any, report: Report) -> None:
    rows = report["latency"][::-1]
    places = range(len(rows))
    axes.barh([p + 0.2 for p in places], [row["p50_ms"] for row in rows], 0.4, label="p50")
    axes.barh([p - 0.2 for p in places], [row["p99_ms"] for row in rows], 0.4, label="p99")
    axes.set_yticks(list(places), [row["system"] for row in rows])
    axes.set(xlabel="ms", title="Latency at 100 requests a second, open loop")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _ratio(row: dict[str, Any]) -> str:
    return "" if row["ratio"] is None else f"{row['ratio']:.2f}"
