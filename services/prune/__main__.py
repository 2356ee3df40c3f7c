"""Run the job that deletes old dated indices: ``python -m services.prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous.errors import RendezvousError
from rendezvous.service import run_service
from rendezvous.settings import PruneSettings, read
from rendezvous.sink.prune import Pruner

if TYPE_CHECKING:
    from rendezvous.bus.port import Bus
    from rendezvous.service import Run
    from rendezvous.telemetry import Metrics

NO_BUS = "memory://"
"""It talks to Elasticsearch only; a service has a bus, so it gets one that needs nothing."""


def main() -> None:
    settings = read(PruneSettings)

    def build(bus: Bus, metrics: Metrics) -> Run:  # noqa: ARG001 - it has no use for a bus
        metrics.reading("prune", (), now=True)  # no topics to wait for: ready while it lives
        return Pruner(
            url=settings.elasticsearch,
            names=settings.index,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            keep_days=settings.keep_days,
            apply=settings.prune_apply,
            every=settings.prune_every,
        ).run

    run_service("prune job", settings.model_copy(update={"bus": NO_BUS}), build)


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"prune job: {error}") from error
