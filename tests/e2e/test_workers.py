"""A front end of two workers behind one port, over a real Pulsar: no answer crosses."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter

import httpx
import numpy as np
import pytest

from rendezvous.model.bundle import load
from rendezvous.sink.archive import read, verify
from rendezvous.testing.processes import Process, free_port, running
from tests.e2e.clients import Seen, many, steadily
from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.pulsar, pytest.mark.timeout(300)]

ADDRESSES = {"score-two-1", "score-two-2"}
MODELS = (("lr", 0), ("dt", 1), ("price", 1))


class System:
    """A front end of two workers, two models of Iris, and a connector that archives scores."""

    def __init__(self, project, pulsar_url):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.scores = project / "two-scores"

        def service(name, module, **more):
            env = {f"RENDEZVOUS_{key.upper()}": str(value) for key, value in more.items()}
            env["RENDEZVOUS_BUS"] = pulsar_url
            return Process(name, ["-m", f"services.{module}"], project, ROOT, env)

        bundles = project / "models"
        self.front = service(
            "two", "front_end", port=self.port, config=project / "rendezvous.yaml", deadline=3,
            workers=2, instance="two",
        )  # fmt: skip
        self.parts = [
            service("two-lr", "model", bundle=bundles / "lr" / "0", role="canary"),
            service("two-dt", "model", bundle=bundles / "dt" / "1"),
            service("two-price", "model", bundle=bundles / "price" / "1", endpoint="housing"),
            service(
                "two-scores", "log_connector", topics="score,score-*", output_dir=self.scores,
                timeout=0.5, group="two",
            ),
            self.front,
        ]  # fmt: skip

    def archived(self):
        """Return the scores of the archive, after proving it whole."""
        assert list(verify(self.scores)) == []
        return [json.loads(line) for line in read(self.scores)]

    def workers(self):
        """Return the process ids of the workers."""
        command = ["ps", "-o", "pid=", "--ppid", str(self.front.running.pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [int(pid) for pid in done.stdout.split()]

    def counted(self, metric):
        """Return the sum of a metric over all its labels, as one scrape shows it."""
        page = httpx.get(f"{self.url}/metrics").text
        found = re.findall(rf"^{metric}(?:{{.*}})? ([0-9.e+]+)$", page, re.MULTILINE)
        return sum(map(float, found))


@pytest.fixture
def system(project, pulsar_url):
    whole = System(project, pulsar_url)
    with running(whole.parts):
        whole.front.wait_ready(f"{whole.url}/readyz")
        assert until(lambda: len(whole.workers()) == 2)
        assert until(lambda: whole.counted("rendezvous_models_live") == len(MODELS))
        yield whole


def until(condition, seconds=30.0):
    """Wait until ``condition`` is true; return its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return value


async def test_200_callers_at_once_each_get_the_answer_to_their_own_input(system, models):
    seen = await many(system.url, requests=200, clients=200)
    assert seen.bad == []
    assert len(seen.ids) == 200
    inputs = [list(a["modelInput"].values()) for a in seen.answers]
    expected = load(models / "dt" / "1").predict(np.asarray(inputs, dtype=np.float32)).values
    assert [a["modelResult"]["result"] for a in seen.answers] == expected.tolist()
    assert system.counted("rendezvous_requests_total") == 200
    assert system.counted("rendezvous_request_duration_seconds_count") == 200

    def scores():
        found = [s for s in system.archived() if s["messageId"] in seen.ids]
        return len(found) >= 400 and found

    found = await asyncio.to_thread(until, scores) or []
    assert Counter(map(key, found)) == {
        (i, name, version): 1 for i in seen.ids for name, version in (("lr", 0), ("dt", 1))
    }
    by_address = Counter(score["scoreTopic"] for score in found)
    assert by_address.keys() == ADDRESSES, "both workers answered"
    assert sum(by_address.values()) == 400


async def test_a_worker_that_is_killed_comes_back_while_the_other_answers(system):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(system.url, stop, seen))
    await asyncio.sleep(0.5)
    before = system.workers()
    counted = system.counted("rendezvous_requests_total")
    os.kill(before[0], signal.SIGKILL)

    def is_back():
        now = system.workers()
        return len(now) == 2 and set(now) != set(before)

    assert await asyncio.to_thread(until, is_back)
    at_return = len(seen.answers)
    assert await asyncio.to_thread(until, lambda: len(seen.answers) > at_return + 100)
    stop.set()
    await load
    assert before[1] in system.workers()
    assert system.counted("rendezvous_requests_total") >= counted + 100
    # what it had in hand is lost with it: at 50 a second that is a few requests
    assert len(seen.bad) < 10, seen.bad
    assert all("Error" in bad for bad in seen.bad), "a lost connection, never a wrong answer"
    assert "is started again" in system.front.log()


async def test_a_stop_finishes_what_is_in_hand_on_both(system):
    under_way = asyncio.create_task(many(system.url, requests=100, clients=100))
    await asyncio.to_thread(until, lambda: system.counted("rendezvous_inflight") > 0, 5.0)
    workers = system.workers()
    assert await asyncio.to_thread(system.front.stop) == 0
    seen = await under_way
    assert seen.answers
    assert all("Connect" in bad or "Read" in bad for bad in seen.bad), seen.bad
    assert system.workers() == []
    assert not any(alive(pid) for pid in workers)
    assert "Traceback" not in system.front.log()


def alive(pid):
    """Return whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def key(score):
    """Return what tells a score from all others."""
    model = score["provenance"]["model"]
    return score["messageId"], model["modelName"], model["modelVersion"]
