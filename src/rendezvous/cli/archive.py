"""``rendezvous archive``: look after archive files."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rendezvous.sink.archive import verify
from rendezvous.sink.manifest import read_manifest

if TYPE_CHECKING:
    from rendezvous.sink.manifest import Entry

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _archive() -> None:
    """Look after archive files."""


@app.command("verify")
def verify_archive(
    directory: Annotated[Path, typer.Argument(help="The archive's directory.")],
    *,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print what is wrong, only.")] = False,
) -> None:
    """Check each file of an archive against its manifest; exit code 1 when something is wrong.

    A connector may be writing to it meanwhile.
    """
    console = Console(soft_wrap=True)
    files = lines = size = findings = 0
    with Progress(
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    ) as progress:
        task = progress.add_task("verify", total=len(read_manifest(directory).entries))

        def checked(entry: Entry) -> None:
            nonlocal files, lines, size
            files, lines, size = files + 1, lines + entry.lines, size + entry.size
            progress.advance(task)

        for finding in verify(directory, checked):
            console.print(f"[red]{escape(str(finding))}[/red]")
            findings += 1
    if not quiet:
        outcome = f"[red]{findings} findings[/red]" if findings else "[green]whole[/green]"
        console.print(f"{files} files, {lines} lines, {decimal(size)}: {outcome}")
    if findings:
        raise typer.Exit(1)
