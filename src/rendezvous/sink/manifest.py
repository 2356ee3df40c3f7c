"""What an archive directory holds: closed files, and the list that proves them.

``log-<uuid>.gz`` is gzip of JSON lines. ``manifest.jsonl`` has one line for each such file, in
the order in which they were closed. A file is first written as ``log-<uuid>.gz.part``.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import msgspec

from rendezvous.contract import record_id
from rendezvous.errors import ArchiveDamaged, ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = "manifest.jsonl"
PART = ".part"
CLOSED_FILES = "log-*.gz"
PART_FILES = f"{CLOSED_FILES}{PART}"

FileName = Annotated[str, msgspec.Meta(pattern=r"^log-[A-Za-z0-9-]+\.gz$")]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the manifest: what a closed file must be.

    Attributes:
        file: Its name.
        sha256: Of the file as it lies there, in hexadecimal.
        lines: The number of JSON lines in it.
        size: Bytes of the file as it lies there; `bytes` in the manifest.
        created: When it was closed, ISO 8601, UTC.
        first: The id of its first record.
        last: The id of its last record.
    """

    file: FileName
    sha256: str
    lines: int
    size: int = msgspec.field(name="bytes")
    created: str
    first: str
    last: str

    def encode(self) -> bytes:
        """Return the line, with its end."""
        return msgspec.json.encode(self) + b"\n"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was read.

    Attributes:
        entries: Of the lines that can be read, in their order.
        damaged: Numbers of the lines that can not, from 1.
        torn: Bytes at the end that lack the end of their line: a crash, or a writer at work.
    """

    entries: list[Entry] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    torn: int = 0

    @property
    def files(self) -> set[str]:
        """The names of all files it lists."""
        return {entry.file for entry in self.entries}


_decode = msgspec.json.Decoder(Entry).decode


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest; one that is not there is empty. Raises: OSError."""
    try:
        content = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        content = b""
    *lines, torn = content.split(b"\n")
    manifest = Manifest(torn=len(torn))
    for number, line in enumerate(lines, 1):
        try:
            manifest.entries.append(_decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            manifest.damaged.append(number)
    return manifest


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a closed file, without their ends.

    Raises:
        ArchiveDamaged: It is not there or breaks off; the text says after which line.
    """
    number = 0
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                number += 1
                yield line.rstrip(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveDamaged(f"{path}: unreadable after line {number}: {error}") from error


def digest(path: Path) -> str:
    """Return the file's sha256 in hexadecimal. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: Path, created: str) -> Entry:
    """Return the entry of a file that has none.

    Raises:
        ArchiveDamaged: It cannot be read to its end, is empty, or a line is no record.
        OSError: It cannot be opened.
    """
    first = last = None
    number = 0
    try:
        for line in read_lines(path):
            number += 1
            last = record_id(line)
            first = first or last
    except ContractError as error:
        raise ArchiveDamaged(f"{path}: line {number}: {error}") from error
    if first is None or last is None:
        raise ArchiveDamaged(f"{path}: there is nothing in it")
    return Entry(
        file=path.name,
        sha256=digest(path),
        lines=number,
        size=path.stat().st_size,
        created=created,
        first=first,
        last=last,
    )
