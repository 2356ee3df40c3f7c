"""Detached processes: found again by their directory, and gone when they are said to be."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.servers import process
from deploy.servers.process import DetachedProcess, Launch


@pytest.fixture
def sleeper(tmp_path):
    """A process that has its directory in its command line, as the servers have."""
    detached = DetachedProcess(tmp_path, str(tmp_path))
    yield detached
    detached.kill()


def launch(detached, script="while :; do sleep 0.05; done"):
    detached.launch(Launch(["/bin/sh", "-c", script, str(detached.directory)], Path("/")))
    return detached.pid()


def test_is_found_again_by_its_directory(sleeper, tmp_path):
    pid = launch(sleeper)
    assert pid is not None
    assert DetachedProcess(tmp_path, str(tmp_path)).pid() == pid


def test_has_a_session_of_its_own_so_that_it_outlives_the_terminal(sleeper):
    assert os.getsid(launch(sleeper)) != os.getsid(0)


def test_is_gone_when_terminate_returns(sleeper):
    pid = launch(sleeper)
    sleeper.terminate()
    assert sleeper.pid() is None
    assert not Path(f"/proc/{pid}").exists()


def test_is_killed_when_it_does_not_end_in_time(sleeper, monkeypatch):
    monkeypatch.setattr(process, "STOP_SECONDS", 0.3)
    script = 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
    launch(sleeper, script)
    while "ready" not in sleeper.output.read_text():
        pass
    sleeper.terminate()
    assert sleeper.pid() is None


def test_kill_ends_what_it_started_too(sleeper):
    launch(sleeper, "sleep 60 & echo $!; wait")
    while not (child := sleeper.output.read_text().strip()):
        pass
    sleeper.kill()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_another_process_with_its_old_pid_is_left_alone(sleeper, tmp_path):
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "pid").write_text(str(other.pid))
        assert sleeper.pid() is None
        sleeper.terminate()
        sleeper.kill()
        assert other.poll() is None
        other.kill()


def test_stopping_what_does_not_run_is_no_error(sleeper):
    sleeper.terminate()
    sleeper.kill()
    assert sleeper.pid() is None
