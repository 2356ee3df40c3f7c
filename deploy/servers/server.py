"""What every server has in common: start, wait until it is ready, stop, kill, be found again."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import shutil
import time
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from deploy.servers.container import Container, Image, Plan, local_image
from deploy.servers.distribution import Distribution, fetch
from deploy.servers.errors import ServerError
from deploy.servers.java import Java, find
from deploy.servers.locking import locked
from deploy.servers.ports import in_use, lasting_port
from deploy.servers.process import DetachedProcess, Launch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

_LOG = logging.getLogger(__name__)
READY_SECONDS = 120.0
_POLL_SECONDS = 0.1
_LAST_LINES = 40


@dataclass(frozen=True, slots=True)
class State:
    """What a directory remembers of its server, in ``server.json``.

    Attributes:
        ports: By name; some are part of the identity of the data.
        image: The container image it runs from; None: it is a Java process.
    """

    ports: Mapping[str, int]
    image: Image | None = None

    def dumps(self) -> str:
        """Return it as JSON."""
        image = [self.image.engine, self.image.reference] if self.image else None
        return json.dumps({"ports": dict(self.ports), "image": image})

    @classmethod
    def loads(cls, text: str) -> State:
        """Read what `dumps` wrote."""
        read = json.loads(text)
        return cls(read["ports"], Image(*read["image"]) if read["image"] else None)


class Server(ABC):
    """A server on the loopback interface whose data is in a directory of its own.

    Several objects, also in several processes, may stand for the same directory. Used in a
    ``with`` block it runs inside the block.

    Args:
        directory: For data, configuration and logs; made when it is not there. What it holds
            outlives `stop` and `kill9`.
        ports: By name; None: the one that the directory remembers, else a free one.
    """

    name: ClassVar[str]
    product: ClassVar[str]
    url_variable: ClassVar[str]
    image_variable: ClassVar[str]
    default_image: ClassVar[str]
    distribution: ClassVar[Distribution]
    minimum_java: ClassVar[int]

    def __init__(self, directory: Path, ports: Mapping[str, int | None]) -> None:
        self.directory = directory.resolve()
        self._wanted = ports
        self._state = self._recall()
        known = self._state.ports if self._state else {}
        self.ports: Mapping[str, int] = {
            name: port or known.get(name) or lasting_port() for name, port in ports.items()
        }

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it."""

    @staticmethod
    @abstractmethod
    def answers(url: str) -> bool:
        """Return whether a server of this kind, whoever started it, is at work at ``url``."""

    @abstractmethod
    def is_healthy(self) -> bool:
        """Return whether it does its work at present."""

    @abstractmethod
    def prepare_process(self) -> Launch:
        """Write its configuration, and return how it is started as a Java process.

        Raises:
            ServerUnavailable: Java, Maven or the network is missing.
        """

    @abstractmethod
    def prepare_container(self) -> Plan:
        """Write its configuration, and return how it is started in a container."""

    @abstractmethod
    def log_files(self) -> list[Path]:
        """Return the log files of the Java process."""

    @property
    def mark(self) -> str:
        """What tells its command line from any other."""
        return f"{self.directory}{os.sep}"

    @classmethod
    def fetch(cls) -> None:
        """Download now what `start` would download; nothing if that is here.

        Raises:
            ServerUnavailable: As for `start`.
        """
        if cls._local_image() is None:
            cls._java_and_home()

    def start(self) -> Self:
        """Start it if it does not run, and return when it is ready.

        Raises:
            ServerUnavailable: This machine lacks what it takes.
            ServerError: A port is in use, or it did not get ready within 120 s; the text has the
                end of its log.
        """
        with locked(self.directory / "lock"):
            began = time.monotonic()
            self._state = self._recall()
            if self._state and self.pid is not None:
                self.ports = self._state.ports
                self._await_ready(began)
            else:
                self._launch()
                try:
                    self._await_ready(began)
                except BaseException:  # also when interrupted
                    self.kill9()
                    raise
        _LOG.info("ready at %s after %.1f s", self.url, time.monotonic() - began)
        return self

    def stop(self) -> None:
        """Stop it in order, and return when it is gone; after 30 s it is killed."""
        self._runtime().terminate()

    def kill9(self) -> None:
        """End it as a crash would, and return when it is gone."""
        self._runtime().kill()

    def restart(self) -> Self:
        """Stop it and start it."""
        self.stop()
        return self.start()

    def remove(self) -> None:
        """Stop it, and delete its directory with all its data."""
        self.stop()
        if isinstance(runtime := self._runtime(), Container):
            runtime.remove()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """Its process, or None when it does not run."""
        return self._runtime().pid()

    @property
    def runs_from(self) -> str:
        """What it runs from, in words."""
        image = self._state.image if self._state else None
        return f"{image.engine} image {image.reference}" if image else "a Java process"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        self._refuse_ports_in_use()
        image = self._state.image if self._state else self._local_image()
        _LOG.info("starting %s in %s", self.product, self.directory)
        if image is None:
            launch = self.prepare_process()
            self._remember(None)
            self._process().launch(launch)
        else:
            plan = self.prepare_container()
            self._remember(image)
            self._container(image).launch(plan)

    def _refuse_ports_in_use(self) -> None:
        for name, port in self.ports.items():
            if in_use(port):
                raise ServerError(
                    f"port {port}, for {self.product} ({name}), is in use: stop what uses it, or"
                    " choose another one (--port, --http-port)"
                )

    def _await_ready(self, began: float) -> None:
        while not self.is_healthy():
            if self.pid is None:
                raise ServerError(f"{self.product} ended while starting:\n{self._log_end()}")
            if time.monotonic() - began > READY_SECONDS:
                raise ServerError(
                    f"{self.product} was not ready within {READY_SECONDS:.0f} s:\n{self._log_end()}"
                )
            time.sleep(_POLL_SECONDS)

    def _log_end(self) -> str:
        runtime = self._runtime()
        if isinstance(runtime, Container):
            return runtime.log()
        return "\n".join(last_lines(file) for file in [runtime.output, *self.log_files()])

    def _runtime(self) -> Container | DetachedProcess:
        image = self._state.image if self._state else None
        return self._process() if image is None else self._container(image)

    def _process(self) -> DetachedProcess:
        return DetachedProcess(self.directory, self.mark)

    def _container(self, image: Image) -> Container:
        # The directory's own, and the same each time.
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]
        return Container(image, f"rendezvous-{self.name}-{digest}")

    @classmethod
    def _local_image(cls) -> Image | None:
        return local_image(os.environ.get(cls.image_variable) or cls.default_image)

    @classmethod
    def _java_and_home(cls) -> tuple[Java, Path]:
        """Return the Java to run on, and the unpacked distribution."""
        java = find(cls.minimum_java, cls.product)
        return java, fetch(cls.distribution, java.home)

    def _remember(self, image: Image | None) -> None:
        self._state = State(self.ports, image)
        aside = self.directory / "server.json.part"
        aside.write_text(self._state.dumps(), encoding="utf-8")
        aside.rename(self.directory / "server.json")

    def _recall(self) -> State | None:
        try:
            return State.loads((self.directory / "server.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None


def get(url: str, seconds: float = 5.0) -> str | None:
    """Return what ``url`` answers, or None when it does not answer 2xx in time."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as response:  # noqa: S310 - http, loopback
            return str(response.read().decode())
    except (OSError, ValueError, http.client.HTTPException):
        return None


def last_lines(file: Path, lines: int = _LAST_LINES) -> str:
    """Return the end of a text file; nothing when it is not there."""
    if not file.is_file():
        return ""
    return "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
