"""What only a real server and raw sockets show: uvicorn, as ``serve`` starts it."""

import asyncio
import json
import logging
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
import uvicorn

from rendezvous.frontend import heads, inputs
from rendezvous.frontend.heads import PatientProtocol
from rendezvous.testing.processes import free_port
from tests.unit.front_ends import EXAMPLE, front_end, total

BODY = json.dumps(EXAMPLE).encode()
PATIENCE = 30.0


class Server:
    """A front end behind uvicorn on a free port of the loopback interface."""

    def __init__(self, front, port):
        self.front = front
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def socket(self):
        """A connection, closed at the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def send(self, data: bytes, answers: int = 1) -> list[httpx.Response]:
        """Write bytes, and read so many answers."""
        async with self.socket() as (reader, writer):
            writer.write(data)
            return [await read_answer(reader) for _ in range(answers)]


async def read_answer(reader) -> httpx.Response:
    async with asyncio.timeout(PATIENCE):
        status = await reader.readline()
        while status.startswith(b"HTTP/1.1 100"):
            await reader.readline()
            status = await reader.readline()
        found = []
        while (line := await reader.readline()).strip():
            name, _, value = line.partition(b":")
            found.append((name, value.strip()))
        response = httpx.Response(int(status.split()[1]), headers=found)
        content = await reader.readexactly(int(response.headers["content-length"]))
    return httpx.Response(response.status_code, headers=found, content=content)


async def closed(reader) -> bool:
    """Wait until the other side has closed."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


def request(body=BODY, *, length=None, more=b"", path=b"/predict", version=b"1.1") -> bytes:
    """Return a request as it goes over the wire; ``length`` may lie, -1 leaves it out."""
    declared = b"" if length == -1 else b"Content-Length: %d\r\n" % (length or len(body))
    return (
        b"POST %b HTTP/%b\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        % (path, version)
        + declared
        + more
        + b"\r\n"
        + body
    )


@pytest.fixture
async def server():
    async with front_end(allowed_hosts=["localhost", "127.0.0.1"]) as front:
        port = free_port()
        config = uvicorn.Config(
            front.app, host="127.0.0.1", port=port, http=PatientProtocol, lifespan="off",
            access_log=False, log_config=None, server_header=False, backlog=1024,
        )  # fmt: skip
        running = uvicorn.Server(config)
        task = asyncio.create_task(running.serve())
        while not running.started:
            await asyncio.sleep(0.001)
        yield Server(front, port)
        running.should_exit = True
        await task


