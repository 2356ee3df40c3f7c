"""The programs ``prometheus`` and ``promtool``, from Debian's package ``prometheus``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deploy.servers.distribution import cached
from deploy.servers.errors import ServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "prometheus"
_APT = ("apt-get", "-qq", "-oAPT::Sandbox::User=root")  # root's own folders are closed to _apt
_LAST_CHARACTERS = 1500


def program(name: Literal["prometheus", "promtool"]) -> Path:
    """Return the path of a program: the one on the path, else one of our own.

    Ours is downloaded once, with apt, and unpacked into the cache folder; no root is needed, and
    nothing is installed.

    Raises:
        ServerUnavailable: It is not installed, and this is no Debian, or the download failed.
    """
    if found := shutil.which(name):
        return Path(found)
    return cached(PACKAGE, f"Debian's package {PACKAGE}", _fill) / "usr" / "bin" / name


def _fill(staging: Path, content: Path) -> None:
    package = _download(staging)
    unpacked = _run(["dpkg-deb", "-x", str(package), str(content)], staging)
    if unpacked.returncode != 0:
        raise ServerUnavailable(f"dpkg-deb failed:\n{unpacked.stdout[-_LAST_CHARACTERS:]}")


def _download(staging: Path) -> Path:
    if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
        raise ServerUnavailable("install prometheus and promtool: no Debian to fetch them from")
    done = _run([*_APT, "download", PACKAGE], staging)
    if done.returncode != 0:  # the lists of packages are missing or old: fetch some of our own
        done = _download_with_own_lists(staging)
    packages = list(staging.glob("*.deb"))
    if done.returncode != 0 or len(packages) != 1:
        raise ServerUnavailable(
            f"apt-get could not fetch the package {PACKAGE}; is the network up?\n"
            + done.stdout[-_LAST_CHARACTERS:]
        )
    return packages[0]


def _download_with_own_lists(staging: Path) -> subprocess.CompletedProcess[str]:
    """Download with fresh lists of packages, kept in ``staging``: the system's are root's."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (staging / folder).mkdir(parents=True)
    apt = [*_APT, f"-oDir::State::lists={staging / 'lists'}", f"-oDir::Cache={staging / 'cache'}"]
    updated = _run([*apt, "update"], staging)
    return updated if updated.returncode != 0 else _run([*apt, "download", PACKAGE], staging)


def _run(command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - Debian's own tools, with our own arguments
        [*command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
