"""A worker serves one model: it loses no request, and no request harms another."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from rendezvous.bus.memory import MemoryBus
from rendezvous.contract import NESTING, decode_announcement, decode_score
from rendezvous.deadletter import TRIES
from rendezvous.errors import BusRefused, BusUnavailable
from rendezvous.model.worker import BATCHES_UNDER_WAY, HANG, HEARTBEAT, Post, Worker
from tests.unit.scores import IRIS, Summing, request

SOON = 10.0
"""Seconds within which what must happen has happened, on a busy machine too."""


class Seen:
    """An observer that adds up what it was told."""

    def __init__(self):
        self.outcomes = {}
        self.rows = 0
        self.buried_of = []
        self.reads = []

    def worked(self, model, version, outcome, number):
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + number

    def evaluated(self, model, version, seconds, rows):
        assert (model, version) == ("dt", 1)
        assert seconds >= 0
        self.rows += rows

    def buried(self, topic):
        self.buried_of.append(topic)

    def reading(self, group, topics, *, now):
        self.reads.append((group, *topics, now))


class Hanging(Summing):
    """A model that does not come back until it is let go."""

    def __init__(self):
        super().__init__()
        self.going_on = threading.Event()

    def predict(self, matrix):
        self.going_on.wait(SOON)
        return super().predict(matrix)


class Held(MemoryBus):
    """A bus on which scores are durable only once they are let go."""

    def __init__(self):
        super().__init__()
        self.held = []

    def publish(self, topic, payload, **rest):
        done = super().publish(topic, payload, **rest)
        if topic != "score":
            return done
        self.held.append(asyncio.get_running_loop().create_future())
        return self.held[-1]

    def let_go(self):
        for future in self.held:
            if not future.done():
                future.set_result(None)


@dataclass
class Bench:
    """A bus with a worker's topics, read by nobody else."""

    bus: MemoryBus
    model: Summing
    seen: Seen
    scores: object
    announcements: object
    buried: object

    def worker(self, bus=None, **post):
        return Worker(self.model, bus or self.bus, Post("iris", "iris", **post), self.seen)

    def ask(self, *message_ids, **rest):
        """Publish requests; the queue of the workers' group keeps them."""
        for message_id in message_ids:
            self.bus.publish("iris", request(message_id, **rest).encode(), key=message_id)

    async def next_scores(self, number=1):
        """Return the next scores by message id."""
        found = {}
        async with asyncio.timeout(SOON):
            while len(found) < number:
                for delivery in await self.scores.receive():
                    read = decode_score(delivery.payload)
                    assert read.message_id not in found
                    assert delivery.key == read.message_id
                    found[read.message_id] = read
        return found

    async def next_announcement(self):
        async with asyncio.timeout(SOON):
            (delivery,) = await self.announcements.receive(1)
            return decode_announcement(delivery.payload)

    @property
    def backlog(self):
        return self.bus.backlog("iris", "dt-1")


@asynccontextmanager
async def bench(bus=None):
    bus = bus or MemoryBus()
    async with (
        bus.subscribe(["score", "score-b"], "test") as scores,
        bus.subscribe(["models"], "test") as announcements,
        bus.subscribe(["iris-dead-letter"], "test") as buried,
        bus.subscribe(["iris"], "dt-1"),  # the group is there before its first worker
    ):
        yield Bench(bus, Summing(), Seen(), scores, announcements, buried)


@asynccontextmanager
async def serving(*workers):
    """Run workers inside the block; then stop them, and see that they come to an end."""
    stop, before = asyncio.Event(), asyncio.all_tasks()
    tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(SOON):
            await asyncio.gather(*tasks)
    await until(lambda: asyncio.all_tasks() <= before)


async def until(condition):
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.001)


