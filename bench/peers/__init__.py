"""Other servers of models, each in an environment of its own, with one decision tree on Iris."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers.recipes import RECIPES
from bench.peers.tree import descendants
from deploy.servers.locking import locked
from rendezvous.testing.processes import Process, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PEERS = tuple(RECIPES)
FOLDER = Path(__file__).resolve().parent
_ROOT = FOLDER.parent.parent
_COMPLETE = ".complete"
_READY_SECONDS = 120.0
_LAST_CHARACTERS = 3000


class PeerFailed(Exception):  # noqa: N818 - as the project's own errors, it says what happened
    """A peer cannot be installed, or does not answer rightly. The text names it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that runs, as its load needs to know it.

    Attributes:
        name: One of `PEERS`.
        path: HTTP path that takes its POST requests.
        bodies: For each input of the load the request's JSON body, and what occurs in the body of
            the right answer and in no other.
    """

    name: str
    path: str
    bodies: tuple[tuple[bytes, bytes], ...]


def peer(name: str) -> Peer:
    """Return one by its name."""
    recipe = RECIPES[name]
    return Peer(name, recipe.path, recipe.bodies())


def requirements(name: str) -> Path:
    """Return the file of what is installed for a peer, with exact versions."""
    return FOLDER / "requirements" / f"{name}.txt"


def version(name: str) -> str:
    """Return the peer's pinned version: that of its first requirement."""
    return requirements(name).read_text(encoding="utf-8").splitlines()[0].partition("==")[2]


def install(name: str) -> Path:
    """Return the Python of the peer's environment; make it when it is not there whole.

    Environments are kept in ``peers`` below ``RENDEZVOUS_CACHE``, or below the user's cache.

    Raises:
        PeerFailed: There is no uv, or it could not install.
    """
    wanted = requirements(name).read_bytes() + sys.version.encode()
    environment = _cache() / f"{name}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = environment / "bin" / "python"
    with locked(environment.with_suffix(".lock")):
        if not (environment / _COMPLETE).exists():
            print(f"installing {name} {version(name)} into {environment} ...", flush=True)
            _uv(name, "venv", "--clear", "--python", sys.executable, environment)
            _uv(name, "pip", "install", "--python", python, "-r", requirements(name))
            (environment / _COMPLETE).touch()
    return python


def _cache() -> Path:
    named = os.environ.get("RENDEZVOUS_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "rendezvous") / "peers"


def _uv(name: str, *arguments: str | Path) -> None:
    uv = shutil.which("uv") or str(_ROOT / ".tools" / "bin" / "uv")
    try:
        done = subprocess.run(
            [uv, *arguments],
            cwd=tempfile.gettempdir(),  # where no project's settings are in reach
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise PeerFailed(f"{name} cannot be installed without uv; `make setup` gets it") from error
    if done.returncode != 0:
        raise PeerFailed(
            f"{name} cannot be installed on Python {sys.version.split()[0]}, {sys.platform}:\n"
            + done.stdout[-_LAST_CHARACTERS:]
        )


@contextmanager
def serve(name: str, logs: Path) -> Iterator[tuple[Peer, int, list[int]]]:
    """Run a peer inside the block: yield it, its port on 127.0.0.1 and the ids of its processes.

    At the end none of its processes is left, nor what it wrote, save for its log.

    Args:
        name: One of `PEERS`.
        logs: Folder of its log.

    Raises:
        PeerFailed: It cannot be installed, ended, or did not answer rightly in time.
    """
    environment = install(name).parent.parent
    wanted, recipe = peer(name), RECIPES[name]
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as scratch:
        port = free_port()
        values = {
            "folder": str(FOLDER / name),
            "scratch": scratch,
            "port": str(port),
            "second": str(free_port()),
            "third": str(free_port()),
        }
        env = {
            "HOME": scratch,  # what a peer keeps for its user goes there
            "TMPDIR": scratch,
            "VIRTUAL_ENV": str(environment),
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            **{key: value.format_map(values) for key, value in recipe.env.items()},
        }

        def command(words: Sequence[str]) -> list[str]:
            program, *rest = (word.format_map(values) for word in words)
            return [str(environment / "bin" / program), *rest]

        if recipe.before:
            subprocess.run(
                command(recipe.before), cwd=scratch, env={**os.environ, **env}, check=True
            )
        arguments = [str(FOLDER / "tree.py"), scratch, *command(recipe.command)]
        process = Process(name, arguments, logs, _ROOT, env)
        with running([process]):
            _wait_right(process, wanted, port)
            yield wanted, port, descendants(process.running.pid)


def _wait_right(process: Process, wanted: Peer, port: int) -> None:
    until = time.monotonic() + _READY_SECONDS
    while process.running.poll() is None and time.monotonic() < until:
        if all(mark in _answer(port, wanted.path, body) for body, mark in wanted.bodies):
            return
        time.sleep(0.1)
    log = process.log()[-_LAST_CHARACTERS:]
    raise PeerFailed(f"{wanted.name} does not answer rightly on port {port}:\n{log}")


def _answer(port: int, path: str, body: bytes) -> bytes:
    """Return the body of an answer of status 200; nothing for any other, or none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
    return content if response.status == HTTPStatus.OK else b""
