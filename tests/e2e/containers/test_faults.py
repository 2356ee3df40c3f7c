"""Each container is killed while clients run: what that costs, and that it comes back."""

import asyncio

import pytest

from tests.e2e.clients import Seen, steadily
from tests.e2e.containers.stack import OURS, until
from tests.e2e.containers.test_stack import archived_ids, archived_once, scores_answered_with

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

RECOVERY = {"pulsar": 60, "score": 20}
"""Seconds until requests are answered again, at most: of a broker, from its start on two cores."""
OFF_THE_PATH = [name for name in OURS if name not in {"score", "dt_model"}]


@pytest.mark.parametrize("service", [*OFF_THE_PATH, "elastic_search"])
async def test_what_is_off_the_path_costs_no_answer_and_no_record(whole, service, tmp_path):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(whole.url, stop, seen, rate=30))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(whole.kill, service)
    await asyncio.sleep(1)
    await asyncio.to_thread(whole.start, service)
    await asyncio.to_thread(whole.wait_ready)
    stop.set()
    await load
    assert seen.bad == []
    assert len(seen.answers) > 30
    gone = "lr" if service == "lr_model" else None
    assert await asyncio.to_thread(until, lambda: archived_once(whole, seen, tmp_path, gone), 90)


async def test_the_canary_answers_while_production_is_gone(whole, tmp_path):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(whole.url, stop, seen, rate=30))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(whole.kill, "dt_model")
    assert await asyncio.to_thread(until, lambda: seen.models["lr"] > 10)
    await asyncio.to_thread(whole.start, "dt_model")
    await asyncio.to_thread(whole.wait_ready)
    assert await asyncio.to_thread(
        until, lambda: {a["modelResult"]["modelName"] for a in seen.answers[-5:]} == {"dt"}
    )
    stop.set()
    await load
    assert seen.bad == []
    assert await asyncio.to_thread(until, lambda: archived_once(whole, seen, tmp_path, "dt"), 90)


@pytest.mark.parametrize("service", ["pulsar", "score"])
async def test_what_is_on_the_path_comes_back_and_loses_nothing_it_answered(
    whole, service, tmp_path
):
    stop, seen = asyncio.Event(), Seen()
    load = asyncio.create_task(steadily(whole.url, stop, seen, rate=30))
    await asyncio.sleep(1)
    await asyncio.to_thread(whole.kill, service)
    await asyncio.sleep(1)
    await asyncio.to_thread(whole.start, service)
    before = len(seen.answers)
    recovered = await asyncio.to_thread(
        until, lambda: len(seen.answers) > before + 10, RECOVERY[service]
    )
    stop.set()
    await load
    assert recovered, seen.bad[-3:]
    await asyncio.to_thread(whole.wait_ready)
    assert [each for each in seen.bad if each.startswith("another's answer")] == []
    assert await asyncio.to_thread(until, lambda: archived_answers(whole, seen, tmp_path), 90)


def archived_answers(stack, seen, folder):
    """Return whether every input that was answered, and the score it was answered with, are kept.

    A front end that is killed takes the decision records of its last answers with it.
    """
    inputs, scores = archived_ids(stack, folder)
    wanted = scores_answered_with(seen)
    return (
        seen.ids <= set(inputs)
        and wanted <= set(scores)
        and seen.ids <= stack.indexed("decoy-log").keys()
        and wanted <= stack.indexed("score-log").keys()
    )


@pytest.mark.parametrize("service", ["dt_model", "log_collector", "score"])
def test_a_process_that_dies_is_started_again_by_the_engine(whole, service):
    before = whole.inspect(service)["RestartCount"]
    whole.crash(service)
    assert until(lambda: whole.inspect(service)["RestartCount"] > before, 20)
    whole.wait_ready()
    assert until(whole.answers, 20)
