"""Official distributions from the Maven repository, unpacked once into a cache folder."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from deploy.servers.errors import ServerUnavailable
from deploy.servers.locking import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)
_COMPLETE = ".complete"
_ANY_EXECUTE = 0o111
_LAST_CHARACTERS = 1500


@dataclass(frozen=True, slots=True)
class Distribution:
    """What to fetch, and what of it to keep.

    Attributes:
        product: As people call it, such as ``Apache Pulsar 4.0.8``.
        coordinates: Of Maven, ``group:artifact:version:type`` and maybe ``:classifier``.
        keep: Paths below the archive's only top folder that are unpacked; a file, or a folder with
            a slash at its end. Empty: everything.
    """

    product: str
    coordinates: str
    keep: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its folder in the cache; another one where something else is kept."""
        _group, artifact, version, *_type = self.coordinates.split(":")
        return "-".join([artifact, version, *(path.strip("/") for path in self.keep)])


def cache_folder() -> Path:
    """Return where distributions are kept: ``RENDEZVOUS_CACHE``, or below the user's cache."""
    named = os.environ.get("RENDEZVOUS_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "rendezvous" / "servers"


def fetch(distribution: Distribution, java_home: Path) -> Path:
    """Return the folder of the unpacked distribution; download it when it is not there.

    Args:
        distribution: What to fetch.
        java_home: Of the Java that Maven runs on.

    Raises:
        ServerUnavailable: There is no Maven, or it could not download.
    """

    def fill(staging: Path, content: Path) -> None:
        unpack(_download(distribution, staging, java_home), content, distribution.keep)

    return cached(distribution.folder, distribution.product, fill)


def cached(folder: str, product: str, fill: Callable[[Path, Path], None]) -> Path:
    """Return ``folder`` of the cache; when it is not there whole, make it.

    A download that was cut off leaves nothing that is taken for a whole one, and of two processes
    one downloads and the other waits.

    Args:
        folder: Its name in the cache.
        product: What it is, for the log.
        fill: Makes the content; is given a folder to work in, and where the content goes, which is
            not there yet.
    """
    cache = cache_folder()
    final = cache / folder
    with locked(cache / f"{folder}.lock"):
        if not (final / _COMPLETE).exists():
            _LOG.info("fetching %s ...", product)
            staging = cache / f"{folder}.staging"
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(final, ignore_errors=True)
            staging.mkdir(parents=True)
            fill(staging, staging / "content")
            (staging / "content" / _COMPLETE).touch()
            (staging / "content").rename(final)
            shutil.rmtree(staging)
    return final


def _download(distribution: Distribution, staging: Path, java_home: Path) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerUnavailable(
            f"fetching {distribution.product} takes Maven: install the package maven, or have a"
            " container image of it locally (see deploy/servers/README.md)"
        )
    download = staging / "download"
    download.mkdir()
    done = subprocess.run(  # noqa: S603 - Maven, with our own arguments
        [
            *(maven, "-B", "-q", "dependency:copy"),
            f"-Dartifact={distribution.coordinates}",
            f"-DoutputDirectory={download}",
        ],
        cwd=staging,  # where no project's own settings are in reach
        env={"JAVA_HOME": str(java_home), **os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    archives = list(download.iterdir())
    if done.returncode != 0 or len(archives) != 1:
        raise ServerUnavailable(
            f"Maven could not fetch {distribution.coordinates}; is the network up?\n"
            + done.stdout[-_LAST_CHARACTERS:]
        )
    return archives[0]


def unpack(archive: Path, into: Path, keep: tuple[str, ...] = ()) -> None:
    """Unpack the regular files of a zip or tar archive without its top folder.

    Args:
        archive: Names ending in ``.zip`` are zip files, all others tar files.
        into: Folder for the content.
        keep: As in `Distribution.keep`.
    """
    for name, mode, source in _files(archive):
        path = PurePosixPath(*PurePosixPath(name).parts[1:])
        if ".." in path.parts or not _is_kept(str(path), keep):
            continue
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("wb") as out:
            shutil.copyfileobj(source, out)
        target.chmod(0o755 if mode & _ANY_EXECUTE else 0o644)


def _is_kept(path: str, keep: tuple[str, ...]) -> bool:
    return not keep or any(path == k or (k.endswith("/") and path.startswith(k)) for k in keep)


def _files(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield name, mode and content of every regular file."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if not entry.is_dir():
                    yield entry.filename, entry.external_attr >> 16, opened.open(entry)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, member.mode, content
