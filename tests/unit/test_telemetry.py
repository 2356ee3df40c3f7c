"""Logs that people and machines can read, and metrics that are each declared once."""

import asyncio
import io
import json
import logging
import re
import sys
import time
from importlib.metadata import version

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.contract import Request
from rendezvous.decision import Decision, Endpoint
from rendezvous.policy import Newest
from rendezvous.record import DecisionRecord, PolicyName, RecordedScore
from rendezvous.telemetry import (
    DISTRIBUTION,
    MODELS_MOST,
    SHARED,
    JsonFormatter,
    Metrics,
    TextFormatter,
    configure_logging,
    forget_worker,
    share_metrics,
)
from tests.unit.scores import score

IRIS = Endpoint("iris", "iris", Newest())


def decision(chosen=None, reason="exhausted", elapsed=0.02):
    asked = Request(timestamp=1.0, message_id="r1", model_input={}, score_topic="score")
    return Decision(asked, chosen, reason, "newest", elapsed, (), ())


def values(metrics):
    """Return the samples by name with labels, those of the histograms' buckets left out."""
    lines = metrics.text().decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in samples if "_bucket" not in name}


class TestMetrics:
    def test_count_a_decision_with_its_outcome_and_the_model_that_answered(self):
        metrics = Metrics()
        metrics.decided(IRIS, decision(score("dt", 1), "newest", 0.02))
        metrics.decided(IRIS, decision(elapsed=0.5))

        found = values(metrics)

        requests = 'rendezvous_requests_total{endpoint="iris",outcome="%s",reason="%s"}'
        assert found[requests % ("answered", "newest")] == 1
        assert found[requests % ("exhausted", "exhausted")] == 1
        answers = 'rendezvous_answers_total{endpoint="iris",model="dt",version="1"}'
        assert found[answers] == 1
        assert found['rendezvous_request_duration_seconds_count{endpoint="iris"}'] == 2
        assert found['rendezvous_request_duration_seconds_sum{endpoint="iris"}'] == 0.52

    @pytest.mark.parametrize("state", ["in_time", "late", "error", "duplicate", "foreign"])
    def test_count_a_score_with_what_became_of_it(self, state):
        metrics = Metrics()
        metrics.arrived(score("dt", 1), state)

        name = f'rendezvous_scores_total{{model="dt",state="{state}",version="1"}}'
        assert values(metrics)[name] == 1

    def test_a_sender_that_invents_models_is_counted_as_one(self):
        metrics = Metrics()
        for number in range(3 * MODELS_MOST):
            metrics.arrived(score(f"m{number}", 1), "foreign")

        found = values(metrics)

        assert found['rendezvous_scores_total{model="m0",state="foreign",version="1"}'] == 1
        others = 'rendezvous_scores_total{model="other",state="foreign",version=""}'
        assert found[others] == 2 * MODELS_MOST

    def test_count_a_message_that_is_no_score(self):
        metrics = Metrics()
        metrics.unreadable("score")

        assert values(metrics)['rendezvous_unreadable_messages_total{topic="score"}'] == 1

    def test_count_a_workers_requests_and_batches(self):
        metrics = Metrics()
        metrics.worked("dt", 1, "expired", 3)
        metrics.evaluated("dt", 1, 0.25, 40)
        metrics.evaluated("dt", 1, 0.25, 2)

        found = values(metrics)

        dt = 'model="dt",version="1"'
        requests = 'rendezvous_worker_requests_total{model="dt",outcome="expired",version="1"}'
        assert found[requests] == 3
        assert found[f"rendezvous_worker_evaluation_seconds_count{{{dt}}}"] == 2
        assert found[f"rendezvous_worker_evaluation_seconds_sum{{{dt}}}"] == 0.5
        assert found[f"rendezvous_worker_rows_total{{{dt}}}"] == 42

    def test_count_what_connectors_store_and_try_again(self):
        metrics = Metrics()
        metrics.archived("log-connector", "score", 7)
        metrics.retried("log-connector")

        found = values(metrics)

        archived = 'rendezvous_archived_total{group="log-connector",topic="score"}'
        assert found[archived] == 7
        assert found['rendezvous_sink_retries_total{group="log-connector"}'] == 1

    def test_count_dead_letters(self):
        metrics = Metrics()
        metrics.buried("iris")

        assert values(metrics)['rendezvous_dlq_messages_total{topic="iris"}'] == 1

    def test_count_what_the_rendezvous_server_could_not_read(self):
        metrics = Metrics()
        metrics.unreadable("score")

        assert values(metrics)['rendezvous_unreadable_messages_total{topic="score"}'] == 1

    def test_show_how_many_requests_are_in_flight_at_the_moment_of_the_scrape(self):
        metrics, in_flight = Metrics(), [1, 2]
        metrics.watch_in_flight(lambda: len(in_flight))
        assert values(metrics)["rendezvous_inflight"] == 2

        in_flight.clear()
        assert values(metrics)["rendezvous_inflight"] == 0

    def test_count_a_choice_later_than_the_deadline(self):
        metrics = Metrics()
        metrics.decided(IRIS, decision(elapsed=IRIS.deadline))
        assert not any(name.startswith("rendezvous_deadline_misses") for name in values(metrics))

        metrics.decided(IRIS, decision(elapsed=1.001 * IRIS.deadline))
        assert values(metrics)['rendezvous_deadline_misses_total{endpoint="iris"}'] == 1

    def test_count_models_that_were_taken_out(self):
        metrics = Metrics()
        metrics.ejected("iris", "dt", 1)

        name = 'rendezvous_models_ejected_total{endpoint="iris",model="dt",version="1"}'
        assert values(metrics)[name] == 1

    def test_count_how_models_compare_with_the_chosen_one_and_records_that_are_lost(self):
        def said(name, **rest):
            return RecordedScore(
                model=name, version=1, role="shadow", after_ms=1.0, valid=True, late=False, **rest
            )

        metrics = Metrics()
        record = DecisionRecord(
            timestamp=1.0, message_id="r1", endpoint="iris", model_input={}, deadline_ms=1000.0,
            policy=PolicyName(name="newest"), outcome="answered", reason="newest", decided_ms=1.0,
            closed_ms=2.0,
            scores=[said("dt"), said("lr", agrees=True), said("rf", agrees=False)],
        )  # fmt: skip
        metrics.recorded(IRIS, record)
        metrics.record_lost(IRIS)

        found = values(metrics)
        compared = {k: v for k, v in found.items() if k.startswith("rendezvous_comparisons_total")}
        labels = 'rendezvous_comparisons_total{endpoint="iris",model="%s",outcome="%s",version="1"}'
        assert compared == {labels % ("lr", "agree"): 1, labels % ("rf", "disagree"): 1}
        assert found['rendezvous_decisions_lost_total{endpoint="iris"}'] == 1

    def test_show_how_many_models_are_live_at_the_moment_of_the_scrape(self):
        metrics, live = Metrics(), ["dt", "lr"]
        metrics.watch_live("iris", lambda: len(live))
        live.pop()

        assert values(metrics)['rendezvous_models_live{endpoint="iris"}'] == 1

    def test_show_a_group_as_reading_when_all_its_parts_read(self):
        metrics = Metrics()
        gauge = 'rendezvous_reading{group="archive"}'
        metrics.reading("archive", ["decoy"], now=True)
        assert values(metrics)[gauge] == 1
        metrics.reading("archive", ["score"], now=False)
        metrics.reading("another", ["score"], now=False)
        assert values(metrics)[gauge] == 0
        metrics.reading("archive", ["score"], now=True)
        assert values(metrics)[gauge] == 1
        assert values(metrics)['rendezvous_reading{group="another"}'] == 0

    def test_show_how_long_the_oldest_message_in_hand_of_a_group_has_waited(self):
        metrics = Metrics()
        gauge = 'rendezvous_sink_lag_seconds{group="archive"}'
        metrics.holding("archive", ["decoy"], since=time.monotonic() - 10)
        metrics.holding("archive", ["score"], since=time.monotonic() - 90)
        assert values(metrics)[gauge] == pytest.approx(90, abs=5)
        metrics.holding("archive", ["score"], since=None)
        assert values(metrics)[gauge] == pytest.approx(10, abs=5)
        metrics.holding("archive", ["decoy"], since=None)
        assert values(metrics)[gauge] == 0

    def test_name_the_version_that_runs(self):
        assert values(Metrics())[f'rendezvous_build_info{{version="{version(DISTRIBUTION)}"}}'] == 1

    def test_of_two_processes_do_not_meet(self):
        one, other = Metrics(), Metrics()
        one.buried("iris")

        assert 'rendezvous_dlq_messages_total{topic="iris"}' not in values(other)

    def test_are_named_after_the_project_in_base_units_and_explained(self):
        text = Metrics().text().decode()

        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
        kinds = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
        assert len(kinds) >= 9
        for name, kind in kinds.items():
            assert name.startswith("rendezvous_")
            assert helps[name].endswith(".")
            if kind == "counter":
                assert name.endswith("_total")
            if kind == "histogram":
                assert name.endswith("_seconds")


