"""What every sink must do.

Inherit ``SinkSuite`` in a test module, and give it two fixtures::

    class TestMySink(SinkSuite):
        @pytest.fixture
        async def sink(self): ...  # an empty one; closed at the end

        @pytest.fixture
        def stored(self, sink): ...  # an async function: the JSON objects that are stored now
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from rendezvous.contract import record_id
from rendezvous.sink.port import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rendezvous.sink.port import Sink

    Stored = Callable[[], Awaitable[Sequence[dict[str, Any]]]]

TIMESTAMP = 1763912345.123456


def request(name: str, /, **fields: Any) -> Record:
    """Return the record of a request whose id is ``name``."""
    return record(
        {
            "timestamp": TIMESTAMP,
            "messageId": name,
            "modelInput": {"sepalLength": 5.1},
            "scoreTopic": "score",
            **fields,
        }
    )


def score(name: str, model: str, version: int, /, **fields: Any) -> Record:
    """Return the record of a model's score for the request ``name``."""
    provenance = {
        "model": {"modelName": model, "modelVersion": version, "elapsedTimeAfterRequest": 4.25}
    }
    result = {"modelName": model, "result": 2, "probabilities": [0.0, 0.25, 0.75]}
    return request(name, **{"result": result, "provenance": provenance, **fields})


def record(message: dict[str, Any], topic: str = "decoy") -> Record:
    """Return the record of any message that has a ``messageId``."""
    payload = json.dumps(message, ensure_ascii=False).encode()
    return Record(record_id(payload), topic, payload)


def keys(documents: Sequence[dict[str, Any]]) -> list[str]:
    """Return the ids of what is stored, sorted."""
    return sorted(record_id(json.dumps(document).encode()) for document in documents)


class SinkSuite:
    """The behaviour of ``rendezvous.sink.port.Sink``."""

    async def test_stores_every_record_with_all_its_fields(
        self, sink: Sink, stored: Stored
    ) -> None:
        inputs = {"sepalLength": 5.1, "note": "text", "list": [1, 2.5, None]}
        wanted = request("a", modelInput=inputs, foreign={"kept": [True, {"deep": 1}]})
        assert await sink.write([wanted]) == []
        [document] = await stored()
        for name, value in json.loads(wanted.payload).items():
            if name != "timestamp":  # a sink may write a moment in its own way
                assert document[name] == value

    async def test_stores_a_batch_of_requests_and_scores(self, sink: Sink, stored: Stored) -> None:
        batch = [request(f"r{n}") for n in range(500)]
        batch += [score(f"r{n}", model, 1) for n in range(500) for model in ("dt", "lr")]
        assert await sink.write(batch) == []
        assert keys(await stored()) == sorted(each.id for each in batch)

    async def test_stores_an_id_once_when_it_is_twice_in_a_batch(
        self, sink: Sink, stored: Stored
    ) -> None:
        assert await sink.write([request("a"), request("b"), request("a")]) == []
        assert keys(await stored()) == ["a", "b"]

    async def test_stores_an_id_once_when_it_comes_again(self, sink: Sink, stored: Stored) -> None:
        await sink.write([request("a"), request("b")])
        assert await sink.write([request("b"), request("c")]) == []
        assert keys(await stored()) == ["a", "b", "c"]

    async def test_stores_an_id_once_when_it_comes_again_after_closing(
        self, sink: Sink, stored: Stored
    ) -> None:
        await sink.write([request("a"), score("a", "dt", 1)])
        await sink.aclose()
        assert await sink.write([request("a"), score("a", "dt", 1), score("a", "dt", 2)]) == []
        assert keys(await stored()) == ["a", "a:dt:1", "a:dt:2"]

    async def test_takes_concurrent_writes_of_overlapping_batches(
        self, sink: Sink, stored: Stored
    ) -> None:
        batches = [[request(f"r{n}") for n in range(start, start + 50)] for start in range(8)]
        outcomes = await asyncio.gather(*(sink.write(batch) for batch in batches))
        assert outcomes == [[]] * 8
        assert keys(await stored()) == sorted(f"r{n}" for n in range(57))

    async def test_keeps_text_of_every_script(self, sink: Sink, stored: Stored) -> None:
        text = 'Größe 花 🌸 \u2028 \x7f "quoted" back\\slash\ttab\nline'
        await sink.write([request("ü-1", modelInput={"text": text})])
        [document] = await stored()
        assert document["messageId"] == "ü-1"
        assert document["modelInput"] == {"text": text}

    async def test_keeps_a_record_that_is_spread_over_lines(
        self, sink: Sink, stored: Stored
    ) -> None:
        spread = b'{\n  "messageId": "a",\r\n  "modelInput": {"x": 1}\n}\n'
        assert await sink.write([Record("a", "decoy", spread), request("b")]) == []
        assert keys(await stored()) == ["a", "b"]

    async def test_keeps_a_record_of_a_megabyte(self, sink: Sink, stored: Stored) -> None:
        values = {f"field{n}": "x" * 1000 for n in range(1000)}
        assert await sink.write([request("a"), request("large", modelInput=values)]) == []
        documents = {each["messageId"]: each for each in await stored()}
        assert documents["large"]["modelInput"] == values

    async def test_an_empty_batch_stores_nothing(self, sink: Sink, stored: Stored) -> None:
        assert await sink.write([]) == []
        assert await stored() == []

    async def test_gives_back_what_is_no_json_object_and_stores_the_rest(
        self, sink: Sink, stored: Stored
    ) -> None:
        payloads = [b'{"messageId": "x", "n": NaN}', b"[1]", b'{"messageId": "x', b'{"a": "\xff"}']
        bad = [Record(f"bad{n}", "decoy", payload) for n, payload in enumerate(payloads)]
        rejections = await sink.write([request("a"), *bad, request("b")])
        assert [each.record for each in rejections] == bad
        assert all(each.reason for each in rejections)
        assert keys(await stored()) == ["a", "b"]

    async def test_can_be_closed_twice_and_used_again(self, sink: Sink, stored: Stored) -> None:
        await sink.aclose()
        await sink.write([request("a")])
        await sink.aclose()
        await sink.aclose()
        await sink.write([request("b")])
        assert keys(await stored()) == ["a", "b"]
