"""Docker compose on the project's file."""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.stack.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy.engine.engine import Engine

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "docker-compose.yml"
_LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the system.

    Attributes:
        service: Of the compose file.
        name: The container's own.
        state: ``running``, ``restarting``, ``exited``, ...
        health: ``healthy``, ``starting``, ``unhealthy``; empty where there is no health check.
        exit_code: Of one that has ended.
    """

    service: str
    name: str
    state: str
    health: str = ""
    exit_code: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether it does its work, or has done it."""
        if self.state == "exited":
            return self.exit_code == 0
        return self.state == "running" and self.health in {"healthy", ""}


class Running:
    """A command that runs beside us."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self._printed: list[str] = []
        # Read as it comes: a full pipe would hold the command up.
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def done(self) -> bool:
        """Return whether it has come to its end. Raises: StackError, when it has failed."""
        code = self._child.poll()
        if code:
            self._reading.join()
            raise StackError("".join(self._printed[-_LAST_LINES:]).strip() or f"exit code {code}")
        return code is not None

    def _read(self) -> None:
        if self._child.stdout is not None:
            with self._child.stdout as output:
                self._printed.extend(output)


@dataclass(frozen=True, slots=True)
class Compose:
    """The project, on an engine.

    Attributes:
        engine: Where it runs.
        profiles: Which of the optional services are meant; ``*`` for all.
        variables: Added to the environment.
        files: The compose file, and what overrides it.
    """

    engine: Engine
    profiles: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Path] = (FILE,)

    def run(self, *arguments: str) -> int:
        """Run a command whose output goes to the terminal; return its exit code."""
        return subprocess.run(  # noqa: S603 - docker, with our own arguments
            self._command(arguments), env=self._env, cwd=ROOT, check=False
        ).returncode

    def must(self, *arguments: str) -> None:
        """Run a command whose output goes to the terminal. Raises: StackError, when it fails."""
        if code := self.run(*arguments):
            raise StackError(f"docker compose {arguments[0]} failed with exit code {code}")

    def output(self, *arguments: str) -> str:
        """Run a command and return what it prints. Raises: StackError, when it fails."""
        done = subprocess.run(  # noqa: S603 - docker, with our own arguments
            self._command(arguments),
            env=self._env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(f"docker compose {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def begin(self, *arguments: str) -> Running:
        """Start a command and return at once; what it prints is kept for when it fails."""
        child = subprocess.Popen(  # noqa: S603 - docker, with our own arguments
            self._command(["--progress", "plain", *arguments]),
            env=self._env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Running(child)

    def config(self) -> dict[str, Any]:
        """Return the whole of what is meant, every variable filled in."""
        return dict(json.loads(self.output("config", "--format", "json")))

    def containers(self) -> list[Container]:
        """Return the containers that there are, of every service that is meant."""
        lines = self.output("ps", "--all", "--format", "json").splitlines()
        return [
            Container(
                each["Service"], each["Name"], each["State"], each["Health"], each["ExitCode"]
            )
            for each in map(json.loads, lines)
        ]

    def published(self) -> dict[int, str]:
        """Return the ports of this machine that are meant to lead to the system, and whose."""
        return {
            int(port["published"]): name
            for name, service in self.config()["services"].items()
            for port in service.get("ports", [])
        }

    def _command(self, arguments: Sequence[str]) -> list[str]:
        files = [f"--file={path}" for path in self.files]
        directory = f"--project-directory={ROOT}"
        return ["docker", "compose", directory, *files, *arguments]

    @property
    def _env(self) -> dict[str, str]:
        # Not as options: without any, compose would take those of the environment.
        profiles = {"COMPOSE_PROFILES": ",".join(self.profiles)}
        return {**self.engine.env, **self.variables, **profiles}