@pytest.fixture
def root():
    """Yield the root logger without handlers, and give it back as it was."""
    logger, noisy = logging.getLogger(), ("elastic_transport", "httpx", "uvicorn.error")
    handlers, level = logger.handlers[:], logger.level
    levels = {name: logging.getLogger(name).level for name in noisy}
    logger.handlers[:] = []
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


class TestSeveralWorkers:
    @pytest.fixture
    def worker(self, monkeypatch, tmp_path):
        """Return what makes the metrics of a worker; use up one's before the next is made."""
        monkeypatch.setenv(SHARED, str(tmp_path))
        monkeypatch.setattr(prometheus_client.values, "ValueClass", None)

        def make(number, requests=0, in_flight=0, live=0):
            share_metrics(number)
            metrics = Metrics(shared=True)
            metrics.watch_in_flight(lambda: in_flight)
            metrics.watch_live("iris", lambda: live)
            for _ in range(requests):
                metrics.decided(IRIS, decision(score("dt", 1), "newest", 0.02))
            metrics.text()  # so that the others know its gauges
            return metrics

        return make

    REQUESTS = 'rendezvous_requests_total{endpoint="iris",outcome="answered",reason="newest"}'

    def test_show_the_sum_of_what_they_count(self, worker):
        one, two = worker(1, requests=3), worker(2, requests=4)
        for found in (values(one), values(two)):
            assert found[self.REQUESTS] == 7
            assert found['rendezvous_request_duration_seconds_count{endpoint="iris"}'] == 7
            assert found['rendezvous_request_duration_seconds_sum{endpoint="iris"}'] == 7 * 0.02
        assert one.text().count(b'seconds_bucket{endpoint="iris",le="0.025"} 7.0') == 1

    def test_show_all_requests_in_flight_and_the_fewest_live_models(self, worker):
        worker(1, in_flight=3, live=2)
        found = values(worker(2, in_flight=4, live=1))
        assert found["rendezvous_inflight"] == 7
        assert found['rendezvous_models_live{endpoint="iris"}'] == 1
        assert found[f'rendezvous_build_info{{version="{version(DISTRIBUTION)}"}}'] == 1

    def test_forget_the_gauges_of_one_that_has_ended_and_keep_its_counts(self, worker, tmp_path):
        worker(1, requests=3, in_flight=3, live=0)
        two = worker(2, requests=4, in_flight=4, live=1)
        forget_worker(str(tmp_path), 1)
        found = values(two)
        assert found[self.REQUESTS] == 7
        assert found["rendezvous_inflight"] == 4
        assert found['rendezvous_models_live{endpoint="iris"}'] == 1

    def test_count_on_from_where_the_predecessor_of_the_same_number_was(self, worker, tmp_path):
        worker(1, requests=3)
        files = sorted(tmp_path.iterdir())
        again = worker(1, requests=1)
        assert values(again)[self.REQUESTS] == 4
        assert sorted(tmp_path.iterdir()) == files

    async def test_let_each_other_know_their_gauges_though_nobody_looks(self, worker, monkeypatch):
        monkeypatch.setattr("rendezvous.telemetry.FRESH", 0.01)
        counts = [5]
        share_metrics(1)
        one = Metrics(shared=True)
        one.watch_in_flight(lambda: counts[-1])
        showing = asyncio.create_task(one.keep_fresh())
        two = worker(2)
        for number in (5, 6):
            counts.append(number)
            await asyncio.sleep(0.1)
            assert values(two)["rendezvous_inflight"] == number
        showing.cancel()

    async def test_of_one_worker_nothing_needs_to_be_kept_fresh(self):
        await asyncio.wait_for(Metrics().keep_fresh(), 1)


