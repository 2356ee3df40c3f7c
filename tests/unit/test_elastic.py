"""The Elasticsearch sink against a small HTTP server that fails as it is told."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from rendezvous.bus.memory import MemoryBus
from rendezvous.cli import app
from rendezvous.errors import ConfigurationError, ContractError, SinkError, SinkUnavailable
from rendezvous.sink import client, elastic
from rendezvous.sink.elastic import ElasticSink, document
from rendezvous.sink.indices import opened
from rendezvous.sink.mapping import PROPERTIES, lacking
from rendezvous.sink.prune import Pruner, prune
from rendezvous.sink.runner import Connector
from rendezvous.testing.processes import free_port
from rendezvous.testing.sink_suite import TIMESTAMP, request

JSON = "application/vnd.elasticsearch+json;compatible-with=9"


class Server:
    """Answers every request through ``answer(method, path, body)``: a status and a body.

    ``None`` in place of an answer breaks the connection off.
    """

    def __init__(self):
        self.seen = []
        self.headers = {"X-Elastic-Product": "Elasticsearch", "Content-Type": JSON}
        self.answer = well
        server = self

        class Connection(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.seen.append((self.command, self.path, body, dict(self.headers)))
                answer = server.answer(self.command, self.path, body)
                if answer is None:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                    self.close_connection = True
                    return
                status, content = answer
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - as the base class calls them

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    @property
    def bulks(self):
        """The bodies of the bulk requests."""
        return [body for _, path, body, _ in self.seen if path.endswith("/_bulk")]

    @property
    def mappings(self):
        """The bodies of the requests to add fields."""
        return [
            json.loads(body)
            for method, path, body, _ in self.seen
            if method == "PUT" and path.endswith("/_mapping")
        ]

    @property
    def templates(self):
        """The bodies of the requests to install a template."""
        return [body for _, path, body, _ in self.seen if path.startswith("/_index_template")]


def well(method, path, body):
    """Answer as a server does that has stored everything, and had no index before."""
    if method == "GET" and path.endswith("/_mapping"):
        return 404, failure("index_not_found_exception")
    return 200, bulk_answer(body, 201) if path.endswith("/_bulk") else {"acknowledged": True}


def bulk_answer(body, status, **error):
    actions = body.splitlines()[::2]
    return {
        "errors": bool(error),
        "items": [{"create": {"status": status, **error}}] * len(actions),
    }


def on_bulk(answer):
    """Give ``answer(body)`` to each bulk request; all else is well."""

    def answers(method, path, body):
        return answer(body) if path.endswith("/_bulk") else well(method, path, body)

    return answers


def on_template(*answer, properties=None):
    """Give ``answer`` to the template, and an index of these fields; all else is well."""

    def answers(method, path, body):
        if properties is not None and method == "GET" and path.endswith("/_mapping"):
            return 200, {"decoy-log": {"mappings": {"properties": properties}}}
        return answer if path.startswith("/_index_template") else well(method, path, body)

    return answers


def on_fields(*answer, properties):
    """Give ``answer`` to new fields for the index, which has ``properties``; all else is well."""
    rest = on_template(200, {"acknowledged": True}, properties=properties)

    def answers(method, path, body):
        if method == "PUT" and path.endswith("/_mapping"):
            return answer
        return rest(method, path, body)

    return answers


def failure(kind, reason="so it is"):
    error = {"type": kind, "reason": reason}
    return {"error": {**error, "root_cause": [error]}}


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
async def sink(server):
    sink = ElasticSink(server.url, "decoy-log", api_key="c2VjcmV0")
    yield sink
    await sink.aclose()


class TestUnavailable:
    @pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504])
    async def test_a_request_that_fails_is_to_be_tried_again(self, server, sink, status):
        server.answer = on_bulk(lambda body: (status, failure("cluster_block_exception")))
        with pytest.raises(SinkUnavailable, match=f"decoy-log.*{status}"):
            await sink.write([request("a")])
        server.answer = well
        assert await sink.write([request("a")]) == []

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (429, "es_rejected_execution_exception"),
            (503, "unavailable_shards_exception"),
            (403, "cluster_block_exception"),
            (404, "index_not_found_exception"),
            (400, "index_closed_exception"),
            (400, "validation_exception"),
            (400, "invalid_alias_name_exception"),
        ],
    )
    async def test_one_document_that_fails_is_to_be_tried_again_with_its_batch(
        self, server, sink, status, kind
    ):
        error = {"type": kind, "reason": "busy"}
        server.answer = on_bulk(lambda body: (200, bulk_answer(body, status, error=error)))
        with pytest.raises(SinkUnavailable, match=f"{kind}: busy"):
            await sink.write([request("a"), request("b")])

    @pytest.mark.parametrize(
        "answer",
        [
            None,
            (200, b"<html>maintenance</html>"),
            (200, b"{"),
            (200, []),
            (200, {}),
            (200, {"items": []}),
            (200, {"items": [{"create": {"status": 201}}] * 3}),
            (200, {"items": [{"index": {"status": 201}}]}),
            (200, {"items": [{"create": {"status": "fine"}}]}),
        ],
        ids=str,
    )
    async def test_garbage_is_no_proof_that_anything_is_stored(self, server, sink, answer):
        server.answer = on_bulk(lambda body: answer)
        with pytest.raises(SinkUnavailable):
            await sink.write([request("a")])

    async def test_a_server_of_another_kind_is_not_taken_for_elasticsearch(self, server, sink):
        server.headers = {"Content-Type": "application/json"}
        with pytest.raises(SinkUnavailable, match="not Elasticsearch"):
            await sink.write([request("a")])

    async def test_a_server_that_does_not_answer_in_time_is_away(self, server, monkeypatch):
        monkeypatch.setattr(client, "REQUEST_TIMEOUT", 0.1)
        stuck = threading.Event()
        server.answer = lambda *_: (stuck.wait(20), None)[1]
        sink = ElasticSink(server.url, "decoy-log")
        try:
            with pytest.raises(SinkUnavailable, match=r"timed out|timeout"):
                await sink.write([request("a")])
        finally:
            stuck.set()
            await sink.aclose()

    async def test_no_server_at_all_is_away(self):
        sink = ElasticSink(f"http://127.0.0.1:{free_port()}", "decoy-log")
        with pytest.raises(SinkUnavailable, match=r"decoy-log.*refused|decoy-log.*connect"):
            await sink.write([])
        await sink.aclose()

    async def test_a_connector_stores_all_once_the_server_is_back(self, server, sink):
        answers = iter([(503, failure("away")), (429, failure("busy")), None])
        stored = {}

        def bulk(body):
            for answer in answers:
                return answer
            for line in body.splitlines()[1::2]:
                stored[json.loads(line)["messageId"]] = line
            return 200, bulk_answer(body, 201)

        server.answer = on_bulk(bulk)
        bus, stop = MemoryBus(), asyncio.Event()
        connector = Connector(bus, sink, ["decoy"], group="elastic", timeout=0.05)
        async with bus.subscribe(["decoy"], "elastic"):
            pass
        for name in "abc":
            await bus.publish("decoy", request(name).payload)
        task = asyncio.create_task(connector.run(stop))
        async with asyncio.timeout(20):
            while set(stored) != set("abc"):
                await asyncio.sleep(0.01)
        stop.set()
        await task


class TestRefused:
    async def test_a_request_that_is_too_large_is_halved_until_it_fits(self, server, sink):
        def bulk(body):
            if len(body) > 1500:
                return 413, failure("content_too_long_exception")
            return 200, bulk_answer(body, 201)

        server.answer = on_bulk(bulk)
        batch = [request(f"r{n}") for n in range(50)]
        large = request("large", modelInput={"text": "x" * 2000})
        [rejection] = await sink.write([*batch[:20], large, *batch[20:]])
        assert rejection.record == large
        assert "413" in rejection.reason
        taken = [
            json.loads(line)["messageId"]
            for body in server.bulks
            if len(body) <= 1500
            for line in body.splitlines()[1::2]
        ]
        assert taken == [each.id for each in batch]

    async def test_a_document_that_its_mapping_refuses_comes_back_with_the_reason(
        self, server, sink
    ):
        error = {"type": "document_parsing_exception", "reason": "no number"}
        server.answer = on_bulk(lambda body: (200, bulk_answer(body, 400, error=error)))
        [rejection] = await sink.write([request("a")])
        assert rejection.reason == "400 document_parsing_exception: no number"

    async def test_a_document_that_is_there_already_is_stored(self, server, sink):
        error = {"type": "version_conflict_engine_exception", "reason": "there already"}
        server.answer = on_bulk(lambda body: (200, bulk_answer(body, 409, error=error)))
        assert await sink.write([request("a")]) == []


class TestRequests:
    async def test_no_request_is_larger_than_the_limit(self, server, sink):
        batch = [request(f"r{n}", modelInput={"text": "x" * 100_000}) for n in range(40)]
        assert await sink.write(batch) == []
        sizes = [len(body) for body in server.bulks]
        assert max(sizes) <= elastic.LARGEST_BODY
        assert len(sizes) == 4

    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
    async def test_a_document_larger_than_the_limit_goes_alone(self, server, sink):
        large = request("large", modelInput={"text": "x" * elastic.LARGEST_BODY})
        assert await sink.write([request("a"), large, request("b")]) == []
        assert [len(body.splitlines()) for body in server.bulks] == [2, 2, 2]

    async def test_the_template_is_installed_once_each_time_it_is_opened(self, server, sink):
        for _ in range(2):
            for name in "ab":
                await sink.write([request(name)])
            await sink.aclose()
        [first, second] = server.templates
        assert first == second
        assert json.loads(first)["index_patterns"] == ["decoy-log"]

    async def test_the_key_is_sent_and_never_told(self, server, sink, caplog):
        caplog.set_level(logging.DEBUG)
        server.answer = lambda *_: (401, failure("security_exception"))
        with pytest.raises(SinkUnavailable) as told:
            await sink.write([request("a")])
        [(_, _, _, headers), *_] = server.seen
        assert headers["authorization"] == "ApiKey c2VjcmV0"
        assert "c2VjcmV0" not in str(told.value) + caplog.text


class TestTemplate:
    async def test_a_template_that_is_refused_for_good_ends_the_connector(self, server, sink):
        server.answer = on_template(400, failure("illegal_argument_exception"))
        with pytest.raises(SinkError, match="no template") as told:
            await sink.write([])
        assert not isinstance(told.value, SinkUnavailable)

    async def test_a_server_that_is_too_busy_gets_it_later(self, server, sink):
        server.answer = on_template(503, failure("busy"))
        with pytest.raises(SinkUnavailable):
            await sink.write([])
        server.answer = well
        assert await sink.write([request("a")]) == []
        assert len(server.templates) == 2

    @pytest.mark.parametrize("status", [401, 403])
    async def test_without_the_right_to_it_an_index_that_is_there_is_enough(
        self, server, sink, status
    ):
        answer = (status, failure("security_exception"))
        server.answer = on_template(*answer, properties=PROPERTIES)
        assert await sink.write([request("a")]) == []

    @pytest.mark.parametrize("status", [403, 404])
    async def test_without_the_right_to_it_and_without_an_index_it_waits(
        self, server, sink, status
    ):
        server.answer = lambda method, *_: (status if method == "GET" else 403, failure("security"))
        with pytest.raises(SinkUnavailable, match=r"403.*security"):
            await sink.write([request("a")])
        assert server.bulks == []

    async def test_without_the_right_to_look_at_the_index_it_goes_on(self, server, sink):
        server.answer = lambda method, *rest: (
            (403, failure("security_exception")) if method == "GET" else well(method, *rest)
        )
        assert await sink.write([request("a")]) == []
        assert len(server.templates) == 1

    async def test_without_any_right_it_says_so_in_the_words_of_the_server(self, server, sink):
        server.answer = lambda *_: (401, failure("security_exception", "unable to authenticate"))
        with pytest.raises(SinkUnavailable, match=r"401.*unable to authenticate"):
            await sink.write([request("a")])


class TestMakingTheIndex:
    @pytest.fixture
    def made(self, server):
        """The requests that make the index are answered as told; return how many there were."""

        def made(*answer):
            def answers(method, path, body):
                return answer if path == "/decoy-log" else well(method, path, body)

            server.answer = answers
            return lambda: [(m, p) for m, p, *_ in server.seen].count(("PUT", "/decoy-log"))

        return made

    async def test_it_is_there_before_the_first_record(self, server, sink, made):
        count = made(200, {"acknowledged": True})
        for _ in range(2):
            assert await sink.write([]) == []
        assert count() == 1
        assert len(server.templates) == 1

    @pytest.mark.parametrize("status", [401, 403])
    async def test_without_the_right_to_it_the_first_record_makes_it(
        self, server, sink, made, caplog, status
    ):
        caplog.set_level(logging.DEBUG)
        count = made(status, failure("security_exception"))
        assert await sink.write([request("a")]) == []
        assert (count(), len(server.bulks)) == (1, 1)
        told = [each for each in caplog.records if "the first record makes" in each.message]
        assert [each.levelno for each in told] == [logging.DEBUG]

    async def test_another_may_make_it_meanwhile(self, sink, made):
        count = made(400, failure("resource_already_exists_exception"))
        assert await sink.write([request("a")]) == []
        assert count() == 1

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(400, "validation_exception"), (400, "invalid_index_name_exception"), (503, "busy")],
    )
    async def test_what_else_it_says_is_waited_for(self, server, sink, made, status, kind):
        made(status, failure(kind))
        with pytest.raises(SinkUnavailable, match=kind):
            await sink.write([request("a")])
        assert server.bulks == []

    async def test_one_that_is_there_is_not_made(self, server, sink):
        server.answer = on_template(200, {"acknowledged": True}, properties=PROPERTIES)
        await sink.write([])
        assert [path for _, path, *_ in server.seen if path == "/decoy-log"] == []

    async def test_with_a_period_none_is(self, server):
        sink = ElasticSink(server.url, "decoy-log", period="day")
        await sink.write([])
        await sink.aclose()
        assert {(m, p.split("/")[1]) for m, p, *_ in server.seen} == {
            ("GET", "decoy-log"), ("PUT", "_index_template"),
        }  # fmt: skip


class TestFieldsOfAnIndexThatIsThere:
    async def test_those_it_lacks_are_added_once(self, server, sink, caplog):
        caplog.set_level(logging.INFO)
        old = {name: PROPERTIES[name] for name in PROPERTIES if name != "chosen"}
        server.answer = on_fields(200, {"acknowledged": True}, properties=old)
        for name in "ab":
            assert await sink.write([request(name)]) == []
        assert server.mappings == [{"properties": {"chosen": PROPERTIES["chosen"]}}]
        assert "chosen can be searched from now on" in caplog.text

    async def test_with_none_lacking_it_is_left_alone(self, server, sink):
        server.answer = on_fields(400, failure("illegal"), properties=PROPERTIES)
        assert await sink.write([request("a")]) == []
        assert server.mappings == []

    @pytest.mark.parametrize("status", [400, 401, 403])
    async def test_it_says_once_which_can_not_be_searched_and_goes_on(
        self, server, sink, caplog, status
    ):
        old = {name: PROPERTIES[name] for name in PROPERTIES if name != "chosen"}
        server.answer = on_fields(status, failure("security_exception"), properties=old)
        for name in "ab":
            assert await sink.write([request(name)]) == []
        [told] = [each for each in caplog.records if "chosen cannot be searched" in each.message]
        assert told.levelno == logging.WARNING

    async def test_a_server_that_is_too_busy_gets_them_later(self, server, sink):
        server.answer = on_fields(503, failure("busy"), properties={})
        with pytest.raises(SinkUnavailable):
            await sink.write([request("a")])
        assert server.bulks == []

    @pytest.mark.parametrize("answer", [[], {"decoy-log": 1}, {"decoy-log": {}}, b"{"], ids=str)
    async def test_garbage_is_no_mapping(self, server, sink, answer):
        server.answer = lambda *_: (200, answer)
        with pytest.raises(SinkUnavailable):
            await sink.write([request("a")])

    def test_what_is_lacking_is_found_at_any_depth_and_what_differs_is_left(self):
        leaf, other = {"type": "keyword"}, {"type": "text"}
        wanted = {"a": leaf, "b": {"properties": {"c": leaf, "d": leaf}}, "e": leaf}
        assert lacking({"a": other, "b": {"properties": {"c": leaf}}}, wanted) == {
            "b": {"properties": {"d": leaf}},
            "e": leaf,
        }
        assert lacking({"b": leaf}, {"b": wanted["b"]}) == {}
        assert lacking({}) == PROPERTIES
        assert lacking(PROPERTIES) == {}


def holds(*indices):
    """Answer as a server does where these have the name of the index."""
    found = {name: {"mappings": {"properties": PROPERTIES}} for name in indices}

    def answers(method, path, body):
        if method == "GET" and path.endswith("/_mapping"):
            return 200, found
        return well(method, path, body)

    return answers


class TestDatedIndices:
    @pytest.fixture
    async def dated(self, server):
        sink = ElasticSink(server.url, "decoy-log", period="day")
        yield sink
        await sink.aclose()

    async def test_an_alias_is_not_written_to_as_if_it_were_an_index(self, server, sink):
        server.answer = holds("decoy-log-2025.11.23")
        with pytest.raises(
            ConfigurationError, match=r"alias of 1 indices.*RENDEZVOUS_INDEX_PERIOD"
        ):
            await sink.write([])
        assert [method for method, *_ in server.seen] == ["GET"]

    async def test_an_index_is_not_made_an_alias(self, server, dated):
        server.answer = holds("decoy-log")
        with pytest.raises(ConfigurationError, match=r"is an index.*RENDEZVOUS_INDEX_PERIOD"):
            await dated.write([])
        assert [method for method, *_ in server.seen] == ["GET"]

    async def test_what_became_of_an_index_while_it_was_away_is_looked_at(self, server, sink):
        assert await sink.write([request("a")]) == []
        reason = "no write index is defined for alias [decoy-log]. And so on"
        error = {"type": "illegal_argument_exception", "reason": reason}
        server.answer = on_bulk(lambda body: (200, bulk_answer(body, 400, error=error)))
        with pytest.raises(SinkUnavailable, match="no write index"):
            await sink.write([request("b")])
        server.answer = holds("decoy-log-2025.11.23", "decoy-log-2025.11.24")
        with pytest.raises(ConfigurationError, match="alias of 2 indices"):
            await sink.write([request("b")])

    async def test_a_server_that_comes_back_empty_is_given_the_template_again(self, server, sink):
        assert await sink.write([request("a")]) == []
        server.answer = on_bulk(lambda body: (503, failure("away")))
        with pytest.raises(SinkUnavailable):
            await sink.write([request("b")])
        server.answer = well
        assert await sink.write([request("b")]) == []
        assert len(server.templates) == 2

    async def test_each_record_names_the_index_of_its_day(self, server, dated):
        batch = [request("a"), request("b", timestamp=TIMESTAMP + 86400), request("c", timestamp=0)]
        assert await dated.write(batch) == []
        [body] = server.bulks
        actions = [json.loads(line)["create"] for line in body.splitlines()[::2]]
        assert actions == [
            {"_id": "a", "_index": "decoy-log-2025.11.23"},
            {"_id": "b", "_index": "decoy-log-2025.11.24"},
            {"_id": "c", "_index": "decoy-log-undated"},
        ]

    async def test_all_of_them_have_the_alias_and_the_fields(self, server, dated):
        await dated.write([])
        [(_, path, body, _)] = [each for each in server.seen if each[0] == "PUT"]
        template = json.loads(body)
        assert path == "/_index_template/decoy-log@dated"
        assert template["template"]["aliases"] == {"decoy-log": {}}
        assert template["template"]["mappings"]["properties"] == PROPERTIES
        assert template["index_patterns"] == ["decoy-log-20*.*", "decoy-log-undated"]


def listed(*rows, deletion=(200, {"acknowledged": True})):
    """Answer with these indices, and ``deletion`` to each request to delete one."""
    columns = ("index", "docs.count", "store.size")

    def answers(method, path, body):
        if method == "DELETE":
            return deletion
        return 200, [dict(zip(columns, row, strict=True)) for row in rows]

    return answers


class TestPruning:
    OLD = ("decoy-log-2025.01.01", "7", "100")

    @pytest.fixture
    async def indices(self, server):
        async with opened(server.url, ["decoy-log"], "c2VjcmV0") as indices:
            yield indices

    async def prune(self, indices):
        now = datetime(2025, 11, 25, tzinfo=UTC)
        return await prune(indices, ["decoy-log"], keep_days=30, now=now, apply=True)

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    async def test_a_server_that_cannot_say_which_there_are_is_away(self, server, indices, status):
        server.answer = lambda *_: (status, failure("busy"))
        with pytest.raises(SinkUnavailable, match=r"listing decoy-log\*.*busy"):
            await self.prune(indices)

    @pytest.mark.parametrize("status", [400, 401, 403])
    async def test_a_server_that_refuses_to_say_is_not_asked_again(self, server, indices, status):
        server.answer = lambda *_: (status, failure("security_exception"))
        with pytest.raises(SinkError, match="security_exception") as told:
            await self.prune(indices)
        assert not isinstance(told.value, SinkUnavailable)

    @pytest.mark.parametrize(
        "answer",
        [None, (200, b"{"), (200, {}), (200, [1]), (200, [{"index": "a", "docs.count": "many"}])],
        ids=str,
    )
    async def test_garbage_is_no_list_of_indices(self, server, indices, answer):
        server.answer = lambda *_: answer
        with pytest.raises(SinkUnavailable):
            await self.prune(indices)

    @pytest.mark.parametrize("status", [403, 503])
    async def test_one_that_cannot_be_deleted_does_not_keep_the_others(
        self, server, indices, status
    ):
        other = ("decoy-log-2025.02", "1", "1")
        server.answer = listed(self.OLD, other, deletion=(status, failure("blocked")))
        outcomes = await self.prune(indices)
        assert [outcome.action for outcome in outcomes] == ["failed", "failed"]
        assert "blocked" in outcomes[0].reason
        deleted = [path.split("?")[0] for method, path, *_ in server.seen if method == "DELETE"]
        assert deleted == ["/decoy-log-2025.01.01", "/decoy-log-2025.02"]

    async def test_only_one_index_is_ever_named_in_a_request_to_delete(self, server, indices):
        server.answer = listed(self.OLD, ("decoy-log", "1", "1"), ("decoy-log-2025.01*", "1", "1"))
        await self.prune(indices)
        assert [path for method, path, *_ in server.seen if method == "DELETE"] == [
            "/decoy-log-2025.01.01?expand_wildcards=none&ignore_unavailable=true"
        ]

    async def test_the_only_round_of_a_job_fails_when_one_cannot_be_deleted(self, server, caplog):
        server.answer = listed(self.OLD, deletion=(403, failure("blocked")))
        job = Pruner(server.url, ["decoy-log"], None, keep_days=30, apply=True, every=0)
        with pytest.raises(SinkError, match="blocked"):
            await job.run(asyncio.Event())
        assert "decoy-log-2025.01.01 is due and was not deleted" in caplog.text

    async def test_a_job_of_many_rounds_tries_again_in_the_next(self, server, caplog):
        caplog.set_level(logging.INFO)
        server.answer = listed(self.OLD, deletion=(503, failure("blocked")))
        every = 0.05 / 3600
        job = Pruner(server.url, ["decoy-log"], None, keep_days=30, apply=True, every=every)
        stop = asyncio.Event()
        running = asyncio.create_task(job.run(stop))
        async with asyncio.timeout(20):
            while caplog.text.count("was not deleted") < 2:
                await asyncio.sleep(0.01)
            server.answer = listed(self.OLD)
            while "deleted decoy-log-2025.01.01 (7 documents)" not in caplog.text:
                await asyncio.sleep(0.01)
            stop.set()
            await running

    async def test_a_job_that_is_off_asks_for_nothing(self, server):
        job = Pruner(server.url, ["decoy-log"], None, keep_days=0, apply=True, every=0)
        stop = asyncio.Event()
        running = asyncio.create_task(job.run(stop))
        await asyncio.sleep(0.05)
        assert not running.done()
        stop.set()
        await running
        assert server.seen == []

    def command(self, server, *arguments, **env):
        url = ["--elasticsearch", server.url, "--index", "decoy-log"]
        env = {"COLUMNS": "200", **env}
        return CliRunner().invoke(app, ["indices", *arguments, *url], env=env)

    def test_the_command_names_what_could_not_be_deleted_and_ends_with_1(self, server):
        server.answer = listed(
            self.OLD, ("decoy-log-2025.02", None, None), deletion=(403, failure("[red] blocked"))
        )
        done = self.command(server, "prune", "--keep-days", "30", "--apply")
        assert done.exit_code == 1
        assert "[red] blocked" in done.output
        assert "closed" in done.output
        assert done.output.splitlines()[-1].startswith("deleted 0 of 2 indices")

    def test_the_command_reads_the_key_from_the_environment(self, server):
        server.answer = listed()
        done = self.command(server, "list", RENDEZVOUS_ELASTICSEARCH_API_KEY="c2VjcmV0")
        assert (done.exit_code, done.output) == (0, "0 indices, 0 documents, 0 bytes\n")
        [(_, _, _, headers)] = server.seen
        assert headers["authorization"] == "ApiKey c2VjcmV0"

    @pytest.mark.parametrize("names", ["", "decoy-log,", "decoy*", "decoy-log-2025.11"])
    def test_the_command_refuses_what_is_no_name_of_an_index(self, server, names):
        command = ["indices", "prune", "--keep-days", "1", "--apply"]
        command += ["--elasticsearch", server.url, "--index", names]
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, ConfigurationError)
        assert server.seen == []

    def test_the_command_deletes_nothing_unless_told_to(self, server):
        server.answer = listed(self.OLD)
        done = self.command(server, "prune", "--keep-days", "1")
        assert done.exit_code == 0
        assert [method for method, *_ in server.seen] == ["GET"]


class TestDocument:
    @pytest.mark.parametrize(
        ("timestamp", "text"),
        [
            ("1763912345.123456", "2025-11-23T15:39:05.123456+00:00"),
            ("1763912345", "2025-11-23T15:39:05.000000+00:00"),
            ("0.5", "1970-01-01T00:00:00.500000+00:00"),
            ("1.763912345e9", "2025-11-23T15:39:05.000000+00:00"),
        ],
    )
    def test_a_timestamp_in_seconds_becomes_text(self, timestamp, text):
        payload = f'{{"messageId":"a","timestamp":{timestamp},"x":1}}'.encode()
        assert json.loads(document(payload)) == {"messageId": "a", "timestamp": text, "x": 1}

    @pytest.mark.parametrize("timestamp", [b'"2025-11-23"', b"null", b"true", b"[1]", b'{"s":1}'])
    def test_any_other_timestamp_is_left_to_the_server(self, timestamp):
        payload = b'{"timestamp":' + timestamp + b"}"
        assert document(payload) == payload

    def test_every_other_value_keeps_its_digits(self):
        payload = b'{"timestamp":0,"x":[1.50,1e400,12345678901234567890123],"y":"\\u00fc"}'
        assert document(payload).partition(b',"x"')[2] == payload.partition(b',"x"')[2]

    @pytest.mark.parametrize("timestamp", [b"1e300", b"-1e15", b"1e400", b"99999999999999999999"])
    def test_a_timestamp_beyond_all_years_is_refused(self, timestamp):
        with pytest.raises(ContractError):
            document(b'{"timestamp":' + timestamp + b"}")

    @pytest.mark.parametrize("payload", [b"", b"[]", b'{"x":NaN}', b'{"x":"\xff"}', b'{"x":1'])
    def test_what_is_no_json_object_is_refused(self, payload):
        with pytest.raises(ContractError):
            document(payload)


class TestConfiguration:
    @pytest.mark.parametrize(
        "url",
        [
            "", "127.0.0.1:9200", "http://", "http://host", "ftp://host:9200", "http://host:x",
            "http://host:99999", "http://:9200", "http://host:secret@host", "http://[::1:9200",
        ],
    )  # fmt: skip
    def test_a_malformed_url_is_refused_without_telling_its_password(self, url):
        with pytest.raises(ConfigurationError, match="http\\(s\\)://host:port") as told:
            ElasticSink(url, "decoy-log")
        assert "secret" not in str(told.value)

    @pytest.mark.parametrize(
        "index",
        [
            "", "Upper", "-a", "a/b", "a b", "a*", "a,b", "x" * 201, "log-2025.11",
            "log-2025.11.25", "log-undated",
        ],
    )  # fmt: skip
    def test_a_malformed_name_of_an_index_is_refused(self, index):
        with pytest.raises(ConfigurationError, match="name of an index"):
            ElasticSink("http://127.0.0.1:9200", index)

    def test_without_the_client_it_says_what_to_install(self):
        code = (
            "import sys; sys.modules['elasticsearch'] = None\n"
            "from rendezvous.errors import ConfigurationError\n"
            "try: import rendezvous.sink.elastic\n"
            "except ConfigurationError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert b"rendezvous-serving[elastic]" in done.stdout
