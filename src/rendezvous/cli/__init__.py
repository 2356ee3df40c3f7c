"""The command line: ``rendezvous``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rendezvous.cli import archive, indices, kibana, models
from rendezvous.errors import RendezvousError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(archive.app, name="archive", help="Look after archive files.")
app.add_typer(kibana.app, name="kibana", help="Look after the dashboards in Kibana.")
app.add_typer(indices.app, name="indices", help="Look after the indices on Elasticsearch.")
app.command("models")(models.list_models)


@app.callback()
def _rendezvous() -> None:
    """Serve every version of a model at once; answer with the best score within the deadline."""


@app.command()
def run(
    bus: Annotated[
        str, typer.Option(help="memory:// or pulsar://host:port; where requests travel.")
    ] = "memory://",
    elasticsearch: Annotated[
        str | None, typer.Option(help="URL of an Elasticsearch to archive in, beside the files.")
    ] = None,
    config: Annotated[Path, typer.Option(help="What is served.")] = Path("rendezvous.yaml"),
    archive_dir: Annotated[Path, typer.Option(help="Where the archive files go.")] = Path(
        "archive"
    ),
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
) -> None:
    """Run everything in this process: front end, models, decoy and connectors.

    Trains the models whose bundles are missing first. Settings of the front end are read from the
    environment too (RENDEZVOUS_PORT, RENDEZVOUS_LOG_LEVEL, ...); an option given here wins.
    """
    from rendezvous.cli.run import run_everything  # noqa: PLC0415 - the others need no server

    run_everything(
        bus=bus,
        elasticsearch=elasticsearch,
        config=config,
        archive_dir=archive_dir,
        host=host,
        port=port,
    )


def main() -> None:
    """Run the command line; an expected error is one line, and exit code 1."""
    try:
        app()
    except RendezvousError as error:
        typer.secho(f"rendezvous: {error}", fg="red", err=True)
        raise SystemExit(1) from error
