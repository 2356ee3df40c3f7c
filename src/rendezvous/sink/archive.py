"""Read an archive, and prove that it is whole."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rendezvous.contract import one_line
from rendezvous.errors import ArchiveDamaged, ConfigurationError, ContractError
from rendezvous.sink.manifest import MANIFEST, PART, Entry, digest, read_lines, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 5.0
"""Seconds that a connector at work has to list a file it has closed."""

_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        file: The name of the file.
        problem: What is wrong with it.
    """

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


def verify(directory: Path, checked: Callable[[Entry], None] = lambda _: None) -> Iterator[Finding]:
    """Check every file of an archive, also while a connector writes to it.

    Args:
        directory: The archive's.
        checked: Is called after each file of the manifest.

    Yields:
        What is wrong: a file that is missing, altered, cut short or not listed, a line that is no
        JSON object, a manifest that cannot be read. Nothing, when the archive is whole.

    Raises:
        ConfigurationError: There is no such directory.
        OSError: A file cannot be opened.
    """
    found = _files(directory)
    manifest = read_manifest(directory)
    for number in manifest.damaged:
        yield Finding(MANIFEST, f"line {number} can not be read")
    listed: set[str] = set()
    for entry in manifest.entries:
        if entry.file in listed:
            yield Finding(entry.file, "is listed twice")
        listed.add(entry.file)
        for problem in _problems(directory / entry.file, entry):
            yield Finding(entry.file, problem)
        checked(entry)
    yield from _unlisted(directory, found - listed, torn=bool(manifest.torn))


def read(directory: Path) -> Iterator[bytes]:
    """Yield every line of an archive, without its end, in the order in which they were stored.

    No line of a file is given out unless the file is what the manifest says.

    Raises:
        ArchiveDamaged: A file is not what the manifest says, or the manifest cannot be read.
        ConfigurationError: There is no such directory.
    """
    _files(directory)
    manifest = read_manifest(directory)
    if manifest.damaged:
        raise ArchiveDamaged(f"{directory / MANIFEST}: line {manifest.damaged[0]} can not be read")
    for entry in manifest.entries:
        path = directory / entry.file
        try:
            checksum = digest(path)
        except OSError as error:
            raise ArchiveDamaged(f"{path}: {error.strerror}") from error
        if checksum != entry.sha256:
            raise ArchiveDamaged(f"{path} is not the file that was written; its sha256 differs")
        yield from read_lines(path)


def _files(directory: Path) -> set[str]:
    """Return the names of what should be in the manifest."""
    if not directory.is_dir():
        raise ConfigurationError(f"there is no archive: {directory} is no directory")
    names = {path.name for path in directory.iterdir()}
    return {n for n in names if n != MANIFEST and not n.endswith(PART) and not n.startswith(".")}


def _problems(path: Path, entry: Entry) -> Iterator[str]:
    """Yield what is wrong with a listed file."""
    try:
        if digest(path) != entry.sha256:
            yield "is not the file that was written; its sha256 differs"
    except FileNotFoundError:
        yield "is missing"
        return
    number, strange = 0, []
    try:
        for number, line in enumerate(read_lines(path), 1):
            if not _is_object(line):
                strange.append(number)
        if number != entry.lines:
            yield f"has {number} lines, not {entry.lines}"
    except ArchiveDamaged as error:
        yield str(error).removeprefix(f"{path}: ")
    if strange:
        yield f"line {strange[0]} is no JSON object; there are {len(strange)} such"


def _is_object(line: bytes) -> bool:
    try:
        one_line(line)
    except ContractError:
        return False
    return True


def _unlisted(directory: Path, suspects: set[str], *, torn: bool) -> Iterator[Finding]:
    """Yield what the manifest lacks, once a connector had the time to add it."""
    until = time.time() + PATIENCE if torn else 0.0
    until = max([until, *(_written(directory / name) + PATIENCE for name in suspects)])
    while (suspects or torn) and time.time() < until:
        time.sleep(_PAUSE)
        manifest = read_manifest(directory)
        suspects, torn = suspects - manifest.files, bool(manifest.torn)
    for name in sorted(suspects):
        yield Finding(name, "is not in the manifest")
    if torn:
        yield Finding(MANIFEST, "its last line is torn")


def _written(path: Path) -> float:
    """Return when a file was written, epoch seconds."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