class TestLyingContentLength:
    async def test_a_body_that_ends_too_early_is_nobodys_error(self, server, caplog):
        async with server.socket() as (reader, writer):
            writer.write(request(length=1000))
            writer.write_eof()
            assert await closed(reader)
        [answer] = await server.send(request())
        assert answer.status_code == 200
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []

    async def test_one_that_never_comes_whole_gets_408(self, server, monkeypatch):
        monkeypatch.setattr(inputs, "BODY_SECONDS", 0.05)
        async with server.socket() as (reader, writer):
            writer.write(request(length=1000))
            assert (await read_answer(reader)).status_code == 408
            assert await closed(reader)

    async def test_one_that_is_longer_is_no_second_request(self, server):
        async with server.socket() as (reader, writer):
            writer.write(request(length=10))
            statuses = [(await read_answer(reader)).status_code]
            assert await closed(reader)
        assert statuses == [400]

    @pytest.mark.parametrize(
        "more",
        [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"],
        ids=["two lengths", "a length and chunks"],
    )
    async def test_two_ways_to_tell_the_length_get_400(self, server, more):
        async with server.socket() as (reader, writer):
            writer.write(request(more=more))
            assert (await read_answer(reader)).status_code == 400
            assert await closed(reader)


class TestKeepAlive:
    @pytest.mark.parametrize(
        ("first", "status"),
        [
            (request(b"hello"), 400),
            (request(b"{}"), 422),
            (request().replace(b"application/json", b"text/plain"), 415),
            (request(path=b"/nowhere"), 404),
            (request().replace(b"POST", b"PUT"), 405),
            (request().replace(b"localhost", b"evil.example"), 400),
        ],
    )
    async def test_the_connection_serves_on_after_an_error(self, server, first, status):
        async with server.socket() as (reader, writer):
            writer.write(first)
            assert (await read_answer(reader)).status_code == status
            writer.write(request())
            assert (await read_answer(reader)).status_code == 200

    async def test_a_large_body_ends_the_connection(self, server):
        async with server.socket() as (reader, writer):
            writer.write(request(b" " * 70_000) + request())
            assert (await read_answer(reader)).status_code == 413
            assert await closed(reader)

    async def test_http_1_0_is_answered_and_closed(self, server):
        async with server.socket() as (reader, writer):
            writer.write(request(version=b"1.0"))
            assert (await read_answer(reader)).status_code == 200
            assert await closed(reader)

    async def test_pipelined_requests_are_answered_in_order(self, server):
        bodies = [EXAMPLE | {"sepalLength": number} for number in range(10)]
        data = b"".join(request(json.dumps(body).encode()) for body in bodies)
        answers = await server.send(data, answers=10)
        assert [answer.json()["modelInput"] for answer in answers] == bodies

    async def test_a_caller_that_waits_to_be_told_to_go_on_is_told(self, server):
        async with server.socket() as (reader, writer):
            writer.write(request(b"", length=len(BODY), more=b"Expect: 100-continue\r\n"))
            async with asyncio.timeout(PATIENCE):
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(BODY)
            assert (await read_answer(reader)).status_code == 200


class TestChunks:
    chunked = b"Transfer-Encoding: chunked\r\n"

    async def test_a_body_byte_by_byte_is_taken(self, server):
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
        [answer] = await server.send(request(b"", length=-1, more=self.chunked) + chunks)
        assert answer.json()["modelInput"] == EXAMPLE

    async def test_more_than_64_kib_byte_by_byte_gets_413(self, server):
        async with server.socket() as (reader, writer):
            writer.write(request(b"", length=-1, more=self.chunked) + b"1\r\n \r\n" * 70_000)
            assert (await read_answer(reader)).status_code == 413

    async def test_a_chunk_with_a_wrong_size_gets_no_score(self, server):
        data = request(b"", length=-1, more=self.chunked) + b"zz\r\n{}\r\n0\r\n\r\n"
        [answer] = await server.send(data)
        assert answer.status_code == 400


class TestHeads:
    async def test_8_kib_are_taken(self, server):
        [answer] = await server.send(request(more=b"X-Note: %b\r\n" % (b"a" * 7_900)))
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "large",
        [
            request(more=b"X-Note: %b\r\n" % (b"a" * 9 * 1024)),
            request(more=b"".join(b"X-%d: a\r\n" % n for n in range(2000))),
            request(path=b"/predict?" + b"a" * 9 * 1024),
        ],
        ids=["one header", "many headers", "the query"],
    )
    async def test_more_gets_431_as_a_problem(self, server, large):
        [answer] = await server.send(large)
        assert answer.status_code == 431
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["connection"] == "close"

    async def test_one_behind_others_is_looked_at_too(self, server):
        large = request(more=b"X: " + b"x" * 9000 + b"\r\n")
        async with server.socket() as (reader, writer):
            writer.write(request() + large)
            statuses = [(await read_answer(reader)).status_code for _ in range(2)]
        assert statuses == [200, 431]

    async def test_one_that_comes_in_pieces_is_looked_at_as_a_whole(self, server):
        large = request(more=b"X: " + b"x" * 9000 + b"\r\n")
        async with server.socket() as (reader, writer):
            for piece in (large[:5000], large[5000:]):
                writer.write(piece)
                await asyncio.sleep(0.05)
            assert (await read_answer(reader)).status_code == 431

    @pytest.mark.parametrize("before", [b"", request()], ids=["at first", "after a request"])
    async def test_empty_lines_are_no_head_and_do_not_keep_a_connection(
        self, server, monkeypatch, before
    ):
        monkeypatch.setattr(heads, "HEAD_SECONDS", 0.2)
        async with server.socket() as (reader, writer):
            if before:
                writer.write(before)
                assert (await read_answer(reader)).status_code == 200
            writer.write(b"\r\n")
            assert await closed(reader)

    async def test_one_without_an_end_is_cut_off(self, server, monkeypatch):
        monkeypatch.setattr(heads, "UNFINISHED_MOST", 100_000)
        async with server.socket() as (reader, writer):
            writer.write(request()[: -len(BODY) - 2] + b"X-Note: " + b"a" * 1_000_000)
            assert await closed(reader)

    @pytest.mark.parametrize("begun", [b"", b"POST /predict HTTP/1.1\r\nHost: loc"])
    async def test_a_slow_one_is_closed(self, server, monkeypatch, begun):
        monkeypatch.setattr(heads, "HEAD_SECONDS", 0.05)
        async with server.socket() as (reader, writer):
            writer.write(begun)
            assert await closed(reader)

    async def test_a_slow_one_on_a_used_connection_is_closed(self, server, monkeypatch):
        async with server.socket() as (reader, writer):
            writer.write(request())
            assert (await read_answer(reader)).status_code == 200
            monkeypatch.setattr(heads, "HEAD_SECONDS", 0.05)
            writer.write(b"POST /predict HTTP/1.1\r\n")
            assert await closed(reader)

    async def test_an_answer_may_take_longer_than_a_head(self, server, monkeypatch):
        monkeypatch.setattr(heads, "HEAD_SECONDS", 0.05)
        async with server.socket() as (reader, writer):
            writer.write(request(BODY[:10], length=len(BODY)))
            await asyncio.sleep(0.2)  # longer than a head may take; there is nothing to wait for
            writer.write(BODY[10:])
            assert (await read_answer(reader)).status_code == 200

    async def test_without_a_host_it_gets_400(self, server):
        [answer] = await server.send(request().replace(b"Host: localhost\r\n", b""))
        assert answer.status_code == 400

    async def test_what_is_not_http_gets_400_and_is_closed(self, server):
        async with server.socket() as (reader, writer):
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
            assert (await read_answer(reader)).status_code == 400
            assert await closed(reader)


