"""The engine that commands go to, and a private one that this project starts and stops itself."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.engine.errors import EngineError, EngineUnavailable
from deploy.engine.packages import install_engine
from deploy.servers.locking import locked
from deploy.servers.process import DetachedProcess, Launch
from deploy.servers.server import last_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger(__name__)
READY_SECONDS = 60.0
_POLL_SECONDS = 0.2
_LONGEST_SOCKET_PATH = 100
"""Characters; the system allows few more."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine.

    Attributes:
        host: What DOCKER_HOST must be to reach it; None: nothing, it is where docker looks.
    """

    host: str | None = None

    @property
    def env(self) -> Mapping[str, str]:
        """All variables for a process that is to use it."""
        return {**os.environ, "DOCKER_HOST": self.host} if self.host else dict(os.environ)

    def answers(self) -> bool:
        """Return whether an engine is at work there."""
        return self.run("info").returncode == 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``docker`` with ``arguments``, and return what it said."""
        return subprocess.run(  # noqa: S603 - docker, with our own arguments
            ["docker", *arguments],  # noqa: S607 - whichever docker the user has
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def must(self, *arguments: str) -> str:
        """Run ``docker`` with ``arguments``, and return what it printed.

        Raises:
            EngineError: It failed; the text has its words.
        """
        done = self.run(*arguments)
        if done.returncode != 0:
            raise EngineError(f"docker {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def has(self, image: str) -> bool:
        """Return whether it has an image already."""
        return self.run("image", "inspect", image).returncode == 0


def find() -> Engine:
    """Return the engine that is there: DOCKER_HOST's, docker's own, or our private one.

    Raises:
        EngineUnavailable: There is none, or docker or its compose plugin is missing.
    """
    if shutil.which("docker") is None:
        raise EngineUnavailable(
            "there is no docker: install Docker Engine 25 or newer with its compose plugin, or, on"
            " Debian and as root, run `make engine`"
        )
    engine = _running()
    if engine is None:
        where = os.environ.get("DOCKER_HOST")
        at = f" at {where}, which DOCKER_HOST names" if where else ""
        raise EngineUnavailable(
            f"no Docker engine answers{at}: start it (`systemctl start docker`, or Docker Desktop),"
            " or, on Debian and as root, run `make engine`"
        )
    if engine.run("compose", "version").returncode != 0:
        raise EngineUnavailable(
            "docker has no compose plugin: install docker-compose-plugin (Debian: docker-compose,"
            " version 2.24 or newer)"
        )
    return engine


def _running() -> Engine | None:
    candidates = [Engine()]
    if not os.environ.get("DOCKER_HOST"):
        candidates.append(Private().engine)
    return next((engine for engine in candidates if engine.answers()), None)


class Private:
    """An engine of our own, with its images and containers in a folder of its own.

    Args:
        folder: Where; None: ``RENDEZVOUS_ENGINE``, else below the user's cache, so that images
            outlive a checkout.
    """

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get("RENDEZVOUS_ENGINE")
        default = Path(named) if named else Path.home() / ".cache" / "rendezvous" / "engine"
        self.folder = (folder or default).absolute()
        self._process = DetachedProcess(self.folder, f"{self.folder}{os.sep}")

    @property
    def engine(self) -> Engine:
        """How it is reached."""
        return Engine(f"unix://{self.folder / 'docker.sock'}")

    @property
    def pid(self) -> int | None:
        """Its process, or None when it does not run."""
        return self._process.pid()

    def start(self) -> Engine:
        """Install what is missing, start it, and return when it answers.

        Raises:
            EngineUnavailable: This machine lacks what it takes.
            EngineError: It did not get ready; the text has the end of its log.
        """
        if len(str(self.folder / "docker.sock")) > _LONGEST_SOCKET_PATH:
            raise EngineError(f"{self.folder}: too long for a socket; set RENDEZVOUS_ENGINE")
        with locked(self.folder / "lock"):
            if self.pid is None:
                self._launch()
            self._await_ready()
        return self.engine

    def stop(self) -> None:
        """Stop its containers and it; its images and volumes stay."""
        self._process.terminate()

    def _launch(self) -> None:
        if shutil.which("dockerd") is None or self._lacks_plugins():
            install_engine()
        if os.geteuid() != 0:
            raise EngineUnavailable("starting a Docker engine takes root: run it as root")
        _LOG.info("starting a Docker engine in %s", self.folder)
        # Left behind by one that was killed.
        for name in ("dockerd.pid", "docker.sock"):
            (self.folder / name).unlink(missing_ok=True)
        daemon = shutil.which("dockerd") or "dockerd"
        command = [daemon, "--host", self.engine.host or ""]
        for option, name in {
            "--data-root": "data", "--exec-root": "exec", "--pidfile": "dockerd.pid"
        }.items():  # fmt: skip
            command += [option, str(self.folder / name)]
        self._process.launch(Launch(command, self.folder))

    def _lacks_plugins(self) -> bool:
        return any(Engine().run(name, "version").returncode != 0 for name in ("compose", "buildx"))

    def _await_ready(self) -> None:
        until = time.monotonic() + READY_SECONDS
        while not self.engine.answers():
            if self.pid is None or time.monotonic() > until:
                log = last_lines(self._process.output)
                raise EngineError(f"the Docker engine did not get ready:\n{log}")
            time.sleep(_POLL_SECONDS)
