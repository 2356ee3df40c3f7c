"""The Java that a server runs on: the newest that is installed and new enough."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.servers.errors import ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_INSTALLED = (
    (Path("/usr/lib/jvm"), "*"),
    (Path("/Library/Java/JavaVirtualMachines"), "*/Contents/Home"),
)


@dataclass(frozen=True, slots=True, order=True)
class Java:
    """An installed Java: its major version (17, 21, ...) and its home folder."""

    major: int
    home: Path

    @property
    def executable(self) -> Path:
        """The command ``java``."""
        return self.home / "bin" / "java"


def find(minimum: int, product: str) -> Java:
    """Return the newest Java of version ``minimum`` or newer.

    It looks at ``JAVA_HOME``, ``java`` on the path, and where systems install Java.

    Raises:
        ServerUnavailable: There is none; the text names what was found.
    """
    installed = sorted(_installed())
    found = newest(installed, minimum)
    if found is None:
        versions = ", ".join(str(java.major) for java in installed) or "none"
        raise ServerUnavailable(
            f"{product} needs Java {minimum} or newer (found: {versions}): install one, such as the"
            " package openjdk-21-jre-headless, or name one's folder in JAVA_HOME"
        )
    return found


def newest(installed: Iterable[Java], minimum: int) -> Java | None:
    """Return the newest of ``installed`` that is not older than ``minimum``."""
    return max((java for java in installed if java.major >= minimum), default=None)


def major_version(text: str) -> int | None:
    """Return the major version in ``java -version`` output or a ``release`` file."""
    found = re.search(r'(?:version|JAVA_VERSION)[ =]"(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else None


def _installed() -> Iterator[Java]:
    for home in sorted(_homes()):
        major = _version_of(home)
        if major is not None:
            yield Java(major, home)


def _homes() -> set[Path]:
    homes = {folder for root, pattern in _INSTALLED for folder in root.glob(pattern)}
    if named := os.environ.get("JAVA_HOME"):
        homes.add(Path(named))
    if command := shutil.which("java"):
        homes.add(Path(command).resolve().parent.parent)
    return {home.resolve() for home in homes if os.access(home / "bin" / "java", os.X_OK)}


def _version_of(home: Path) -> int | None:
    release = home / "release"
    if release.is_file() and (major := major_version(release.read_text(encoding="utf-8"))):
        return major
    asked = subprocess.run(  # noqa: S603 - an installed Java
        [home / "bin" / "java", "-version"], capture_output=True, text=True, check=False
    )
    return major_version(asked.stderr)
