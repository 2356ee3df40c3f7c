"""``python -m deploy.servers``: a real Pulsar and Elasticsearch on this machine.

python -m deploy.servers pulsar up|down|restart|kill9|status [--port N] [--http-port N]
python -m deploy.servers elasticsearch up|down|restart|kill9|status [--port N]
python -m deploy.servers down

Where `RENDEZVOUS_TEST_PULSAR_URL` or `RENDEZVOUS_TEST_ELASTICSEARCH_URL` names a running one, `up`
starts none.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.servers import elasticsearch, pulsar
from deploy.servers.elasticsearch import Elasticsearch
from deploy.servers.errors import ServerError
from deploy.servers.pulsar import Pulsar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.servers.server import Server

_ROOT = Path(__file__).resolve().parent.parent.parent
_ACTIONS = ("up", "down", "restart", "kill9", "status")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 when it failed or, for ``status``, the server is not up."""
    args = _parser().parse_args(arguments)
    _log_to_stdout()
    try:
        return _run(args)
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.servers", description="A real Pulsar and Elasticsearch on 127.0.0.1."
    )
    commands = parser.add_subparsers(dest="what", required=True)
    both = commands.add_parser("down", help="stop both")
    of_pulsar = commands.add_parser("pulsar", help=f"{Pulsar.product}")
    of_pulsar.add_argument("action", choices=_ACTIONS)
    of_pulsar.add_argument("--port", type=int, help=f"default {pulsar.DEFAULT_PORT}")
    of_pulsar.add_argument("--http-port", type=int, help=f"default {pulsar.DEFAULT_HTTP_PORT}")
    of_elasticsearch = commands.add_parser("elasticsearch", help=f"{Elasticsearch.product}")
    of_elasticsearch.add_argument("action", choices=_ACTIONS)
    of_elasticsearch.add_argument("--port", type=int, help=f"default {elasticsearch.DEFAULT_PORT}")
    for command in (both, of_pulsar, of_elasticsearch):
        command.add_argument(
            "--directory",
            type=Path,
            default=_ROOT / ".servers",
            help="where the servers keep their data (default: .servers in the project)",
        )
    return parser


def _run(args: argparse.Namespace) -> int:
    if args.what == "down":
        for server in (Pulsar(args.directory / "pulsar"), _elasticsearch(args.directory)):
            _down(server)
        return 0
    known = _known(args)
    if args.action == "status":
        return _status(known)
    if args.action == "down":
        _down(known)
    elif args.action == "kill9":
        known.kill9()
    elif args.action == "restart":
        known.restart()
    else:
        _up(known, args)
    return 0


def _elasticsearch(directory: Path) -> Server:
    return Elasticsearch(directory / "elasticsearch")


def _known(args: argparse.Namespace) -> Server:
    """Return the server as its directory remembers it."""
    if args.what == "pulsar":
        return Pulsar(args.directory / "pulsar")
    return _elasticsearch(args.directory)


def _up(known: Server, args: argparse.Namespace) -> None:
    if url := os.environ.get(known.url_variable):
        if not known.answers(url):
            raise ServerError(
                f"{known.product} does not answer at {url}, which {known.url_variable} names"
            )
        _say(f"using the one at {url}")
        return
    if known.pid is not None and known.is_healthy():
        _say(f"already up at {known.url}")
        return
    _wanted(args).start()


def _wanted(args: argparse.Namespace) -> Server:
    """Return the server with the ports that were asked for, else the default ones."""
    if args.what == "pulsar":
        port = args.port or pulsar.DEFAULT_PORT
        http_port = args.http_port or pulsar.DEFAULT_HTTP_PORT
        return Pulsar(args.directory / "pulsar", port, http_port)
    return Elasticsearch(args.directory / "elasticsearch", args.port or elasticsearch.DEFAULT_PORT)


def _down(server: Server) -> None:
    if server.pid is None:
        _say(f"{server.product} is not up")
        return
    server.stop()
    _say(f"{server.product} is stopped; its data stays in {server.directory}")


def _status(server: Server) -> int:
    if server.pid is None:
        _say(f"{server.product} is not up")
        return 1
    state = "up" if server.is_healthy() else "started but not ready"
    _say(f"{server.product} is {state} at {server.url}: {server.runs_from}, pid {server.pid}")
    return 0 if state == "up" else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _log_to_stdout() -> None:
    """Show what the servers log, as it comes."""
    progress = logging.getLogger("deploy.servers")
    progress.setLevel(logging.INFO)
    progress.addHandler(logging.StreamHandler(sys.stdout))


if __name__ == "__main__":
    sys.exit(main())
