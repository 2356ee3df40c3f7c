import os

import pytest

from deploy.servers import java


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    """A machine without Java, Maven or a container engine."""
    monkeypatch.setattr(java, "_INSTALLED", ())
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("RENDEZVOUS_CACHE", str(tmp_path / "cache"))


class Programs:
    """A folder that is all of PATH: a command is there only if it was put there.

    Attributes:
        folder: The folder, with a file of what was called.
    """

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()

    def put(self, name, lines):
        """Make a command that does what shell lines say."""
        command = self.folder / name
        command.write_text(
            f'#!/bin/sh\nPATH={os.defpath}\necho "{name} $*" >> {self._calls}\n{lines}\n'
        )
        command.chmod(0o755)

    def take(self, name):
        """Let there be no such command."""
        (self.folder / name).unlink()

    @property
    def calls(self):
        """What was called, in order, each as the line somebody would have typed."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    @property
    def _calls(self):
        return self.folder / "calls.txt"


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """A machine with no other commands than those that the test puts there."""
    there = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(there.folder))
    return there
