"""The command line: ``python -m training Iris DecisionTree``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rendezvous.errors import RendezvousError
from rendezvous.model.manifest import Format  # noqa: TC001 - typer reads it
from training.datasets import DatasetName  # noqa: TC001 - typer reads it
from training.estimators import KindName  # noqa: TC001 - typer reads it
from training.train import Plan, Trained, train

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(  # noqa: PLR0913, PLR0917 - typer makes an option of each
    dataset: Annotated[DatasetName, typer.Argument(help="What to learn from.")],
    kind: Annotated[KindName, typer.Argument(help="What to learn with.")],
    name: Annotated[str | None, typer.Option(help="The model's name (default: lr, dt, rf)")] = None,
    version: Annotated[
        int | None, typer.Option(min=0, help="Its version (default: 0 of lr, 1 of dt, 2 of rf)")
    ] = None,
    models_dir: Annotated[Path, typer.Option(help="Where bundles lie.")] = Path("models"),
    file_format: Annotated[
        Format, typer.Option("--format", help="Of the model's file; joblib is a pickle.")
    ] = "onnx",
    seed: Annotated[int, typer.Option(min=0, help="Of every random choice.")] = 0,
    test_share: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Share of the rows that is held out.")
    ] = 0.2,
    trees: Annotated[int, typer.Option(min=1, help="Trees of a forest.")] = 100,
    replace: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--replace", help="Put it in the place of an earlier one.")
    ] = False,
) -> None:
    """Train a model, print how good it is on held-out rows, and where its bundle lies."""
    plan = Plan(
        dataset=dataset, kind=kind, name=name, version=version,
        format=file_format, seed=seed, test_share=test_share, trees=trees,
    )  # fmt: skip
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), transient=True) as progress:
        task = progress.add_task(f"{kind} on {dataset}", total=None)
        trained = train(
            plan,
            models_dir,
            lambda done, of: progress.update(task, completed=done, total=of),
            replace=replace,
        )
    typer.echo(summary(trained))


def summary(trained: Trained) -> str:
    """Return what to tell of a model that was trained."""
    manifest = trained.manifest
    rows = int(manifest.metrics["held_out_rows"])
    figures = ", ".join(
        f"{name.replace('_', ' ')} {value:.4f}"
        for name, value in manifest.metrics.items()
        if name != "held_out_rows"
    )
    return (
        f"{manifest.name} version {manifest.version}: {figures} on {rows} held-out rows\n"
        f"bundle: {trained.path}"
    )


if __name__ == "__main__":
    try:
        app()
    except RendezvousError as error:
        typer.secho(f"training: {error}", fg="red", err=True)
        raise SystemExit(1) from error
