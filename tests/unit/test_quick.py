"""A quick model is evaluated in the loop; one that is not, or hangs, does not hold it up."""

import asyncio
import threading
import time

import pytest

from rendezvous.model import quick
from rendezvous.model.quick import Evaluations


def here():
    return threading.current_thread() is threading.main_thread()


async def until_quick(evaluations):
    for _ in range(200):
        await evaluations.run(here)
    assert evaluations.quick


@pytest.fixture
def evaluations():
    made = Evaluations("dt-1", in_loop=True)
    yield made
    made.close()


async def test_a_model_is_evaluated_in_a_thread_until_it_has_shown_itself_quick(evaluations):
    assert not await evaluations.run(here)
    await until_quick(evaluations)
    assert await evaluations.run(here)


async def test_a_model_that_becomes_slow_goes_back_to_the_thread(evaluations):
    await until_quick(evaluations)
    await evaluations.run(lambda: time.sleep(0.05))
    assert not await evaluations.run(here)
    await until_quick(evaluations)


async def test_a_slow_model_leaves_the_loop_alive(evaluations):
    turns = 0
    running = asyncio.create_task(evaluations.run(lambda: time.sleep(0.2)))
    while not running.done():
        turns += 1
        await asyncio.sleep(0.01)
    assert turns > 5


async def test_beside_others_a_quick_model_stays_in_its_thread():
    evaluations = Evaluations("dt-1", in_loop=False)
    for _ in range(200):
        await evaluations.run(here)
    assert not await evaluations.run(here)
    evaluations.close()


async def test_a_process_whose_quick_model_hangs_ends(monkeypatch, caplog):
    monkeypatch.setattr(quick, "STUCK", 0.2)
    ended = threading.Event()
    codes = []
    evaluations = Evaluations(
        "dt-1", in_loop=True, give_up=lambda code: (codes.append(code), ended.set())
    )
    await until_quick(evaluations)
    await evaluations.run(lambda: ended.wait(5))
    assert codes == [1]
    assert "dt-1 hangs" in caplog.text
    evaluations.close()
