"""The Elasticsearch sink against a small HTTP server that fails as it is told."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rendezvous.bus.memory import MemoryBus
from rendezvous.errors import ConfigurationError, ContractError, SinkError, SinkUnavailable
from rendezvous.sink import elastic
from rendezvous.sink.elastic import ElasticSink, document
from rendezvous.sink.mapping import PROPERTIES, lacking
from rendezvous.sink.runner import Connector
from rendezvous.testing.processes import free_port
from rendezvous.testing.sink_suite import request

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

            do_GET = do_PUT = do_POST = answer  # noqa: N815 - as the base class calls them

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
        monkeypatch.setattr(elastic, "REQUEST_TIMEOUT", 0.1)
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

    @pytest.mark.parametrize("index", ["", "Upper", "-a", "a/b", "a b", "a*", "a,b", "x" * 201])
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