class TestLogs:
    def test_go_to_standard_error_as_lines_for_people(self, root, capsys):
        configure_logging("INFO", "text")
        logging.getLogger("rendezvous.core").info("model %s is gone", "dt")
        logging.getLogger("rendezvous.core").debug("not this one")

        out, err = capsys.readouterr()

        assert out == ""
        assert re.fullmatch(r"\S+ \S+ INFO    rendezvous\.core: model dt is gone\n", err)

    def test_go_to_standard_error_as_json_for_machines(self, root, capsys):
        configure_logging("WARNING", "json")
        logging.getLogger("rendezvous.core").warning("model %s is gone", "dt")

        entry = json.loads(capsys.readouterr().err)

        assert entry.pop("time").endswith("+00:00")
        assert entry == {
            "level": "WARNING",
            "logger": "rendezvous.core",
            "message": "model dt is gone",
        }

    def test_can_be_set_up_again_without_saying_all_twice(self, root, capsys):
        configure_logging()
        configure_logging()
        logging.getLogger("rendezvous").info("once")

        assert capsys.readouterr().err.count("once") == 1

    @pytest.mark.parametrize(("level", "heard"), [("DEBUG", True), ("ERROR", False)])
    def test_of_chatty_libraries_are_heard_from_warnings_on(self, root, capsys, level, heard):
        configure_logging(level)
        logging.getLogger("httpx").info("GET 200")
        logging.getLogger("httpx").warning("GET 500")

        logged = capsys.readouterr().err
        assert "GET 200" not in logged
        assert ("GET 500" in logged) is heard


