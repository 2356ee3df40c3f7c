"""The table and the picture of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from bench.systems import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

BASE = "bare FastAPI + scikit-learn, one model"
UNANSWERED = f"rendezvous, no model answers: 504 at {DEADLINE * 1000:.0f} ms"


def markdown(report: dict[str, Any]) -> str:
    """Return the table; ``ratio`` is answers a second over those of the bare service."""
    rows = [r for r in report["results"] if r["system"] != UNANSWERED]
    base = {r["clients"]: r["answers_per_second"] for r in rows if r["system"] == BASE}
    how = f"medians of {report['rounds']} rounds of {report['seconds']} s, closed loop"
    lines = [
        f"{report['date']}, commit {report['commit']}, {report['machine']}; {how}.",
        "",
        "| system | clients | answers/s | ratio | p50 ms | p99 ms | wrong | empty | failed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in sorted(rows, key=lambda r: (r["clients"],)):
        ratio = r["answers_per_second"] / base[r["clients"]]
        lines.append(
            f"| {r['system']} | {r['clients']} | {r['answers_per_second']:.0f} | {ratio:.2f} "
            f"| {r['p50_ms']:.2f} | {r['p99_ms']:.2f} "
            f"| {r['wrong']} | {r['empty']} | {r['failed']} |"
        )
    lines += [
        "",
        f"The deadline, where no model answers: {DEADLINE * 1000:.0f} ms, as the client sees it.",
        "",
        "| clients | p50 ms | p99 ms | other answers |",
        "| ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r['clients']} | {r['p50_ms']:.2f} | {r['p99_ms']:.2f} | {r['failed']} |"
        for r in report["results"]
        if r["system"] == UNANSWERED
    ]
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw answers a second and latency against the number of clients."""
    figure, (rates, latencies) = plt.subplots(1, 2, figsize=(11, 4))
    systems = list(
        dict.fromkeys(row["system"] for row in report["results"] if row["system"] != UNANSWERED)
    )
    for color, system in enumerate(systems):
        rows = [row for row in report["results"] if row["system"] == system]
        clients = [row["clients"] for row in rows]
        style = {"marker": "o", "color": f"C{color}"}
        rates.plot(clients, [r["answers_per_second"] for r in rows], label=system, **style)
        latencies.plot(clients, [r["p50_ms"] for r in rows], **style)
        latencies.plot(clients, [r["p99_ms"] for r in rows], linestyle="--", **style)
    rates.set(xlabel="clients", ylabel="answers a second", xscale="log", ylim=(0, None))
    latencies.set(xlabel="clients", ylabel="ms: p50 solid, p99 dashed", xscale="log", yscale="log")
    rates.legend(fontsize="small")
    figure.suptitle(f"{report['date'][:10]}, commit {report['commit']}, {report['machine']}")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