class TestScores:
    async def test_are_those_of_the_model_and_say_who_scored_and_how_long_it_took(self):
        async with bench() as b:
            b.ask("r1", endpoint="iris")
            async with serving(b.worker(role="canary")):
                score = (await b.next_scores())["r1"]

        assert (score.result.model_name, score.result.result) == ("dt", sum(IRIS.values()))
        assert (score.endpoint, score.error) == ("iris", None)
        model = score.model
        assert (model.model_name, model.model_version, model.role) == ("dt", 1, "canary")
        assert model.digest == b.model.manifest.digest
        assert 0 <= model.queue_ms <= model.elapsed_time_after_request <= SOON * 1000
        assert 0 <= model.evaluated_ms <= model.elapsed_time_after_request

    async def test_say_in_milliseconds_how_long_after_the_request_they_came(self):
        async with bench() as b:
            b.ask("r1", age=100.0)
            async with serving(b.worker()):
                model = (await b.next_scores())["r1"].model

        assert 100_000 <= model.queue_ms <= model.elapsed_time_after_request
        assert model.elapsed_time_after_request <= 100_000 + SOON * 1000

    async def test_go_to_the_requests_return_address(self):
        async with bench() as b:
            b.ask("r1", score_topic="score-b")
            async with serving(b.worker()):
                async with asyncio.timeout(SOON):
                    (delivery,) = await b.scores.receive()

        assert delivery.topic == "score-b"

    async def test_of_requests_that_wait_together_are_predicted_together(self):
        async with bench() as b:
            ids = [f"r{number}" for number in range(100)]
            for number, message_id in enumerate(ids):
                b.ask(message_id, model_input=dict.fromkeys(IRIS, number))
            async with serving(b.worker()):
                scores = await b.next_scores(100)
                await until(lambda: b.seen.outcomes == {"ok": 100})

        assert b.model.batches == [100]
        assert b.seen.rows == 100
        assert [scores[one].result.result for one in ids] == [4.0 * n for n in range(100)]

    async def test_are_predicted_at_most_so_many_at_once(self):
        async with bench() as b:
            b.ask(*[f"r{number}" for number in range(10)])
            async with serving(b.worker(max_batch=4)):
                await b.next_scores(10)

        assert b.model.batches == [4, 4, 2]

    async def test_keep_what_others_wrote_into_the_request(self):
        async with bench() as b:
            b.ask("r1", provenance={"gateway": {"hop": 1}})
            async with serving(b.worker()), asyncio.timeout(SOON):
                (delivery,) = await b.scores.receive()
                written = json.loads(delivery.payload)

        assert written["provenance"]["gateway"] == {"hop": 1}
        assert written["modelInput"] == IRIS


class TestFailures:
    async def test_of_an_input_are_error_scores_and_harm_no_other(self):
        async with bench() as b:
            b.ask("good", "fine")
            b.ask("short", model_input={"sepalLength": 1.0})
            b.ask("poison", model_input=dict.fromkeys(IRIS, Summing.poison))
            b.ask("text", model_input=dict.fromkeys(IRIS, "nine"))
            async with serving(b.worker()):
                scores = await b.next_scores(5)

        errors = {one: score.error.type for one, score in scores.items() if score.error}
        assert errors == {"short": "InputError", "poison": "ModelError", "text": "InputError"}
        assert "sepalWidth" in scores["short"].error.message
        assert "I cannot do this one" in scores["poison"].error.message
        assert scores["good"].result.result == scores["fine"].result.result == 42.0
        assert b.seen.outcomes == {"ok": 2, "error": 3}

    async def test_of_an_input_name_the_model_so_that_nobody_waits_for_it(self):
        async with bench() as b:
            b.ask("r1", model_input={})
            async with serving(b.worker()):
                score = (await b.next_scores())["r1"]

        assert (score.model.model_name, score.model.model_version) == ("dt", 1)
        assert score.result is None


class TestTheDeadline:
    async def test_that_has_passed_drops_the_request_and_counts_it(self):
        async with bench() as b:
            b.ask("late", "later", ends_in=-0.001)
            b.ask("in time")
            async with serving(b.worker()):
                scores = await b.next_scores()

        assert scores.keys() == {"in time"}
        assert b.seen.outcomes == {"expired": 2, "ok": 1}
        assert b.model.batches == [1]
        assert b.backlog == 0

    async def test_that_nobody_named_never_passes(self):
        async with bench() as b:
            b.ask("r1", ends_in=None)
            async with serving(b.worker()):
                assert (await b.next_scores()).keys() == {"r1"}


