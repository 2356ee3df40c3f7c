"""Archive files: how they are written, what a crash leaves, and how damage is found."""

import asyncio
import gzip
import json
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from rendezvous.contract import record_id
from rendezvous.errors import ArchiveDamaged, ConfigurationError, SinkUnavailable
from rendezvous.sink import archive, files
from rendezvous.sink.archive import Finding, read, verify
from rendezvous.sink.files import FileSink
from rendezvous.sink.manifest import MANIFEST, read_manifest
from rendezvous.sink.port import Record

HERE = Path(__file__).parent
LONG_AGO = 1_700_000_000


def record(name, **fields):
    return Record(name, "decoy", json.dumps({"messageId": name, **fields}).encode())


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
async def sink(directory):
    sink = FileSink(directory)
    yield sink
    await sink.aclose()


@pytest.fixture
async def filled(sink, directory):
    """An archive of three files with a, b, c, d, e; its sink is closed."""
    for batch in ("ab", "cd", "e"):
        await sink.write([record(name) for name in batch])
    await sink.aclose()
    return directory


def names(directory):
    return [record_id(line) for line in read(directory)]


def closed_files(directory):
    """The paths of the closed files in the order of the manifest."""
    return [directory / entry.file for entry in read_manifest(directory).entries]


def problems(directory):
    return [str(finding) for finding in verify(directory)]


def manifest_lines(directory):
    return (directory / MANIFEST).read_bytes().splitlines(keepends=True)


def write_manifest(directory, *lines):
    (directory / MANIFEST).write_bytes(b"".join(lines))


async def reopen(directory, *again):
    """Open the archive anew and write some records again."""
    sink = FileSink(directory)
    try:
        await sink.write([record(name) for name in again])
    finally:
        await sink.aclose()


class TestFiles:
    async def test_a_batch_is_one_gzip_file_of_the_payloads_as_they_were(self, sink, directory):
        odd = Record("c", "decoy", b' {"messageId" :"c", "x": 1.50 }')
        batch = [record("a"), record("b", text="ü"), odd]
        await sink.write(batch)
        [path] = directory.glob("*.gz")
        assert re.fullmatch(r"log-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.gz", path.name)
        assert gzip.decompress(path.read_bytes()) == b"".join(r.payload + b"\n" for r in batch)

    async def test_each_write_makes_a_file_unless_it_brings_nothing_new(self, sink, directory):
        await sink.write([record("a")])
        await sink.write([record("b")])
        await sink.write([])
        await sink.write([record("a"), record("b")])
        assert len(list(directory.glob("*.gz"))) == 2
        assert names(directory) == ["a", "b"]

    async def test_the_manifest_says_what_each_file_must_be(self, sink, directory):
        await sink.write([record("a"), record("b"), record("c")])
        [path] = directory.glob("*.gz")
        [entry] = map(json.loads, manifest_lines(directory))
        assert entry.pop("created").startswith(time.strftime("%Y-", time.gmtime()))
        assert entry == {
            "file": path.name,
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "lines": 3,
            "bytes": path.stat().st_size,
            "first": "a",
            "last": "c",
        }

    async def test_only_the_owner_may_read_it(self, sink, directory):
        await sink.write([record("a")])
        assert directory.stat().st_mode & 0o777 == 0o700
        for path in directory.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path

    async def test_a_batch_is_on_the_disk_before_it_is_said_to_be_stored(
        self, sink, directory, monkeypatch
    ):
        synced, fsync = [], os.fsync

        def spy(descriptor):
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            synced.append("file" if path.suffix == ".part" else path.name)

        await sink.write([])
        monkeypatch.setattr(os, "fsync", spy)
        await sink.write([record("a")])
        assert synced == ["file", directory.name, MANIFEST]


class TestRemembering:
    async def test_the_newest_ids_are_read_back_when_the_archive_is_opened(
        self, filled, monkeypatch
    ):
        monkeypatch.setattr(files, "REMEMBERED", 3)
        await reopen(filled, "c", "d", "e")
        assert names(filled) == list("abcde")

    async def test_an_id_is_forgotten_after_so_many_others(self, sink, directory, monkeypatch):
        monkeypatch.setattr(files, "REMEMBERED", 3)
        for name in "abcd":
            await sink.write([record(name)])
        await sink.write([record(name) for name in "bcd"])
        assert names(directory) == list("abcd")
        await sink.write([record("a")])
        assert names(directory) == list("abcda")

    async def test_files_that_were_taken_away_do_not_keep_it_from_opening(self, filled, caplog):
        closed_files(filled)[0].unlink()
        await reopen(filled, "d", "e", "f")
        assert problems(filled) == [f"{closed_files(filled)[0].name}: is missing"]
        assert "1 files can not be read" in caplog.text


