"""``rendezvous models``: which bundles there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rendezvous.errors import BundleError


def list_models(
    directory: Annotated[Path, typer.Argument(help="Where bundles lie.")] = Path("models"),
) -> None:
    """List the bundles below a directory, with their figures; damaged ones are named as such."""
    from rendezvous.model.bundle import read_manifest  # noqa: PLC0415 - needs the `model` extra

    table = Table("model", "version", "kind", "format", "metrics", "made")
    for path in sorted(directory.glob("*/*/manifest.json")):
        try:
            m = read_manifest(path.parent)
        except BundleError as error:
            table.add_row(
                path.parent.parent.name, path.parent.name, f"[red]{escape(str(error))}[/red]"
            )
            continue
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in m.metrics.items())
        made = f"{m.created:%Y-%m-%d %H:%M}"
        table.add_row(m.name, str(m.version), m.output.kind, m.format, metrics, made)
    Console().print(table if table.row_count else f"no bundles below {directory}")
