"""Run the front end: ``python -m services.front_end``."""

from __future__ import annotations

import sys

from rendezvous.configuration import load
from rendezvous.errors import RendezvousError
from rendezvous.listening import bind
from rendezvous.settings import FrontEndSettings, read
from rendezvous.telemetry import configure_logging
from rendezvous.workers import Workers, place


def main() -> None:
    settings = read(FrontEndSettings)
    configure_logging(settings.log_level, settings.log_format)
    configuration = load(settings.config)
    here = place(sys.argv[1:])
    if settings.workers == 1 or here is not None:
        # not before: who only keeps the workers needs neither HTTP nor a bus
        from services.front_end.serving import serve_here  # noqa: PLC0415 - see above

        serve_here(configuration, settings, here)
        return
    with bind(settings.host, settings.port) as bound:
        command = [sys.executable, "-m", "services.front_end"]
        if code := Workers(command, settings.workers, bound).run():
            raise SystemExit(code)


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"front end: {error}") from error
