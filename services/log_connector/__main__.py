"""Run the connector to archive files: ``python -m services.log_connector``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous.errors import RendezvousError
from rendezvous.service import run_service
from rendezvous.settings import LogConnectorSettings, read
from rendezvous.sink.files import FileSink
from rendezvous.sink.runner import Connector

if TYPE_CHECKING:
    from rendezvous.bus.port import Bus
    from rendezvous.service import Run
    from rendezvous.telemetry import Metrics


def main() -> None:
    settings = read(LogConnectorSettings)

    def build(bus: Bus, metrics: Metrics) -> Run:
        return Connector(
            bus,
            FileSink(settings.output_dir),
            settings.topics,
            group=settings.group or "log-connector",
            threshold=settings.threshold,
            timeout=settings.timeout,
            observer=metrics,
        ).run

    run_service("log connector", settings, build)


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"log connector: {error}") from error
