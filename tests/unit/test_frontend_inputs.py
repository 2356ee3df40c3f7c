"""Every kind of input that a caller may send, and what it gets: never a 500."""

import asyncio
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rendezvous.frontend import inputs, predictions
from rendezvous.frontend.problems import unprocessable
from rendezvous.schema import InputField
from rendezvous.settings import FrontEndSettings
from tests.unit.front_ends import EXAMPLE, front_end

GOOD = json.dumps(EXAMPLE)
MOST_ANSWERED = 4096


def with_value(text: str) -> bytes:
    """Return the example as JSON, with ``text`` as it stands for the first value."""
    rest = json.dumps(dict(list(EXAMPLE.items())[1:]))
    return f'{{"sepalLength": {text}, {rest[1:]}'.encode()


def with_more(text: bytes) -> bytes:
    """Return the example as JSON, with ``text`` as a further member."""
    return GOOD.encode()[:-1] + b", " + text + b"}"


NOT_JSON = {
    "empty": b"",
    "only blanks": b"  \n",
    "plain text": b"hello",
    "cut off": GOOD[:-1].encode(),
    "two documents": (GOOD + GOOD).encode(),
    "a comma too many": GOOD.replace("}", ",}").encode(),
    "a comment": b"/* */" + GOOD.encode(),
    "single quotes": GOOD.replace('"', "'").encode(),
    "a leading plus": with_value("+1"),
    "a leading zero": with_value("01"),
    "no digit before the point": with_value(".5"),
    "hexadecimal": with_value("0x10"),
    "an integer of 5000 digits": with_value("9" * 5000),
    "bytes that are no UTF-8": with_more(b'"note": "\xff"'),
    "a lone surrogate": with_more(rb'"note": "\ud800"'),
    "a lone surrogate as a name": with_more(rb'"\udfff": 1'),
    "an encoded surrogate": with_more(b'"note": "\xed\xa0\x80"'),
    "a raw NUL": with_more(b'"note": "a\x00b"'),
    "nesting of 30,000": with_more(b'"note": ' + b"[" * 30_000 + b"]" * 30_000),
    "a field nested 30,000 deep": with_value("[" * 30_000 + "]" * 30_000),
}
NOT_AN_OBJECT = {
    "an array": b"[]",
    "an array of inputs": f"[{GOOD}]".encode(),
    "null": b"null",
    "a number": b"5.9",
    "a text": b'"text"',
    "true": b"true",
}
WRONG_VALUES = {
    "NaN": ("NaN", "finite_number"),
    "Infinity": ("Infinity", "finite_number"),
    "-Infinity": ("-Infinity", "finite_number"),
    "1e400": ("1e400", "finite_number"),
    "-1e400": ("-1e400", "finite_number"),
    "an integer of 400 digits": ("1" + "0" * 400, "finite_number"),
    "the text nan": ('"nan"', "float_type"),
    "a number as text": ('"9"', "float_type"),
    "true": ("true", "float_type"),
    "false": ("false", "float_type"),
    "null": ("null", "float_type"),
    "an array": ("[1]", "float_type"),
    "an object": ("{}", "float_type"),
    "1e308": ("1e308", "less_than_equal"),
    "a little too much": ("1000.0000001", "less_than_equal"),
    "far too little": ("-1e9", "greater_than_equal"),
}
GOOD_VALUES = {
    "negative": ("-1", -1.0),
    "the least": ("-1000", -1000.0),
    "the most": ("1000", 1000.0),
    "an integer": ("9", 9.0),
    "negative zero": ("-0.0", -0.0),
    "an exponent": ("1E-2", 0.01),
    "too small to tell from zero": ("1e-400", 0.0),
    "5000 digits after the point": ("1." + "0" * 5000, 1.0),
}
IGNORED = {
    "NUL, right-to-left override and emoji": b'"note": "a\\u0000\xe2\x80\xae\xf0\x9f\x98\x80"',
    "an emoji as a name": b'"\xf0\x9f\x98\x80": true',
    "a nested document": b'"note": {"a": [1, {"b": null}]}',
    "NaN": b'"note": NaN',
    "names that mean something elsewhere": b'"__class__": 1, "__proto__": {"x": 1}, "self": 2',
}


