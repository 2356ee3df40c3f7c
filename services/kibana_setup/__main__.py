"""Bring the dashboards into Kibana, and end: ``python -m services.kibana_setup``."""

from __future__ import annotations

import logging

from rendezvous.errors import RendezvousError
from rendezvous.kibana import Kibana
from rendezvous.settings import KibanaSetupSettings, read
from rendezvous.telemetry import configure_logging

log = logging.getLogger(__name__)


def main() -> None:
    settings = read(KibanaSetupSettings)
    configure_logging(settings.log_level, settings.log_format)
    api_key = settings.api_key.get_secret_value() if settings.api_key else None
    stored = Kibana(settings.kibana, api_key).install(settings.objects, wait=settings.wait)
    for each in stored:
        log.info("Kibana has %s %s: %s", each.type, each.id, each.meta.title)


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"Kibana setup: {error}") from error
