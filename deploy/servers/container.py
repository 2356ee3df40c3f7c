"""A server in a container, from an image that is already on this machine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.servers.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

ENGINES = ("docker", "podman")
# What a server in a container listens on; its ports are published on the loopback interface only.
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - inside the container
_STOP_SECONDS = "30"


@dataclass(frozen=True, slots=True)
class Image:
    """An image, and the engine that has it."""

    engine: str
    reference: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How a container is made.

    Attributes:
        options: Of ``create``.
        command: What runs in it; empty: what the image says.
        files: By their path in the container: the files of this machine that it gets.
        data: Its data folder, which a volume keeps.
    """

    options: Sequence[str]
    command: Sequence[str]
    files: Mapping[str, Path]
    data: str


def local_image(reference: str) -> Image | None:
    """Return ``reference`` if an engine runs here and has it already; nothing is pulled."""
    return choose(reference, filter(shutil.which, ENGINES), _has)


def choose(reference: str, engines: Iterable[str], has: Callable[[str, str], bool]) -> Image | None:
    """Return the image from the first of ``engines`` that has it, or None."""
    return next((Image(engine, reference) for engine in engines if has(engine, reference)), None)


def _has(engine: str, reference: str) -> bool:
    return _run(engine, "image", "inspect", reference).returncode == 0


@dataclass(frozen=True, slots=True)
class Container:
    """The container ``name`` from ``image``; its data is in the volume of the same name."""

    image: Image
    name: str

    def pid(self) -> int | None:
        """Return the pid of its first process, or None when it does not run."""
        asked = self._engine("inspect", "--format", "{{.State.Pid}}", self.name)
        return (int(asked.stdout) or None) if asked.returncode == 0 else None

    def launch(self, plan: Plan) -> None:
        """Make it anew, with the data it had, and start it.

        Raises:
            ServerError: The engine refused; the text has its words.
        """
        self._engine("rm", "--force", self.name)
        volume = f"{self.name}:{plan.data}"
        # It needs no names from outside; on a machine without network it would wait for them.
        options = ["--name", self.name, "--volume", volume, "--dns", "127.0.0.1", *plan.options]
        self._must("create", *options, self.image.reference, *plan.command)
        for path, file in plan.files.items():
            self._must("cp", str(file), f"{self.name}:{path}")
        self._must("start", self.name)

    def terminate(self) -> None:
        """End it in order; after 30 s it is killed."""
        self._engine("stop", "--time", _STOP_SECONDS, self.name)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._engine("kill", self.name)

    def remove(self) -> None:
        """Delete it and its data."""
        self._engine("rm", "--force", self.name)
        self._engine("volume", "rm", "--force", self.name)

    def log(self) -> str:
        """Return the end of what it printed."""
        printed = self._engine("logs", "--tail", "50", self.name)
        return printed.stdout + printed.stderr

    def _must(self, *arguments: str) -> None:
        done = self._engine(*arguments)
        if done.returncode != 0:
            raise ServerError(f"{self.image.engine} {arguments[0]} failed: {done.stderr.strip()}")

    def _engine(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run(self.image.engine, *arguments)


def _run(engine: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - a container engine, with our own arguments
        [engine, *arguments], capture_output=True, text=True, check=False
    )
