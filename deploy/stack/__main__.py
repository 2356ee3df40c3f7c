"""``python -m deploy.stack up|down|clean|logs|ps``: the whole system in containers."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from deploy.engine.engine import find
from deploy.engine.errors import EngineUnavailable
from deploy.stack.compose import Compose
from deploy.stack.up import start
from rendezvous.errors import RendezvousError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 when it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.stack", description="The whole system in containers."
    )
    parser.add_argument("action", choices=("up", "down", "clean", "logs", "ps"))
    action = parser.parse_args(arguments).action
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        return {"up": _up, "down": _down, "clean": _clean, "logs": _logs, "ps": _ps}[action]()
    except RendezvousError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _up() -> int:
    start()
    return 0


def _down() -> int:
    return _whole().run("down", "--remove-orphans")


def _clean() -> int:
    try:
        compose = _whole()
    except EngineUnavailable:
        return 0  # no engine, so nothing of it is there
    return compose.run("down", "--remove-orphans", "--volumes")


def _logs() -> int:
    return _whole().run("logs", "--follow", "--tail", "100")


def _ps() -> int:
    return _whole().run("ps", "--all")


def _whole() -> Compose:
    return Compose(find(), ["*"])


if __name__ == "__main__":
    sys.exit(main())
