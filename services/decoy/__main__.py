"""Run the decoy: ``python -m services.decoy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous.errors import RendezvousError
from rendezvous.model.decoy import Decoy
from rendezvous.service import run_service
from rendezvous.settings import DecoySettings, read

if TYPE_CHECKING:
    from rendezvous.bus.port import Bus
    from rendezvous.service import Run
    from rendezvous.telemetry import Metrics


def main() -> None:
    settings = read(DecoySettings)

    def build(bus: Bus, metrics: Metrics) -> Run:
        topics, output = settings.topics, settings.decoy_topic
        return Decoy(bus, topics, output, settings.name, metrics).run

    run_service("decoy", settings, build)


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"decoy: {error}") from error