class TestPoison:
    @pytest.mark.parametrize(
        "payload",
        [
            b"not a request",
            b"{}",
            b"\xff\xfe",
            request("r1", score_topic="models").encode(),
            request("r1", score_topic="score-").encode(),
            request("r1", score_topic="score/../../admin").encode(),
            request("r1", score_topic="persistent://public/default/score").encode(),
            request("r1", score_topic="score\n").encode(),
            request("r1", model_input={"a": json.loads("[" * NESTING + "]" * NESTING)}).encode(),
            request("r1", model_input={"a": 0.25})
            .encode()
            .replace(b"0.25", b"[" * 950 + b"]" * 950),
        ],
    )
    async def test_is_buried_after_a_few_tries_and_harms_no_other(self, payload):
        async with bench() as b:
            b.bus.publish("iris", payload, key="k")
            b.ask("r2")
            async with serving(b.worker()):
                assert (await b.next_scores()).keys() == {"r2"}
                async with asyncio.timeout(SOON):
                    (letter,) = await b.buried.receive()
                await until(lambda: b.seen.buried_of == ["iris"])
                b.ask("r3")
                assert (await b.next_scores()).keys() == {"r3"}

        assert (letter.payload, letter.key) == (payload, "k")
        assert letter.properties["tries"] == str(TRIES)
        assert b.backlog == 0

    async def test_names_the_return_address_that_was_refused(self):
        async with bench() as b:
            b.ask("r1", score_topic="admin")
            async with serving(b.worker()):
                async with asyncio.timeout(SOON):
                    (letter,) = await b.buried.receive()

        assert letter.properties["reason"] == "scoreTopic 'admin' is not allowed"
        assert b.model.batches == []

    async def test_is_what_an_operator_says_it_is(self):
        async with bench() as b:
            b.ask("r1", score_topic="score")
            b.ask("r2", score_topic="score-b")
            async with serving(b.worker(reply_topics="score-[ab]")):
                assert (await b.next_scores()).keys() == {"r2"}
                await until(lambda: b.seen.buried_of == ["iris"])

    async def test_is_also_a_request_whose_score_the_bus_refuses(self):
        class Strict(MemoryBus):
            def publish(self, topic, payload, **rest):
                if topic == "score-b":
                    done = asyncio.get_running_loop().create_future()
                    done.set_exception(BusRefused("no right to write there"))
                    return done
                return super().publish(topic, payload, **rest)

        async with bench(Strict()) as b:
            b.ask("r1", score_topic="score-b")
            b.ask("r2")
            async with serving(b.worker()):
                assert (await b.next_scores()).keys() == {"r2"}
                await until(lambda: b.seen.buried_of == ["iris"])
                (letter,) = await b.buried.receive()

        assert letter.key == "r1"
        assert letter.properties["reason"] == "no right to write there"
        assert b.backlog == 0


class TestAcks:
    async def test_come_only_after_the_score_is_durable(self):
        bus = Held()
        async with bench(bus) as b:
            b.ask("r1")
            stop = asyncio.Event()
            working = asyncio.create_task(b.worker().run(stop))
            await b.next_scores()  # published, and not durable yet
            working.cancel()  # the process dies
            await asyncio.gather(working, return_exceptions=True)

            assert b.backlog == 1  # the request comes again
            async with serving(b.worker()):
                assert (await b.next_scores()).keys() == {"r1"}
                bus.let_go()
                await until(lambda: all(future.done() for future in bus.held))
            assert b.backlog == 0

    async def test_are_not_sent_where_publishing_failed_so_that_it_is_tried_again(self):
        class Flaky(MemoryBus):
            def publish(self, topic, payload, **rest):
                if topic == "score" and not failures:
                    failures.append(payload)
                    done = asyncio.get_running_loop().create_future()
                    done.set_exception(BusUnavailable("the broker is away"))
                    return done
                return super().publish(topic, payload, **rest)

        failures = []
        async with bench(Flaky()) as b:
            b.ask("r1", "r2")
            async with serving(b.worker()):
                assert (await b.next_scores(2)).keys() == {"r1", "r2"}

        assert len(failures) == 1
        assert b.backlog == 0

    async def test_that_are_owed_hold_up_further_batches_but_not_the_next_few(self):
        bus = Held()
        async with bench(bus) as b:
            b.ask(*[f"r{number}" for number in range(BATCHES_UNDER_WAY + 3)])
            async with serving(b.worker(max_batch=1)):
                await until(lambda: len(bus.held) == BATCHES_UNDER_WAY)
                await b.next_announcement()
                await b.next_announcement()  # half a second on
                assert len(bus.held) == BATCHES_UNDER_WAY
                assert b.backlog == 3
                bus.let_go()
                await until(lambda: len(bus.held) == BATCHES_UNDER_WAY + 3)
                bus.let_go()

            assert b.backlog == 0


