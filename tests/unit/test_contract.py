"""What goes over the bus: it survives both ways, and nothing malformed gets through."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.contract import (
    NESTING,
    Announcement,
    ModelProvenance,
    Request,
    Result,
    ScoreError,
    decode_announcement,
    decode_request,
    decode_score,
    encode_score,
    one_line,
    record_id,
)
from rendezvous.errors import ContractError
from tests.unit.scores import announcement, foreign_score, provenance, request, score, scored

# The messages of the original system's containers, as they were seen on its topics.
ORIGINAL_REQUEST = (
    b'{"timestamp": 1645000000.123456, "messageId": "0a8c4d2e-6f1b-4c3d-9e5f-7a8b9c0d1e2f", '
    b'"modelInput": {"sepalLength": 9.0, "sepalWidth": 10.0, "petalLength": 11.0, '
    b'"petalWidth": 12.0}, "scoreTopic": "score"}'
)
ORIGINAL_SCORE = (
    b'{"timestamp": 1645000000.123456, "messageId": "0a8c4d2e-6f1b-4c3d-9e5f-7a8b9c0d1e2f", '
    b'"modelInput": {"sepalLength": 9.0, "sepalWidth": 10.0, "petalLength": 11.0, '
    b'"petalWidth": 12.0}, "scoreTopic": "score", "result": {"modelName": "dt", "result": 2}, '
    b'"provenance": {"model": {"modelName": "dt", "elapsedTimeAfterRequest": 8.931, '
    b'"modelVersion": 1}}}'
)

# Any text that is not half of a surrogate pair: those have no UTF-8.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**80), 2**80)
plain = st.none() | st.booleans() | whole | numbers | texts
free_form = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
objects = st.dictionaries(texts, free_form, max_size=4)
requests = st.builds(
    Request,
    timestamp=numbers,
    message_id=texts,
    model_input=objects,
    score_topic=texts,
    deadline=st.none() | numbers,
    endpoint=st.none() | texts,
    schema_version=st.none() | whole,
    provenance=st.none() | objects,
)
announcements = st.builds(
    Announcement,
    timestamp=numbers,
    endpoint=texts,
    instance=texts,
    model_name=texts,
    model_version=whole,
    role=texts,
    state=texts,
    digest=st.none() | texts,
)
models = st.builds(
    ModelProvenance,
    model_name=texts,
    elapsed_time_after_request=numbers,
    model_version=whole,
    role=st.none() | texts,
    digest=st.none() | texts,
    evaluated_ms=st.none() | numbers,
    queue_ms=st.none() | numbers,
)
outcomes = st.builds(
    Result,
    model_name=texts,
    result=free_form,
    probabilities=st.none() | st.lists(numbers, max_size=4),
) | st.builds(ScoreError, type=texts, message=texts)


class TestRoundTrips:
    @given(sent=requests)
    def test_a_request_is_read_as_it_was_written(self, sent):
        read, fields = decode_request(sent.encode())

        assert read == sent
        assert fields == json.loads(sent.encode())

    @given(sent=announcements)
    def test_an_announcement_is_read_as_it_was_written(self, sent):
        assert decode_announcement(sent.encode()) == sent

    @given(asked=requests, model=models, outcome=outcomes)
    def test_a_score_is_read_as_it_was_written(self, asked, model, outcome):
        read = decode_score(encode_score(decode_request(asked.encode())[1], model, outcome))

        assert read.message_id == asked.message_id
        assert read.endpoint == asked.endpoint
        assert read.model == model
        assert (read.result or read.error) == outcome
        assert (read.result is None) != (read.error is None)

    def test_names_are_the_original_systems_camel_case_and_what_is_not_set_is_not_written(self):
        sent = Request(timestamp=1.5, message_id="a", model_input={"x": 1.0}, score_topic="score")

        assert json.loads(sent.encode()) == {
            "timestamp": 1.5,
            "messageId": "a",
            "modelInput": {"x": 1.0},
            "scoreTopic": "score",
        }


class TestWhatIsPassedOn:
    @given(asked=requests, unknown=objects, outcome=outcomes)
    def test_a_score_keeps_the_requests_fields_and_those_that_nobody_knows(
        self, asked, unknown, outcome
    ):
        ours = json.loads(asked.encode())
        free = {f"x-{name}": value for name, value in unknown.items()}
        _, fields = decode_request(msgspec.json.encode(ours | free))

        written = json.loads(encode_score(fields, provenance("dt"), outcome))

        for added in ("result", "error", "provenance"):
            written.pop(added, None)
        ours.pop("provenance", None)
        assert written == ours | free

    @given(foreign=objects)
    def test_a_score_keeps_what_others_wrote_into_the_provenance(self, foreign):
        payload = request(provenance=foreign).encode()

        written = json.loads(scored(payload, "dt"))

        foreign.pop("model", None)
        model = written["provenance"].pop("model")
        assert model["modelName"] == "dt"
        assert written["provenance"] == foreign

    def test_a_request_can_not_put_a_result_or_an_error_into_a_models_mouth(self):
        forged = json.loads(request().encode()) | {
            "result": {"modelName": "dt", "result": 99},
            "error": {"type": "ModelError", "message": "forged"},
        }
        payload = json.dumps(forged).encode()

        right, failed = (
            decode_score(scored(payload, "dt", result=1)),
            scored(payload, "dt", error="no"),
        )

        assert (right.result.result, right.error) == (1, None)
        assert decode_score(failed).result is None
        assert decode_score(failed).error.message == "no"

    def test_what_a_model_says_of_itself_stands_over_what_the_request_says_of_it(self):
        payload = request(provenance={"model": {"modelName": "forged", "modelVersion": 9}}).encode()

        assert decode_score(scored(payload, "dt", 1)).model.model_name == "dt"


class TestTheOriginalSystem:
    def test_its_request_is_read(self):
        read, _ = decode_request(ORIGINAL_REQUEST)

        assert read.timestamp == 1645000000.123456
        assert read.model_input["petalWidth"] == 12.0
        assert read.score_topic == "score"
        assert (read.deadline, read.endpoint, read.provenance) == (None, None, None)

    def test_its_score_is_read(self):
        read = decode_score(ORIGINAL_SCORE)

        assert (read.result.model_name, read.result.result) == ("dt", 2)
        assert (read.model.model_version, read.model.elapsed_time_after_request) == (1, 8.931)
        assert read.model.role is None

    def test_its_model_can_read_our_request_and_we_its_score_of_it(self):
        payload = request(endpoint="iris", schema_version=1).encode()

        read = decode_score(foreign_score(payload, "lr", 0, result=1))

        assert (read.message_id, read.endpoint, read.result.result) == ("r1", "iris", 1)

    def test_its_front_end_finds_in_our_score_all_that_it_looks_for(self):
        written = json.loads(scored(ORIGINAL_REQUEST, "dt", 1, result=2))

        assert {k: written[k] for k in json.loads(ORIGINAL_REQUEST)} == json.loads(ORIGINAL_REQUEST)
        assert written["result"] == {"modelName": "dt", "result": 2}
        assert type(written["result"]["result"]) is int
        assert type(written["provenance"]["model"]["modelVersion"]) is int
        assert type(written["provenance"]["model"]["elapsedTimeAfterRequest"]) is float


READERS = [decode_request, decode_score, decode_announcement, record_id]
NOT_AN_OBJECT = {
    "nothing": b"",
    "no JSON": b"hello",
    "half an object": b'{"messageId": "a"',
    "an object and more": b'{"messageId": "a"} {}',
    "an array": b"[]",
    "null": b"null",
    "a text": b'"messageId"',
    "an empty object": b"{}",
    "a byte order mark": b'\xef\xbb\xbf{"messageId": "a"}',
    "UTF-16": '{"messageId": "a"}'.encode("utf-16"),
    "bytes that are no UTF-8": b'{"messageId": "\xff\xfe"}',
    "half of a surrogate pair": b'{"messageId": "\\ud800"}',
    "100,000 levels": b'{"messageId": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 levels of a field nobody knows": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN, which is no JSON": b'{"messageId": NaN}',
}


class TestMalformedMessages:
    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize("payload", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT)
    def test_what_is_no_json_object_is_a_contract_error(self, read, payload):
        with pytest.raises(ContractError):
            read(payload)

    @pytest.mark.parametrize("read", READERS)
    @given(payload=st.binary(max_size=200))
    def test_whatever_the_bytes_nothing_but_a_contract_error_is_raised(self, read, payload):
        with contextlib.suppress(ContractError):
            read(payload)

    @pytest.mark.parametrize("read", READERS)
    @given(message=objects, missing=st.sampled_from(["messageId", "timestamp", "provenance"]))
    def test_whatever_the_object_nothing_but_a_contract_error_is_raised(
        self, read, message, missing
    ):
        known = json.loads(ORIGINAL_SCORE) | message
        known.pop(missing, None)
        with contextlib.suppress(ContractError):
            read(msgspec.json.encode(known))

    @pytest.mark.parametrize("field", ["timestamp", "messageId", "modelInput", "scoreTopic"])
    def test_a_request_without_one_of_its_fields_is_refused_by_name(self, field):
        message = json.loads(ORIGINAL_REQUEST)
        del message[field]

        with pytest.raises(ContractError, match=f"not a request: .*{field}"):
            decode_request(json.dumps(message).encode())

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("timestamp", "1645000000"),
            ("timestamp", True),
            ("timestamp", None),
            ("messageId", 7),
            ("messageId", None),
            ("modelInput", [1, 2]),
            ("modelInput", None),
            ("scoreTopic", ["score"]),
            ("deadline", "soon"),
            ("deadline", 10**400),
            ("timestamp", 10**400),
            ("endpoint", 1),
            ("provenance", []),
            ("provenance", "me"),
        ],
    )
    def test_a_request_with_a_field_of_the_wrong_type_is_refused(self, field, value):
        message = json.loads(ORIGINAL_REQUEST) | {field: value}

        with pytest.raises(ContractError, match="not a request"):
            decode_request(json.dumps(message).encode())

    @pytest.mark.parametrize(
        "change",
        [
            {"provenance": None},
            {"provenance": {}},
            {"provenance": {"model": None}},
            {"provenance": {"model": {"modelName": "dt", "modelVersion": 1}}},
            {"provenance": {"model": {"modelName": "dt", "elapsedTimeAfterRequest": 1.0}}},
            {"result": 2},
            {"result": {"result": 2}},
            {"result": {"modelName": "dt"}},
            {"result": {"modelName": "dt", "result": 2, "probabilities": "all"}},
            {"error": "it failed"},
            {"error": {"type": "ModelError"}},
            {"messageId": 1},
        ],
    )
    def test_a_score_with_a_part_missing_or_of_the_wrong_type_is_refused(self, change):
        with pytest.raises(ContractError, match="not a score"):
            decode_score(json.dumps(json.loads(ORIGINAL_SCORE) | change).encode())

    @pytest.mark.parametrize("version", ["1", 1.5, True, None])
    def test_a_models_version_is_a_whole_number(self, version):
        message = json.loads(ORIGINAL_SCORE)
        message["provenance"]["model"]["modelVersion"] = version

        with pytest.raises(ContractError, match="not a score"):
            decode_score(json.dumps(message).encode())

    def test_an_announcement_without_a_state_is_refused(self):
        message = json.loads(announcement("dt").encode())
        del message["state"]

        with pytest.raises(ContractError, match="not an announcement"):
            decode_announcement(json.dumps(message).encode())


class TestWhatCanBeReadCanBeWritten:
    @pytest.mark.parametrize("digits", [19, 20, 100, 4000])
    def test_whole_numbers_of_any_length_that_is_read_are_passed_on(self, digits):
        long = int("9" * digits)
        payload = request(model_input={"a": long}).encode()

        assert json.loads(scored(payload, "dt"))["modelInput"] == {"a": long}

    @pytest.mark.parametrize("number", [b"1e400", b"9" * 5000])
    def test_numbers_beyond_every_limit_are_a_contract_error(self, number):
        payload = request(model_input={"a": 0.25}).encode().replace(b"0.25", number)

        with pytest.raises(ContractError):
            decode_request(payload)

    @pytest.mark.parametrize("levels", [*range(1, NESTING + 5), *range(900, 1100, 5), 5000])
    def test_a_request_of_any_depth_is_refused_or_can_be_passed_on(self, levels):
        nested = json.loads("[" * levels + "]" * levels) if levels < 900 else None
        brackets = b"[" * levels + b"]" * levels
        payload = request(model_input={"a": 0}).encode().replace(b'"a":0', b'"a":' + brackets)

        if levels + 2 > NESTING:
            with pytest.raises(ContractError):
                decode_request(payload)
        else:
            assert json.loads(scored(payload, "dt"))["modelInput"] == {"a": nested}

    @pytest.mark.parametrize("levels", [NESTING - 1, NESTING, NESTING + 1, 970, 5000])
    def test_a_score_of_any_depth_is_refused_or_can_be_shown(self, levels):
        payload = scored(request().encode(), "dt", result=0.25)
        payload = payload.replace(b"0.25", b"[" * levels + b"]" * levels)

        if levels > NESTING:
            with pytest.raises(ContractError, match="not a score"):
                decode_score(payload)
        else:
            assert msgspec.json.encode(decode_score(payload).result)

    def test_many_shallow_containers_are_not_deep(self):
        payload = request(model_input={"a": [[] for _ in range(1000)]}).encode()

        assert len(decode_request(payload)[0].model_input["a"]) == 1000

    @pytest.mark.parametrize(
        "value",
        ["\ud800", object(), 1j, 10**5000],
        ids=["half of a surrogate pair", "an object", "a complex number", "5,000 digits"],
    )
    def test_what_json_can_not_hold_is_a_contract_error_where_it_is_written(self, value):
        with pytest.raises(ContractError, match="can not be written"):
            request(model_input={"a": value}).encode()
        with pytest.raises(ContractError, match="can not be written"):
            encode_score(
                {"messageId": "r1"}, provenance("dt"), Result(model_name="dt", result=value)
            )

    def test_endless_nesting_is_a_contract_error_where_it_is_written(self):
        endless = []
        endless.append(endless)

        with pytest.raises(ContractError, match="can not be written"):
            request(model_input={"a": endless}).encode()


class TestRecordId:
    def test_of_a_request_it_is_its_message_id(self):
        assert record_id(ORIGINAL_REQUEST) == "0a8c4d2e-6f1b-4c3d-9e5f-7a8b9c0d1e2f"

    def test_of_a_score_it_tells_the_model_and_version_too(self):
        assert record_id(ORIGINAL_SCORE) == "0a8c4d2e-6f1b-4c3d-9e5f-7a8b9c0d1e2f:dt:1"

    def test_of_a_request_with_somebodys_provenance_it_is_its_message_id(self):
        assert record_id(request("a", provenance={"gateway": {"seen": 1}}).encode()) == "a"

    def test_of_an_error_score_it_is_that_of_any_score(self):
        assert record_id(scored(request("a").encode(), "dt", 3, error="no")) == "a:dt:3"

    @given(names=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), unique=True))
    def test_each_models_score_of_a_request_has_its_own(self, names):
        payload = request("a").encode()

        ids = {record_id(scored(payload, *model)) for model in names}

        assert len(ids) == len(names)

    def test_what_has_no_message_id_has_none(self):
        with pytest.raises(ContractError, match="neither a request nor a score"):
            record_id(b'{"provenance": {}}')


class TestOneLine:
    @pytest.mark.parametrize("payload", [b"{}", b'{"a": 1,   "b":"\\n"}', ORIGINAL_REQUEST])
    def test_is_the_very_bytes_where_they_are_one_line_already(self, payload):
        assert one_line(payload) is payload

    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    def test_is_the_same_object_without_its_line_breaks(self, end):
        payload = b'{"a": [1.50,' + end + b"2e3]," + end + b'"b": "\\r\\n"}' + end

        line = one_line(payload)

        assert json.loads(line) == json.loads(payload)
        assert b"1.50" in line  # numbers stay as they were written
        assert len(line.splitlines()) == 1

    @pytest.mark.parametrize("name", sorted(NOT_AN_OBJECT.keys() - {"an empty object"}))
    def test_is_one_only_of_an_object(self, name):
        with pytest.raises(ContractError, match="no JSON object"):
            one_line(NOT_AN_OBJECT[name])

    @pytest.mark.parametrize("payload", [b'{"a": "\xff"}', b'{"a": {"b": "\xff"}}\n'])
    def test_is_one_only_in_utf_8_to_the_last_byte(self, payload):
        with pytest.raises(ContractError, match="no JSON object"):
            one_line(payload)


def test_the_score_that_tests_build_is_one_that_can_be_read():
    built = score("dt", 1, result=2, endpoint="iris")

    assert decode_score(msgspec.json.encode(built)) == built
