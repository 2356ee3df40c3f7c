"""Several workers share a port: they are kept alive, and stopped in order."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from rendezvous.errors import ConfigurationError
from rendezvous.listening import bind
from rendezvous.testing.processes import Process, free_port, running
from rendezvous.workers import place

HERE = Path(__file__).parent


@pytest.fixture
def started(tmp_path):
    """Return a function that starts two workers, and where they listen."""
    processes = []

    def start(how="works"):
        port = free_port()
        arguments = [str(HERE / "working.py"), str(port), how]
        env = {"TMPDIR": str(tmp_path)}  # one that is killed leaves its metrics there
        process = Process("working", arguments, tmp_path, tmp_path, env).start()
        processes.append(process)
        return process, port

    with running(processes):
        yield start


def asked(port):
    """Return the number and the process id of the worker that answers; nothing if none does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            said = connection.recv(100).decode().split()
    except OSError:
        return None
    return (int(said[0]), int(said[1])) if said else None


def until(condition, seconds=30.0):
    """Wait until ``condition`` is true; return its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def both(port):
    """Return the process ids of both workers by their number, once both answer."""
    seen = {}

    def answered():
        if said := asked(port):
            seen[said[0]] = said[1]
        return len(seen) == 2

    assert until(answered)
    return seen


def alive(pid):
    """Return whether a process is there; one that nobody has waited for is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_connections_go_to_all_of_them(started):
    process, port = started()
    pids = both(port)
    assert sorted(pids) == [1, 2]
    assert process.running.pid not in pids.values()
    answered = [asked(port) for _ in range(100)]
    assert set(answered) == set(pids.items())


def test_a_worker_that_is_killed_is_started_again_while_the_others_answer(started):
    process, port = started()
    pids = both(port)
    os.kill(pids[2], signal.SIGKILL)
    assert until(lambda: "worker 2 has died (-9) and is started again" in process.log())
    assert {asked(port) for _ in range(20)} == {(1, pids[1])}
    assert until(lambda: both(port)[2] != pids[2])
    assert both(port)[1] == pids[1]


def test_a_worker_that_ends_without_need_is_started_again(started):
    process, port = started("leaves-2")
    assert sorted(both(port)) == [1, 2]
    assert "worker 2 has died (0) and is started again" in process.log()


def test_one_that_can_not_go_on_ends_all_with_its_exit_code(started):
    process, port = started("gives-up-2")
    assert process.running.wait(30) == 7
    assert "worker 2 can not go on: exit code 7" in process.log()
    assert asked(port) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_and_is_a_good_end(started, number):
    process, port = started()
    pids = both(port)
    process.running.send_signal(number)
    assert process.running.wait(30) == 0
    assert not any(map(alive, pids.values()))
    assert process.log().rstrip().endswith("all workers have stopped")


def test_workers_end_when_the_process_that_started_them_is_killed(started):
    process, port = started()
    pids = both(port)
    process.kill()
    assert until(lambda: not any(map(alive, pids.values())))
    assert process.log().count("the process that started this one is gone") == 2


def test_nobody_else_can_take_their_port(started):
    _, port = started()
    both(port)
    with pytest.raises(ConfigurationError, match="Address already in use"):
        bind("127.0.0.1", port)


def test_a_process_that_is_told_nothing_is_no_worker():
    assert place([]) is None


def test_a_worker_is_told_its_number_and_its_socket():
    with bind("127.0.0.1", 0) as bound:
        here = place(["--worker", "3", "--listener", str(os.dup(bound.fileno()))])
        with here.listener:
            assert here.number == 3
            assert here.listener.getsockname() == bound.getsockname()