class TestAnnouncements:
    async def test_are_made_at_the_start_and_again_and_again(self):
        async with bench() as b:
            before = time.time()
            async with serving(b.worker(role="shadow", instance="a")):
                first, second = await b.next_announcement(), await b.next_announcement()

        assert (first.endpoint, first.model_name, first.model_version) == ("iris", "dt", 1)
        assert (first.role, first.instance, first.state) == ("shadow", "a", "serving")
        assert first.digest == b.model.manifest.digest
        assert before <= first.timestamp < second.timestamp
        assert second.state == "serving"

    async def test_wait_until_what_has_become_too_old_is_gone_through(self):
        async with bench() as b:
            b.ask(*[f"old-{number}" for number in range(20)], ends_in=-1)
            b.ask("new")
            async with serving(b.worker(max_batch=5)):
                await b.next_announcement()
                assert b.seen.outcomes["expired"] == 20

    async def test_cease_while_the_model_hangs_and_the_worker_can_still_be_stopped(self):
        async with bench() as b:
            b.model = Hanging()
            async with serving(b.worker()):
                await b.next_announcement()
                b.ask("r1")
                await until(lambda: b.backlog == 0)
                await asyncio.sleep(HANG)
                while await b.announcements.receive(max_wait=2 * HEARTBEAT):
                    pass  # those on their way
                b.model.going_on.set()
                assert (await b.next_announcement()).state == "serving"
                await b.next_scores()

    async def test_and_a_hanging_model_do_not_hold_up_the_event_loop_when_cancelled(self):
        async with bench() as b:
            b.model = Hanging()
            b.ask("r1")
            running = asyncio.create_task(b.worker().run(asyncio.Event()))
            await until(lambda: b.backlog == 0)
            running.cancel()
            async with asyncio.timeout(SOON / 2):
                await asyncio.gather(running, return_exceptions=True)
            assert b.backlog == 1, "it comes again"
        b.model.going_on.set()

    async def test_are_made_only_when_requests_can_come(self):
        class Watched(MemoryBus):
            def publish(self, topic, payload, **rest):
                if topic == "models":
                    groups_at_announcement.append("dt-1" in self._topics.get("iris", {}))
                return super().publish(topic, payload, **rest)

        groups_at_announcement = []
        worker = Worker(Summing(), Watched(), Post("iris", "iris"))
        async with serving(worker):
            await until(lambda: groups_at_announcement)

        assert groups_at_announcement[0]

    async def test_are_made_by_one_that_has_told_that_it_reads(self):
        async with bench() as b, serving(b.worker()):
            await b.next_announcement()
            assert b.seen.reads == [("dt-1", "iris", False), ("dt-1", "iris", True)]

        assert b.seen.reads[2:] == [("dt-1", "iris", False)]

    async def test_end_with_one_that_it_has_stopped(self):
        async with bench() as b:
            async with serving(b.worker()):
                await b.next_announcement()
            while (last := await b.next_announcement()).state == "serving":
                pass

        assert last.state == "stopped"

    async def test_say_that_it_has_stopped_only_when_its_scores_are_durable(self):
        bus = Held()
        async with bench(bus) as b:
            b.ask("r1")
            async with serving(b.worker()) as stop:
                await b.next_scores()
                stop.set()
                assert (await b.next_announcement()).state == "serving"
                assert (await b.next_announcement()).state == "serving"  # half a second on
                bus.let_go()
                while (last := await b.next_announcement()).state == "serving":
                    pass

        assert last.state == "stopped"

    async def test_that_fail_leave_the_worker_at_work(self):
        class Mute(MemoryBus):
            def publish(self, topic, payload, **rest):
                if topic != "models":
                    return super().publish(topic, payload, **rest)
                done = asyncio.get_running_loop().create_future()
                done.set_exception(BusUnavailable("the broker is away"))
                return done

        async with bench(Mute()) as b, serving(b.worker()):
            b.ask("r1")
            assert (await b.next_scores()).keys() == {"r1"}

    async def test_that_the_bus_never_takes_do_not_keep_the_worker_from_stopping(self):
        class Deaf(MemoryBus):
            def publish(self, topic, payload, **rest):
                if topic != "models":
                    return super().publish(topic, payload, **rest)
                return asyncio.get_running_loop().create_future()

        async with bench(Deaf()) as b, serving(b.worker()):
            b.ask("r1")
            await b.next_scores()