class TestJsonLines:
    @given(said=st.text(), name=st.text(max_size=5))
    def test_are_one_line_each_whatever_is_said(self, said, name):
        record = logging.LogRecord(name, logging.INFO, "a.py", 1, "said: %s", (said,), None)

        line = JsonFormatter().format(record)

        assert len(io.StringIO(line).readlines()) == 1
        assert json.loads(line)["message"] == f"said: {said}"
        assert not re.search(r"[\x00-\x1f]", line)

    def test_tell_of_an_exception_with_its_trace(self):
        try:
            {}["a bug"]
        except KeyError as error:
            trace = (type(error), error, error.__traceback__)
        record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "it failed", (), trace)

        entry = json.loads(JsonFormatter().format(record))

        assert entry["message"] == "it failed"
        assert entry["exception"].startswith("Traceback")
        assert "KeyError: 'a bug'" in entry["exception"]


def test_foreign_text_can_not_forge_a_line_of_the_log():
    name = "dt\n2026-01-01 00:00:00 INFO all is well\x1b[2K\x9b"
    record = logging.makeLogRecord({"msg": "model %s is gone", "args": (name,), "name": "core"})

    line = TextFormatter().format(record)

    assert "\n" not in line
    assert line.endswith(r"model dt\x0a2026-01-01 00:00:00 INFO all is well\x1b[2K\x9b is gone")


def test_the_trace_of_an_error_keeps_its_lines():
    try:
        int("no number")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})

    assert len(TextFormatter().format(record).splitlines()) > 2