@pytest.fixture
async def front():
    async with front_end() as served:
        yield served


def cases(table):
    """Parametrize over a table, each row by its name."""
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), id=name)
        for name, row in table.items()
    ]


@pytest.mark.parametrize("body", cases(NOT_JSON))
async def test_what_is_no_json_gets_400(front, body):
    response = await front.post(body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].startswith("the body is no JSON")
    assert len(response.content) < MOST_ANSWERED


@pytest.mark.parametrize("body", cases(NOT_AN_OBJECT))
async def test_json_that_is_no_object_gets_422(front, body):
    response = await front.post(body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body"]


@pytest.mark.parametrize(("value", "kind"), cases(WRONG_VALUES))
async def test_a_wrong_value_gets_422_naming_field_and_rule(front, value, kind):
    response = await front.post(with_value(value))
    [fault] = response.json()["detail"]
    assert response.status_code == 422
    assert (fault["type"], fault["loc"]) == (kind, ["body", "sepalLength"])
    assert set(fault) == {"type", "loc", "msg"}, "what was sent is not sent back"


async def test_a_value_out_of_bounds_is_told_the_bounds(front):
    too_much = (await front.post(with_value("1e308"))).json()["detail"][0]
    too_little = (await front.post(with_value("-1e9"))).json()["detail"][0]
    assert too_much["msg"] == "Input should be less than or equal to 1000"
    assert too_little["msg"] == "Input should be greater than or equal to -1000"


@pytest.mark.parametrize(("value", "number"), cases(GOOD_VALUES))
async def test_a_number_within_bounds_gets_200(front, value, number):
    response = await front.post(with_value(value))
    assert response.status_code == 200
    got = response.json()["modelInput"]["sepalLength"]
    assert (got, math.copysign(1, got)) == (number, math.copysign(1, number))


@pytest.mark.parametrize("field", EXAMPLE)
async def test_a_missing_field_gets_422_naming_it(front, field):
    response = await front.predict({k: v for k, v in EXAMPLE.items() if k != field})
    assert response.status_code == 422
    assert response.json()["detail"] == [
        {"type": "missing", "loc": ["body", field], "msg": "Field required"}
    ]


async def test_an_empty_object_gets_422_naming_every_field(front):
    response = await front.post(b"{}")
    assert response.status_code == 422
    assert [fault["loc"][1] for fault in response.json()["detail"]] == list(EXAMPLE)


@pytest.mark.parametrize("member", cases(IGNORED))
async def test_an_unknown_member_is_ignored(front, member):
    response = await front.post(with_more(member))
    assert response.status_code == 200
    assert response.json()["modelInput"] == EXAMPLE


@pytest.mark.parametrize("first", ["1", '"text"', "NaN"])
async def test_of_a_name_that_comes_twice_the_last_counts(front, first):
    response = await front.post(with_value(f'{first}, "sepalLength": 2'))
    assert response.status_code == 200
    assert response.json()["modelInput"]["sepalLength"] == 2


class TestEncodings:
    async def test_a_byte_order_mark_is_skipped(self, front):
        response = await front.post(GOOD.encode("utf-8-sig"))
        assert response.status_code == 200
        assert response.json()["modelInput"] == EXAMPLE

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    async def test_other_unicode_than_utf_8_gets_415(self, front, encoding):
        response = await front.post(GOOD.encode(encoding))
        assert response.status_code == 415
        assert response.json()["detail"] == "the body must be UTF-8"

    @pytest.mark.parametrize("charset", ["utf-8", "latin-1", "utf-16", "nonsense"])
    async def test_a_charset_has_no_meaning_for_json(self, front, charset):
        response = await front.post(GOOD, content_type=f"application/json; charset={charset}")
        assert response.status_code == 200


class TestContentType:
    @pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json ;"])
    async def test_json_is_taken(self, front, kind):
        assert (await front.post(GOOD, content_type=kind)).status_code == 200

    @pytest.mark.parametrize(
        "kind",
        [
            "",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "application/vnd.api+json",
            "application/jsonp",
            "multipart/form-data; boundary=application/json",
            "text/plain; application/json",
        ],
    )
    async def test_any_other_gets_415(self, front, kind):
        response = await front.post(GOOD, content_type=kind)
        assert response.status_code == 415
        assert "application/json" in response.json()["detail"]

    async def test_none_at_all_gets_415(self, front):
        response = await front.client.post("/predict", content=GOOD)
        assert response.status_code == 415


class TestSize:
    async def test_64_kib_are_taken(self, front):
        response = await front.post(GOOD.ljust(64 * 1024))
        assert response.status_code == 200

    @pytest.mark.parametrize("size", [64 * 1024 + 1, 10_000_000])
    async def test_more_gets_413_and_the_connection_is_closed(self, front, size):
        response = await front.post(GOOD.ljust(size))
        assert response.status_code == 413
        assert response.headers["connection"] == "close"
        assert len(response.content) < MOST_ANSWERED

    async def test_more_by_its_declaration_gets_413_before_it_is_read(self, front):
        async def body():
            raise AssertionError("it was read")
            yield b""

        response = await front.post(body(), content_length="70000")
        assert response.status_code == 413

    async def test_more_in_chunks_gets_413_before_all_is_read(self, front):
        sent = 0

        async def endless():
            nonlocal sent
            while True:
                sent += 1000
                yield b" " * 1000

        response = await front.post(endless())
        assert response.status_code == 413
        assert sent <= 67_000

    @pytest.mark.parametrize("length", ["many", "9" * 5000, "1.5"])
    async def test_a_content_length_that_is_no_number_gets_400(self, front, length):
        response = await front.post(GOOD.encode(), content_length=length)
        assert response.status_code == 400

    def test_no_more_than_20_faults_are_listed(self):
        fields = [InputField(name=f"f{n}", minimum=0, maximum=1) for n in range(100)]
        with pytest.raises(ValidationError) as caught:
            inputs.validate(inputs.input_model("wide", fields), b"{}")
        assert len(json.loads(unprocessable(caught.value).body)["detail"]) == 20


class TestSlowBody:
    async def test_gets_408_and_the_connection_is_closed(self, front, monkeypatch):
        monkeypatch.setattr(inputs, "BODY_SECONDS", 0.05)
        never = asyncio.Event()

        async def slow():
            yield GOOD[:10].encode()
            await never.wait()

        response = await front.post(slow())
        assert response.status_code == 408
        assert response.headers["connection"] == "close"
        assert response.headers["content-type"] == "application/problem+json"

    async def test_costs_other_callers_nothing(self, front):
        gone = asyncio.Event()

        async def slow():
            yield GOOD.encode()
            await gone.wait()

        waiting = asyncio.create_task(front.post(slow()))
        assert (await front.predict()).status_code == 200
        gone.set()
        assert (await waiting).status_code == 200


class TestRouting:
    @pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
    async def test_another_verb_on_predict_gets_405_as_a_problem(self, front, verb):
        response = await front.client.request(verb, "/predict")
        assert response.status_code == 405
        assert response.headers["allow"] == "POST"
        assert response.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize(
        "path", ["/", "/nowhere", "/predict/1", "/endpoints/x/predict", "/../"]
    )
    async def test_an_unknown_path_gets_404_as_a_problem(self, front, path):
        response = await front.client.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["title"] == "Not Found"


class TestHost:
    @pytest.mark.parametrize(
        "host",
        ["evil.example", "", "localhost.evil.example", "localhost@evil.example", "[::1", "a b"],
    )
    async def test_a_foreign_one_gets_400(self, front, host):
        response = await front.client.get("/ping", headers={"host": host})
        assert response.status_code == 400

    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"],
    )
    async def test_this_machine_is_served_by_default(self, host):
        hosts = FrontEndSettings().allowed_hosts
        async with front_end(allowed_hosts=hosts) as front:
            response = await front.client.get("/ping", headers={"host": host})
        assert response.status_code == 200

    async def test_a_foreign_one_gets_400_too_after_one_of_ours_was_served(self, front):
        for host, status in [("localhost", 200), ("evil.example", 400), ("localhost", 200)]:
            answer = await front.client.post("/predict", json=EXAMPLE, headers={"host": host})
            assert answer.status_code == status

    async def test_however_many_there_are(self, monkeypatch):
        monkeypatch.setattr(predictions, "HOSTS_MOST", 3)
        async with front_end(allowed_hosts=["*.example"]) as front:
            for number in range(10):
                headers = {"host": f"{number}.example"}
                answer = await front.client.post("/predict", json=EXAMPLE, headers=headers)
                assert answer.status_code == 200
            answer = await front.client.post("/predict", json=EXAMPLE, headers={"host": "evil"})
            assert answer.status_code == 400

    async def test_any_is_served_where_all_are_allowed(self):
        async with front_end(allowed_hosts=["*"]) as front:
            response = await front.client.get("/ping", headers={"host": "any.example"})
        assert response.status_code == 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FLOWERS = st.fixed_dictionaries({name: st.floats(-1000, 1000) | VALUES for name in EXAMPLE})
