"""``rendezvous indices``: look after the indices on Elasticsearch."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from rendezvous.sink.dated import LONGEST_KEPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rendezvous.settings import PruneSettings
    from rendezvous.sink.indices import Index
    from rendezvous.sink.prune import Outcome

app = typer.Typer(no_args_is_help=True)

Url = Annotated[
    str | None, typer.Option(help="URL of Elasticsearch; else RENDEZVOUS_ELASTICSEARCH.")
]
Names = Annotated[
    str | None,
    typer.Option(help="Indices without a date, separated by commas; else RENDEZVOUS_INDEX."),
]


@app.callback()
def _indices() -> None:
    """Look after the indices on Elasticsearch.

    The API key, where security is on, is read from RENDEZVOUS_ELASTICSEARCH_API_KEY.
    """


@app.command("list")
def list_indices(elasticsearch: Url = None, index: Names = None) -> None:
    """List the indices: each itself, its dated ones, and that of undated records."""
    settings = _settings(elasticsearch, index)
    found = asyncio.run(_find(settings))
    table = _table()
    for each in found:
        table.add_row(*_cells(each, datetime.now(UTC)))
    _print(table, f"{len(found)} indices, {_sums(found)}")


@app.command("prune")
def prune_indices(
    keep_days: Annotated[
        int,
        typer.Option(min=1, max=LONGEST_KEPT, help="Days to keep an index after its period ended."),
    ],
    elasticsearch: Url = None,
    index: Names = None,
    *,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Delete, or only say what would be deleted.")
    ] = False,
) -> None:
    """Delete whole dated indices whose day or month ended more than so many days ago.

    Without --apply it only says which. An index without a date, and that of undated records, are
    never deleted. Exit code 1 when one that is due could not be deleted.
    """
    settings = _settings(elasticsearch, index)
    now = datetime.now(UTC)
    outcomes = asyncio.run(_prune(settings, keep_days, now, apply=apply))
    table = _table("action")
    for outcome in outcomes:
        text = f"[red]failed: {escape(outcome.reason)}[/red]"
        action = text if outcome.action == "failed" else outcome.action
        table.add_row(*_cells(outcome.index, now), action)
    done = "deleted" if apply else "would delete"
    gone = [outcome.index for outcome in outcomes if outcome.action == done]
    hint = "" if apply else "; nothing was deleted, which takes --apply"
    _print(table, f"{done} {len(gone)} of {len(outcomes)} indices, {_sums(gone)}{hint}")
    if any(outcome.action == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _settings(elasticsearch: str | None, index: str | None) -> PruneSettings:
    """Return the settings of the environment; an option wins. Raises: ConfigurationError."""
    from rendezvous.settings import PruneSettings, read  # noqa: PLC0415 - the help needs none

    settings = read(PruneSettings)
    if elasticsearch is not None:
        settings = settings.model_copy(update={"elasticsearch": elasticsearch})
    if index is not None:
        names = tuple(name.strip() for name in index.split(","))
        settings = settings.model_copy(update={"index": names})
    return settings


def _key(settings: PruneSettings) -> str | None:
    return settings.api_key.get_secret_value() if settings.api_key else None


async def _find(settings: PruneSettings) -> list[Index]:
    from rendezvous.sink.indices import opened  # noqa: PLC0415 - needs the `elastic` extra

    async with opened(settings.elasticsearch, settings.index, _key(settings)) as indices:
        return await indices.find(settings.index)


async def _prune(
    settings: PruneSettings, keep_days: int, now: datetime, *, apply: bool
) -> list[Outcome]:
    from rendezvous.sink.indices import opened  # noqa: PLC0415 - needs the `elastic` extra
    from rendezvous.sink.prune import prune  # noqa: PLC0415 - as above

    async with opened(settings.elasticsearch, settings.index, _key(settings)) as indices:
        return await prune(indices, settings.index, keep_days=keep_days, now=now, apply=apply)


def _table(*more: str) -> Table:
    table = Table()
    table.add_column("index", overflow="fold")
    for name in ("documents", "size", "age"):
        table.add_column(name, justify="right")
    for name in more:
        table.add_column(name, overflow="fold")
    return table


def _cells(index: Index, now: datetime) -> list[str]:
    documents = "closed" if index.documents is None else f"{index.documents:,}"
    size = "" if index.size is None else decimal(index.size)
    return [escape(index.name), documents, size, _age(index.end, now)]


def _age(end: datetime | None, now: datetime) -> str:
    if end is None:
        return ""
    return f"{(now - end).days} days" if end <= now else "current"


def _sums(indices: Sequence[Index]) -> str:
    documents = sum(index.documents or 0 for index in indices)
    return f"{documents:,} documents, {decimal(sum(index.size or 0 for index in indices))}"


def _print(table: Table, last_line: str) -> None:
    console = Console()
    if table.row_count:
        console.print(table)
    console.print(last_line, soft_wrap=True, highlight=False)
