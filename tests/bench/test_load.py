"""The loads notice what must be noticed."""

import asyncio
import json
import shutil
from itertools import pairwise

import pytest

from bench.closed import ANY_COPY, BARE, OWN, closed_loop
from bench.history import Event, History
from bench.load import QUESTIONS, crowd, own_answer, paced, poisson
from bench.systems import System


def answer(question, model="dt", **changes):
    body = {
        "modelInput": question.body,
        "modelResult": {"modelName": model, "result": question.labels["dt"]},
    }
    return json.dumps(body | changes, separators=(",", ":")).encode()


class Server:
    """Answers over HTTP as ``says`` of a question's body, which may take its time."""

    def __init__(self, says):
        self._says = says
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                status, content = await self._says(body)
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(content))
                    + content
                )
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()


async def right(body):
    (question,) = [q for q in QUESTIONS if q.body == body]
    return 200, answer(question)


class TestVerdicts:
    @pytest.mark.parametrize(
        ("model", "changes", "verdict"),
        [
            ("dt", {}, "right"),
            ("lr", {}, "fallback"),
            ("dt", {"modelInput": QUESTIONS[1].body}, "wrong"),
            ("dt", {"modelResult": {"modelName": "dt", "result": 7}}, "wrong"),
            ("stranger", {}, "wrong"),
            ("dt", {"modelResult": {}}, "empty"),
        ],
    )
    def test_an_answer_must_be_a_models_own_to_that_very_input(self, model, changes, verdict):
        body = answer(QUESTIONS[0], model, **changes)
        assert own_answer(QUESTIONS[0], 200, body) == verdict

    def test_another_status_is_a_failure(self):
        assert own_answer(QUESTIONS[0], 504, b"") == "failed"


def test_latency_counts_from_when_a_request_was_due():
    history = History([Event(due=1.0, sent=1.4, answered=1.5, verdict="right")])
    assert history.figures(1.0).p50_ms == pytest.approx(500.0)


def test_users_come_at_the_rate_that_is_asked_for_and_not_evenly():
    moments = poisson(rate=100.0, seconds=50.0)
    gaps = [b - a for a, b in pairwise(moments)]
    assert len(moments) == pytest.approx(5000, rel=0.05)
    assert min(gaps) < 0.001
    assert max(gaps) > 0.03


async def test_a_stall_shows_in_every_request_that_was_due_meanwhile():
    began = asyncio.get_running_loop().time()

    async def stalls(body):
        await asyncio.sleep(max(0.0, began + 0.5 - asyncio.get_running_loop().time()))
        return await right(body)

    async with Server(stalls) as server:
        history = await paced(server.port, rate=200.0, seconds=0.6)
    late = [event for event in history.events if event.answered - event.due > 0.1]
    assert len(late) > 50
    assert {event.verdict for event in history.events} == {"right"}


async def test_no_two_of_a_crowd_ask_the_same_at_the_same_time():
    under_way, together = set(), []

    async def looks(body):
        name = json.dumps(body)
        together.append(name in under_way)
        under_way.add(name)
        await asyncio.sleep(0.01)
        under_way.discard(name)
        return await right(body)

    async with Server(looks) as server:
        history = await crowd(server.port, clients=3, seconds=0.2)
    assert len(history.events) > 20
    assert not any(together)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is for the bench alone")
@pytest.mark.parametrize(
    ("says", "right_ones"), [(right, True), (lambda _: wrong(), False)], ids=["right", "wrong"]
)
async def test_the_closed_loop_looks_at_every_body(says, right_ones):
    async with Server(says) as server:
        figures = await asyncio.to_thread(closed_loop, System(server.port), 4, 1)
    assert (figures.answers > 0) == right_ones
    assert (figures.wrong > 0) != right_ones
    assert figures.failed == 0


async def wrong():
    return 200, answer(QUESTIONS[0], modelResult={"modelName": "dt", "result": 7})


@pytest.mark.parametrize("exchanges", [OWN, BARE, ANY_COPY])
def test_what_must_be_in_an_answer_is_in_no_other(exchanges):
    assert len({tuple(marks) for _, *marks in exchanges}) == len(QUESTIONS)
