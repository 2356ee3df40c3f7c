"""A dead letter is a record that every sink can store, whatever is in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.bus.port import Delivery
from rendezvous.contract import one_line, record_id
from rendezvous.sink.letters import LONGEST, letter_record

PROPERTIES = {"reason": "not a request", "originTopic": "iris", "tries": "3"}


def recorded(payload=b"poison", key=None, topic="iris-dead-letter", now=1000.5, **properties):
    delivery = Delivery(topic, payload, key, properties)
    return letter_record(delivery, now)


def letter(*args, **rest):
    return json.loads(recorded(*args, **rest).payload)["deadLetter"]


def test_says_where_it_came_from_why_it_was_buried_and_what_it_was():
    record = recorded(key="r1", **PROPERTIES)

    assert record.topic == "iris-dead-letter"
    assert json.loads(record.payload) == {
        "timestamp": 1000.5,
        "messageId": record.id,
        "deadLetter": {
            "topic": "iris", "payload": "poison", "reason": "not a request", "tries": 3,
        },
    }  # fmt: skip


@pytest.mark.parametrize("tries", ["", "many", "-1", "9" * 5000])
def test_of_a_foreign_system_leaves_out_what_it_does_not_say(tries):
    assert letter(tries=tries) == {"topic": "iris", "payload": "poison"}


def test_has_the_same_id_whenever_it_is_read_and_whoever_buried_it():
    first = recorded(now=1.0, reason="the model can not read it")
    again = recorded(now=2.0, reason="the decoy can not publish it")

    assert first.id == again.id
    assert len(first.id) == 32


def test_has_an_id_of_its_own():
    one = recorded(b"ab", key="c")
    others = [recorded(b"a", key="bc"), recorded(b"ab"), recorded(b"ab", key="c", topic="b")]

    assert one.id not in {other.id for other in others}


def test_keeps_at_most_32_kib_of_its_payload():
    assert letter(b"x" * (LONGEST + 1))["payload"] == "x" * LONGEST
    text = letter(b"\xff" * LONGEST)["payload"]
    assert len(text.encode()) <= LONGEST
    assert set(text) == {"\ufffd"}


@given(
    payload=st.binary(), key=st.none() | st.text(st.characters()), reason=st.text(st.characters())
)
def test_can_be_stored_whatever_is_in_it(payload, key, reason):
    record = recorded(payload, key, reason=reason)

    assert record_id(record.payload) == record.id
    assert one_line(record.payload) == record.payload