class TestOneWriter:
    async def test_a_second_process_is_refused(self, sink, directory):
        await sink.write([record("a")])
        writer = [sys.executable, HERE / "archive_writer.py", directory, "0"]
        refused = await asyncio.to_thread(subprocess.run, writer, capture_output=True, text=True)
        assert "another process archives into" in refused.stderr
        assert names(directory) == ["a"]

    async def test_a_second_sink_may_follow_when_the_first_is_closed(self, sink, directory):
        await sink.write([record("a")])
        with pytest.raises(ConfigurationError, match="directory of its own"):
            await reopen(directory, "b")
        await sink.aclose()
        await reopen(directory, "b")
        assert names(directory) == ["a", "b"]

    async def test_a_file_in_place_of_the_directory_is_refused(self, directory):
        directory.write_text("something else")
        with pytest.raises(ConfigurationError, match="is no directory"):
            await reopen(directory, "a")

    async def test_a_lock_that_cannot_be_taken_is_a_disk_that_is_away(self, directory):
        (directory / files.LOCK).mkdir(parents=True)
        with pytest.raises(SinkUnavailable):
            await reopen(directory, "a")


@contextmanager
def no_file_may_exceed(size):
    """Make the system refuse to let a file grow, as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFullDisk:
    async def test_a_file_that_does_not_fit_leaves_nothing_and_can_be_tried_again(
        self, sink, directory
    ):
        batch = [record(str(n), noise=random.randbytes(500).hex()) for n in range(20)]
        await sink.write([record("a")])
        with no_file_may_exceed(4000), pytest.raises(SinkUnavailable, match="too large"):
            await sink.write(batch)
        assert len(list(directory.glob("log-*"))) == 1
        assert await sink.write(batch) == []
        assert names(directory) == ["a", *(each.id for each in batch)]
        assert problems(directory) == []

    @pytest.mark.parametrize("room", [0, 1, 100])
    async def test_a_file_that_could_not_be_listed_is_not_stored_twice(self, sink, directory, room):
        for n in range(30):
            await sink.write([record(f"r{n}")])
        full = (directory / MANIFEST).stat().st_size + room
        batch = [record("a"), record("b")]
        with no_file_may_exceed(full):
            for _ in range(3):
                with pytest.raises(SinkUnavailable):
                    await sink.write(batch)
        assert await sink.write(batch) == []
        assert names(directory) == [*(f"r{n}" for n in range(30)), "a", "b"]
        assert problems(directory) == []


class TestCrashes:
    def test_a_kill_before_any_line_of_the_code_loses_nothing_and_stores_nothing_twice(
        self, tmp_path
    ):
        crashes = [sys.executable, HERE / "archive_crashes.py", tmp_path]
        done = subprocess.run(crashes, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 100

    async def test_a_writer_that_is_killed_leaves_every_line_that_it_said_was_stored(
        self, directory
    ):
        said, first = [], 0
        for seed in range(4):
            said += await asyncio.to_thread(killed, directory, first, random.Random(seed))
            assert set(said) <= set(names(directory))
            first = int(said[-1].partition("-")[0])  # its last batch comes again
        assert len(said) > 100
        await reopen(directory, "last")
        assert problems(directory) == []
        stored = names(directory)
        assert len(stored) == len(set(stored))

    async def test_what_was_never_finished_is_removed(self, filled):
        (filled / "log-1.gz.part").write_bytes(b"half")
        await reopen(filled)
        assert not list(filled.glob("*.part"))
        assert names(filled) == list("abcde")

    async def test_a_file_that_was_not_listed_is_taken_in(self, filled, caplog):
        path = closed_files(filled)[-1]
        write_manifest(filled, *manifest_lines(filled)[:-1])
        await reopen(filled, "d", "e", "f")
        assert names(filled) == list("abcdef")
        assert problems(filled) == []
        assert path.name in caplog.text

    async def test_a_manifest_that_was_cut_at_any_byte_of_its_last_line_is_mended(self, filled):
        *lines, last = manifest_lines(filled)
        for end in range(len(last)):
            write_manifest(filled, *lines, last[:end])
            await reopen(filled, "e")
            assert names(filled) == list("abcde")
            assert len(manifest_lines(filled)) == 3

    @pytest.mark.parametrize(
        "content",
        [b"", gzip.compress(b""), gzip.compress(b"no record\n")],
        ids=["empty", "without a line", "without a record"],
    )
    async def test_a_file_that_no_sink_wrote_is_left_alone(self, filled, caplog, content):
        path = filled / "log-0.gz"
        path.write_bytes(content)
        os.utime(path, (LONG_AGO, LONG_AGO))
        await reopen(filled, "f")
        assert names(filled) == list("abcdef")
        assert "not taken into the archive" in caplog.text
        assert problems(filled) == ["log-0.gz: is not in the manifest"]

    async def test_a_manifest_line_that_cannot_be_read_is_written_anew(self, filled, caplog):
        first, second, third = manifest_lines(filled)
        write_manifest(filled, first, b"\xff" + second, third)
        await reopen(filled, "c", "d")
        assert problems(filled) == [f"{MANIFEST}: line 2 can not be read"]
        assert len(closed_files(filled)) == 3
        assert "unreadable lines" in caplog.text


def killed(directory, first, rng):
    """Run a writer, kill it after some batches, and return the ids that it said were stored."""
    said = []
    writer = [sys.executable, HERE / "archive_writer.py", directory, str(first)]
    with subprocess.Popen(writer, stdout=subprocess.PIPE) as process:
        for _ in range(rng.randint(3, 30)):
            said += process.stdout.readline().decode().split()
        time.sleep(rng.uniform(0, 0.005))
        process.kill()
        for line in process.stdout.read().decode().splitlines(keepends=True):
            said += line.split() if line.endswith("\n") else []
    return said


class TestVerify:
    async def test_finds_nothing_in_an_archive_that_is_whole(self, filled):
        assert problems(filled) == []

    async def test_says_which_files_it_has_checked(self, filled):
        seen = []
        assert list(verify(filled, seen.append)) == []
        assert [(entry.file, entry.lines) for entry in seen] == [
            (path.name, lines) for path, lines in zip(closed_files(filled), (2, 2, 1), strict=True)
        ]

    def test_finds_nothing_in_an_archive_without_files(self, directory):
        directory.mkdir()
        assert problems(directory) == []

    @pytest.mark.parametrize("use", [verify, read])
    def test_says_that_there_is_no_archive(self, directory, use):
        with pytest.raises(ConfigurationError, match="there is no archive"):
            list(use(directory))

    async def test_finds_a_file_that_is_missing(self, filled):
        path = closed_files(filled)[1]
        path.unlink()
        assert list(verify(filled)) == [Finding(path.name, "is missing")]

    async def test_finds_a_flipped_bit_in_any_byte(self, filled):
        path = closed_files(filled)[1]
        content = path.read_bytes()
        for place in range(len(content)):
            bit = 1 << place % 8
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            found = list(verify(filled))
            assert {finding.file for finding in found} == {path.name}, place
            assert "sha256 differs" in found[0].problem

    async def test_finds_a_file_that_was_cut_anywhere(self, filled):
        path = closed_files(filled)[1]
        content = path.read_bytes()
        for end in range(len(content)):
            path.write_bytes(content[:end])
            assert {finding.file for finding in verify(filled)} == {path.name}, end

    async def test_says_after_which_line_a_file_breaks_off(self, sink, directory):
        batch = [record(str(n), noise=random.randbytes(50).hex()) for n in range(1000)]
        await sink.write(batch)
        [path] = closed_files(directory)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        [_, finding] = verify(directory)
        [line] = re.findall(r"unreadable after line (\d+)", finding.problem)
        assert 400 < int(line) < 600

    async def test_finds_a_wrong_number_of_lines(self, filled):
        lines = manifest_lines(filled)
        write_manifest(filled, lines[0].replace(b'"lines":2', b'"lines":3'), *lines[1:])
        assert problems(filled) == [f"{closed_files(filled)[0].name}: has 2 lines, not 3"]

    async def test_finds_a_line_that_is_no_json_object(self, filled):
        path = closed_files(filled)[0]
        before = sha256(path.read_bytes()).hexdigest()
        path.write_bytes(gzip.compress(b'{"messageId":"a"}\n[1]\n'))
        after = sha256(path.read_bytes()).hexdigest()
        lines = manifest_lines(filled)
        write_manifest(filled, lines[0].replace(before.encode(), after.encode()), *lines[1:])
        assert problems(filled) == [f"{path.name}: line 2 is no JSON object; there are 1 such"]

    async def test_finds_a_file_that_is_not_listed(self, filled):
        for name in ("log-0.gz", "notes.txt"):
            (filled / name).write_text("x")
            os.utime(filled / name, (LONG_AGO, LONG_AGO))
        assert problems(filled) == [
            "log-0.gz: is not in the manifest",
            "notes.txt: is not in the manifest",
        ]

    async def test_finds_a_file_that_is_listed_twice(self, filled):
        lines = manifest_lines(filled)
        write_manifest(filled, *lines, lines[0])
        assert problems(filled) == [f"{closed_files(filled)[0].name}: is listed twice"]

    async def test_finds_a_manifest_line_that_cannot_be_read(self, filled):
        write_manifest(filled, b"{}\n", b'{"file":"../x"}\n', *manifest_lines(filled))
        assert problems(filled) == [f"{MANIFEST}: line {n} can not be read" for n in (1, 2)]

    async def test_finds_a_manifest_whose_last_line_is_torn(self, filled, monkeypatch):
        monkeypatch.setattr(archive, "PATIENCE", 0.1)
        *lines, last = manifest_lines(filled)
        path = closed_files(filled)[-1]
        os.utime(path, (LONG_AGO, LONG_AGO))
        write_manifest(filled, *lines, last[:-1])
        assert problems(filled) == [
            f"{path.name}: is not in the manifest",
            f"{MANIFEST}: its last line is torn",
        ]

    async def test_does_not_mind_what_a_writer_is_about_to_finish(self, filled, sink):
        await sink.write([])
        (filled / "log-1.gz.part").write_bytes(b"half")
        assert problems(filled) == []

    async def test_gives_a_writer_the_time_to_list_a_file(self, filled):
        *lines, last = manifest_lines(filled)
        write_manifest(filled, *lines, last[:40])
        lister = threading.Timer(0.2, write_manifest, [filled, *lines, last])
        lister.start()
        found = await asyncio.to_thread(problems, filled)
        lister.join()
        assert found == []

    async def test_finds_nothing_wrong_while_a_writer_is_at_work(self, sink, directory):
        await sink.write([record("first")])
        stop = threading.Event()

        def watch():
            found = []
            while not stop.is_set():
                found += problems(directory)
            return found

        watching = asyncio.create_task(asyncio.to_thread(watch))
        for n in range(200):
            await sink.write([record(str(n))])
        stop.set()
        assert await watching == []


class TestRead:
    async def test_yields_the_lines_in_the_order_in_which_they_were_stored(self, filled):
        assert list(read(filled)) == [record(name).payload for name in "abcde"]

    async def test_yields_nothing_that_is_not_listed(self, filled):
        write_manifest(filled, *manifest_lines(filled)[:-1])
        assert names(filled) == list("abcd")

    async def test_gives_out_no_line_of_a_file_that_was_altered(self, filled):
        path = closed_files(filled)[1]
        path.write_bytes(gzip.compress(b'{"messageId":"forged"}\n'))
        lines = read(filled)
        assert [record_id(next(lines)), record_id(next(lines))] == ["a", "b"]
        with pytest.raises(ArchiveDamaged, match=path.name):
            next(lines)

    async def test_says_that_a_file_is_missing(self, filled):
        path = closed_files(filled)[0]
        path.unlink()
        with pytest.raises(ArchiveDamaged, match="No such file"):
            list(read(filled))

    async def test_says_that_the_manifest_cannot_be_read(self, filled):
        write_manifest(filled, b"{}\n", *manifest_lines(filled))
        with pytest.raises(ArchiveDamaged, match="line 1 can not be read"):
            list(read(filled))