class TestReplicas:
    async def test_share_the_requests_and_answer_each_once(self):
        async with bench() as b:
            ids = {f"r{number}" for number in range(200)}
            one, other = b.worker(instance="a", max_batch=5), b.worker(instance="b", max_batch=5)
            b.ask(*ids)
            async with serving(one, other):
                scores = await b.next_scores(200)

        assert scores.keys() == ids
        assert b.seen.outcomes == {"ok": 200}

    async def test_take_over_what_another_had_in_hand_when_it_died(self):
        bus = Held()
        async with bench(bus) as b:
            b.ask("r1", "r2", "r3")
            dying = asyncio.create_task(b.worker(instance="a").run(asyncio.Event()))
            await b.next_scores(3)
            async with serving(b.worker(instance="b")):
                dying.cancel()
                assert (await b.next_scores(3)).keys() == {"r1", "r2", "r3"}
                bus.let_go()

    @pytest.mark.parametrize("other", [("lr", 0), ("dt", 2)], ids=["model", "version"])
    async def test_of_another_model_or_version_get_every_request_too(self, other):
        async with bench() as b:
            another = Worker(Summing(*other), b.bus, Post("iris", "iris"))
            async with serving(b.worker(), another):
                await b.next_announcement()
                await b.next_announcement()
                b.ask("r1", "r2")
                found = set()
                async with asyncio.timeout(SOON):
                    while len(found) < 4:
                        for delivery in await b.scores.receive():
                            read = decode_score(delivery.payload)
                            model = (read.model.model_name, read.model.model_version)
                            found.add((read.message_id, model))

        assert found == {(one, model) for one in ("r1", "r2") for model in (("dt", 1), other)}


class TestStopping:
    async def test_with_requests_in_hand_answers_and_acks_them(self):
        class Slow(Summing):
            def predict(self, matrix):
                loop.call_soon_threadsafe(stop.set)
                time.sleep(0.05)  # the batch is in hand while the worker is stopped
                return super().predict(matrix)

        loop = asyncio.get_running_loop()
        async with bench() as b:
            b.model = Slow()
            b.ask("r1", "r2")
            async with serving(b.worker()) as stop:
                assert (await b.next_scores(2)).keys() == {"r1", "r2"}

        assert b.model.batches == [2]
        assert b.backlog == 0

    async def test_leaves_what_it_has_not_taken_to_the_next(self):
        async with bench() as b:
            async with serving(b.worker()) as stop:
                await b.next_announcement()
                stop.set()
            b.ask("r1")
            assert b.backlog == 1

            async with serving(b.worker()):
                assert (await b.next_scores()).keys() == {"r1"}

    async def test_is_what_happens_when_the_bus_goes_away(self):
        async with bench(Held()) as b:
            before = asyncio.all_tasks()
            b.ask("r1")
            working = asyncio.create_task(b.worker().run(asyncio.Event()))
            await b.next_scores()  # its settling is under way
            await b.bus.aclose()

            with pytest.raises(BusUnavailable):
                async with asyncio.timeout(SOON):
                    await working
            await until(lambda: asyncio.all_tasks() <= before)
            assert b.backlog == 1

    async def test_with_nothing_to_do_is_prompt(self):
        worker = Worker(Summing(), MemoryBus(), Post("iris", "iris"))
        async with asyncio.timeout(SOON), serving(worker) as stop:
            stop.set()
