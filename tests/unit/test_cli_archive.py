"""The command ``rendezvous archive verify``."""

import asyncio
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rendezvous.cli import app
from rendezvous.sink.files import FileSink
from rendezvous.testing.sink_suite import request


@pytest.fixture
def archive(tmp_path):
    """An archive of two files with three lines, called with a name that looks like markup."""

    async def fill():
        sink = FileSink(tmp_path / "[red]archive")
        await sink.write([request("a"), request("b")])
        await sink.write([request("c")])
        await sink.aclose()

    asyncio.run(fill())
    return tmp_path / "[red]archive"


def verify(*arguments):
    return CliRunner().invoke(app, ["archive", "verify", *map(str, arguments)])


def test_a_whole_archive_is_summed_up(archive):
    done = verify(archive)
    size = sum(path.stat().st_size for path in archive.glob("*.gz"))
    assert done.output == f"2 files, 3 lines, {size} bytes: whole\n"
    assert done.exit_code == 0


def test_each_finding_is_a_line_and_the_exit_code_is_1(archive):
    missing = next(archive.glob("*.gz"))
    missing.unlink()
    done = verify(archive)
    first, summary = done.output.splitlines()
    assert first == f"{missing.name}: is missing"
    assert summary.endswith("1 findings")
    assert done.exit_code == 1


def test_on_a_terminal_there_is_a_bar(archive):
    done = CliRunner().invoke(app, ["archive", "verify", str(archive)], env={"FORCE_COLOR": "1"})
    assert "verifying" in done.output
    assert "whole" in done.output
    assert done.exit_code == 0


def test_quiet_prints_findings_only(archive):
    assert verify(archive, "--quiet").output == ""
    missing = next(archive.glob("*.gz"))
    missing.unlink()
    done = verify(archive, "--quiet")
    assert done.output == f"{missing.name}: is missing\n"
    assert done.exit_code == 1


def test_a_directory_that_is_not_there_is_one_line_and_exit_code_1(tmp_path):
    command = [sys.executable, "-m", "rendezvous.cli", "archive", "verify", str(tmp_path / "no")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "there is no archive" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_names_the_command():
    done = CliRunner().invoke(app, ["archive", "--help"])
    assert "verify" in done.output
