"""Archive files: gzip of JSON lines, in a directory of their own.

Guarantee: when ``write`` returns, the batch is in one closed file that is on the disk and listed
in the manifest, so that losing power does not lose it. A crash at any moment leaves at most a
``.part`` file, whose records were never acked and come again; a closed file that is not in the
manifest yet; or a torn last line of the manifest. The next write, of this process or of its
successor, removes the first, adopts the second and cuts off the third.

A record is stored once: the ids of the last 100,000 records are remembered, and read back from
the newest files when the sink opens. A record that comes again after 100,000 others is stored
twice. What a connector may get again after a crash is what it had not acked, one batch; and what
the bus had not yet noted as acked: for Pulsar's defaults, up to about a minute's records.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import sys
import threading
import uuid
from collections import deque
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING

from rendezvous.contract import one_line, record_id
from rendezvous.errors import (
    ArchiveDamaged,
    ConfigurationError,
    ContractError,
    SinkUnavailable,
)
from rendezvous.sink.manifest import (
    CLOSED_FILES,
    MANIFEST,
    PART,
    PART_FILES,
    Entry,
    describe,
    read_lines,
    read_manifest,
)
from rendezvous.sink.port import Record, Rejection, Sink

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

REMEMBERED = 100_000
"""Ids of the newest records, which are not stored again."""

LOCK = ".lock"
_LEVEL = 3
"""Of zlib: level 6 makes such lines a tenth smaller, for more than twice the work."""


class FileSink(Sink):
    """Writes each batch as one file of ``directory``, which belongs to this sink alone.

    Args:
        directory: Made when it is not there, for its owner only (0700, files 0600).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turn = threading.Lock()
        self._lock: int | None = None
        self._seen: _Ids | None = None

    async def write(self, batch: Sequence[Record]) -> Sequence[Rejection]:
        """Store the batch as one closed file; none, when all of it is stored already.

        Raises:
            SinkUnavailable: The disk is full, or failed.
            ConfigurationError: The directory is none, or another process archives into it.
        """
        return await asyncio.to_thread(self._write, batch)

    async def aclose(self) -> None:
        """Let go of the directory, after the write that is under way."""
        await asyncio.to_thread(self._close)

    def _write(self, batch: Sequence[Record]) -> list[Rejection]:
        with self._turn:
            try:
                seen = self._seen = self._seen or self._open()
                new, rejections = _new(batch, seen)
                if new:
                    entry = self._close_file([*new.values()])
                    self._list(entry)
                    seen.add(new)
            except OSError as error:
                self._seen = None  # the next write looks at what is really on the disk
                raise SinkUnavailable(f"{self._directory}: {error}") from error
            return rejections

    def _close(self) -> None:
        with self._turn:
            self._seen = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _open(self) -> _Ids:
        """Lock the directory, mend what a crash left, and learn what is stored."""
        directory = self._directory
        _make_directory(directory)
        if self._lock is None:
            self._lock = _lock(directory)
        for part in directory.glob(PART_FILES):
            part.unlink()
        manifest = read_manifest(directory)
        if manifest.torn:
            path = directory / MANIFEST
            os.truncate(path, path.stat().st_size - manifest.torn)
        if manifest.damaged:
            log.error("%s: unreadable lines in %s: %s", directory, MANIFEST, manifest.damaged)
        adopted = self._adopt(manifest.files)
        return _read_ids(directory, [*manifest.entries, *adopted])

    def _adopt(self, listed: set[str]) -> list[Entry]:
        """List the closed files that are not; a crash came before their line was written."""
        adopted = []
        for path in sorted(self._directory.glob(CLOSED_FILES)):
            if path.name in listed:
                continue
            try:
                closed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                entry = describe(path, closed.isoformat())
            except ArchiveDamaged as error:
                log.error("not taken into the archive: %s", error)  # noqa: TRY400 - says it all
                continue
            _sync_directory(self._directory)
            self._list(entry)
            log.warning("%s: took in %s, which a crash had left unlisted", *path.parts[-2:])
            adopted.append(entry)
        return adopted

    def _close_file(self, records: Sequence[tuple[str, bytes]]) -> Entry:
        """Write ids' lines to a file aside, make it durable, and give it its name."""
        name = f"log-{uuid.uuid4()}.gz"
        part = self._directory / (name + PART)
        try:
            size, checksum = _compress(part, [line for _, line in records])
            part.rename(self._directory / name)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _sync_directory(self._directory)
        return Entry(
            file=name,
            sha256=checksum,
            lines=len(records),
            size=size,
            created=datetime.now(UTC).isoformat(),
            first=records[0][0],
            last=records[-1][0],
        )

    def _list(self, entry: Entry) -> None:
        """Append an entry to the manifest, durably."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with os.fdopen(os.open(self._directory / MANIFEST, flags, 0o600), "wb") as file:
            file.write(entry.encode())
            file.flush()
            os.fsync(file.fileno())


class _Ids:
    """The newest ids, at most ``REMEMBERED``, as digests of 128 bits: half the memory of texts."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._known

    def add(self, digests: Iterable[bytes]) -> None:
        for digest in digests:
            if digest not in self._known:
                self._known.add(digest)
                self._order.append(digest)
        while len(self._order) > REMEMBERED:
            self._known.remove(self._order.popleft())


def _digest(record: str) -> bytes:
    return blake2b(record.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _new(
    batch: Sequence[Record], seen: _Ids
) -> tuple[dict[bytes, tuple[str, bytes]], list[Rejection]]:
    """Return id and line of what is new in the batch, by its digest; and what is no JSON object."""
    new: dict[bytes, tuple[str, bytes]] = {}
    rejections = []
    for record in batch:
        try:
            line = one_line(record.payload)
        except ContractError as error:
            rejections.append(Rejection(record, str(error)))
            continue
        digest = _digest(record.id)
        if digest not in seen:
            new.setdefault(digest, (record.id, line))
    return new, rejections


def _read_ids(directory: Path, entries: Sequence[Entry]) -> _Ids:
    """Return the ids in the newest files."""
    files: list[list[str]] = []
    held = unreadable = 0
    for entry in reversed(entries):
        if held >= REMEMBERED:
            break
        try:
            files.append([record_id(line) for line in read_lines(directory / entry.file)])
            held += len(files[-1])
        except (ArchiveDamaged, ContractError):
            unreadable += 1
    if unreadable:
        log.warning("%s: %d files can not be read; see `archive verify`", directory, unreadable)
    seen = _Ids()
    for ids in reversed(files):
        seen.add(map(_digest, ids))
    return seen


def _compress(path: Path, lines: Iterable[bytes]) -> tuple[int, str]:
    """Write the lines to a new file, durably; return its size and sha256."""
    content = gzip.compress(b"".join(line + b"\n" for line in lines), _LEVEL, mtime=0)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return len(content), sha256(content).hexdigest()


def _make_directory(directory: Path) -> None:
    """Make the directory, durably, if it is not there."""
    if directory.is_dir():
        return
    if directory.exists():
        raise ConfigurationError(f"{directory} is no directory, so there can be no archive in it")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    if sys.platform == "win32":
        return  # a directory cannot be opened there
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(directory: Path) -> int:
    """Return the open lock file; the system lets go of the lock when the process ends."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    if sys.platform == "win32":
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationError(
            f"another process archives into {directory}; give each connector a directory of its own"
        ) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
