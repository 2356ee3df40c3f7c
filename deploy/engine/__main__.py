"""``python -m deploy.engine up|down|status``: a Docker engine, where none runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING

from deploy.engine.engine import Private, find
from deploy.engine.errors import EngineError, EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.engine.engine import Engine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 when it failed or, for ``status``, no engine answers."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.engine", description="A Docker engine, where none runs."
    )
    parser.add_argument("action", choices=("up", "down", "status"))
    action = parser.parse_args(arguments).action
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        {"up": _up, "down": _down, "status": _status}[action]()
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _up() -> None:
    try:
        engine = find()
    except EngineUnavailable:
        engine = Private().start()
    _tell(engine)


def _down() -> None:
    private = Private()
    if private.pid is None:
        _say("no engine of ours runs")
        return
    private.stop()
    _say(f"the engine is stopped; its images and volumes stay in {private.folder}")


def _status() -> None:
    _tell(find())


def _tell(engine: Engine) -> None:
    version = engine.must("version", "--format", "{{.Server.Version}}").strip()
    _say(f"a Docker engine, version {version}, answers")
    if engine.host:
        other = os.environ.get("DOCKER_HOST", engine.host) not in {"", engine.host}
        for_whom = (
            "DOCKER_HOST names another one; to use this one"
            if other
            else "the targets of make find it; for docker itself"
        )
        _say(f"{for_whom}: export DOCKER_HOST={engine.host}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