class TestManyConnections:
    async def test_200_at_once_each_get_their_own_answer(self, server):
        bodies = [EXAMPLE | {"sepalLength": number} for number in range(200)]

        async def ask(body):
            [answer] = await server.send(request(json.dumps(body).encode()))
            return answer

        answers = await asyncio.gather(*(ask(body) for body in bodies))
        for body, answer in zip(bodies, answers, strict=True):
            assert answer.json()["modelInput"] == body
            assert answer.json()["modelResult"]["result"] == total(body)
        assert server.front.rendezvous.in_flight == 0

    async def test_200_slow_ones_do_not_hold_up_an_honest_caller(self, server):
        async with asyncio.timeout(PATIENCE):
            slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]
        for number, (_, writer) in enumerate(slow):
            writer.write(request()[: 20 if number % 2 else -10])
        [answer] = await server.send(request())
        assert answer.status_code == 200
        for _, writer in slow:
            writer.close()

    async def test_callers_that_never_read_do_not_hold_up_an_honest_one(self, server):
        async with AsyncExitStack() as stack:
            for _ in range(20):
                _, writer = await stack.enter_async_context(server.socket())
                writer.write(request() * 1000)
            [answer] = await server.send(request())
            assert answer.status_code == 200

    async def test_a_caller_that_leaves_before_its_answer_is_nobodys_error(self, server, caplog):
        for _ in range(20):
            async with server.socket() as (_, writer):
                writer.write(request())
        [answer] = await server.send(request())
        assert answer.status_code == 200
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
