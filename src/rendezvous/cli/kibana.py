"""``rendezvous kibana``: the dashboards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _kibana() -> None:
    """Look after the dashboards in Kibana."""


@app.command("install")
def install(
    *,
    kibana: Annotated[
        str, typer.Option(help="URL of the Kibana, http(s)://host:port.")
    ] = "http://127.0.0.1:5601",
    file: Annotated[Path, typer.Option(help="Saved objects, one a line.")] = Path(
        "deploy/dashboards/kibana/rendezvous.ndjson"
    ),
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds in which Kibana must be available.")
    ] = 60.0,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="RENDEZVOUS_KIBANA_API_KEY",
            help="API key, where security is on; better given in the environment.",
        ),
    ] = None,
) -> None:
    """Bring data views, searches and dashboards into a Kibana; those of before are overwritten."""
    from rendezvous.kibana import Kibana  # noqa: PLC0415 - needs the `elastic` extra

    console = Console(soft_wrap=True)
    for each in Kibana(kibana, api_key).install(file, wait=wait):
        console.print(f"{escape(each.type)} {escape(each.id)}: {escape(each.meta.title)}")