MANY = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # one front end serves them all
)


class TestAnything:
    """Any body gets 200 or a 4xx; what would be a 500 is raised by ``ASGITransport``."""

    @given(body=VALUES | FLOWERS)
    @MANY
    async def test_any_json(self, front, body):
        await self.check(front, json.dumps(body).encode())

    @given(body=st.binary(max_size=200))
    @MANY
    async def test_any_bytes(self, front, body):
        await self.check(front, body)

    @given(place=st.integers(0, len(GOOD)), junk=st.binary(min_size=1, max_size=5))
    @MANY
    async def test_a_damaged_input(self, front, place, junk):
        body = GOOD.encode()
        await self.check(front, body[:place] + junk + body[place:])

    @given(values=st.lists(st.floats(-1000, 1000), min_size=4, max_size=4))
    @MANY
    async def test_any_input_within_bounds_comes_back_as_it_was(self, front, values):
        flower = dict(zip(EXAMPLE, values, strict=True))
        response = await front.predict(flower)
        assert response.status_code == 200
        assert response.json()["modelInput"] == flower

    @staticmethod
    async def check(front, body: bytes) -> None:
        response = await front.post(body)
        assert response.status_code == 200 or 400 <= response.status_code < 500
        assert "Traceback" not in response.text
        assert len(response.content) < MOST_ANSWERED


class TestAnInteger:
    MODEL = inputs.input_model("x", [InputField(name="n", type="integer", minimum=0, maximum=5)])

    @pytest.mark.parametrize("value", ["3", "3.0", "3e0"])
    def test_may_be_written_as_a_float(self, value):
        assert inputs.validate(self.MODEL, b'{"n": %s}' % value.encode()) == {"n": 3}

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("3.5", "int_from_float"), ("true", "float_type"), ('"3"', "float_type"),
            ("6", "less_than_equal"), ("-1", "greater_than_equal"), ("NaN", "finite_number"),
        ],
    )  # fmt: skip
    def test_is_no_other_value(self, value, kind):
        with pytest.raises(ValidationError) as caught:
            inputs.validate(self.MODEL, b'{"n": %s}' % value.encode())
        assert caught.value.errors()[0]["type"] == kind

    def test_is_described_as_one(self):
        field = self.MODEL.model_json_schema()["properties"]["n"]
        assert (field["type"], field["minimum"], field["maximum"]) == ("integer", 0, 5)
