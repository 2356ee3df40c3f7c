"""Each sink against the suite, and what is particular to Elasticsearch."""

import asyncio
import json
import uuid
from collections import Counter

import pytest
from elasticsearch import Elasticsearch

from rendezvous.errors import SinkUnavailable
from rendezvous.sink.archive import read
from rendezvous.sink.elastic import ElasticSink
from rendezvous.sink.files import FileSink
from rendezvous.sink.mapping import PROPERTIES, lacking
from rendezvous.sink.port import Record
from rendezvous.testing.sink_suite import TIMESTAMP, SinkSuite, keys, record, request, score


class TestFileSink(SinkSuite):
    @pytest.fixture
    async def sink(self, tmp_path):
        sink = FileSink(tmp_path / "archive")
        yield sink
        await sink.aclose()

    @pytest.fixture
    def stored(self, tmp_path):
        async def stored():
            return [json.loads(line) for line in read(tmp_path / "archive")]

        return stored


@pytest.fixture
def client(elasticsearch_url):
    with Elasticsearch(elasticsearch_url) as client:
        yield client


@pytest.fixture
def index(client):
    """A name of its own for each test, gone afterwards."""
    name = f"test-{uuid.uuid4()}"
    yield name
    client.options(ignore_status=404).indices.delete(index=name)
    client.options(ignore_status=404).indices.delete_index_template(name=name)


@pytest.fixture
async def elastic(elasticsearch_url, index):
    sink = ElasticSink(elasticsearch_url, index)
    yield sink
    await sink.aclose()


@pytest.fixture
def documents(client, index):
    """Return every document of the index, by its id."""

    def documents():
        if not client.indices.exists(index=index):
            return {}
        client.indices.refresh(index=index)
        hits = client.search(index=index, size=10_000)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    return documents


@pytest.mark.elasticsearch
class TestElasticSink(SinkSuite):
    @pytest.fixture
    def sink(self, elastic):
        return elastic

    @pytest.fixture
    def stored(self, documents):
        async def stored():
            return list((await asyncio.to_thread(documents)).values())

        return stored


@pytest.mark.elasticsearch
class TestElasticsearch:
    async def test_the_id_of_a_document_is_the_id_of_the_record(self, elastic, documents):
        await elastic.write([request("a"), score("a", "dt", 1)])
        assert set(documents()) == {"a", "a:dt:1"}

    async def test_a_timestamp_is_a_moment_that_can_be_searched_to_the_microsecond(
        self, elastic, client, index, documents
    ):
        await elastic.write([request("a"), request("b", timestamp=TIMESTAMP + 2e-6)])
        assert documents()["a"]["timestamp"] == "2025-11-23T15:39:05.123456+00:00"

        def between(least, most):
            query = {"range": {"timestamp": {"gte": least, "lt": most}}}
            return [hit["_id"] for hit in client.search(index=index, query=query)["hits"]["hits"]]

        day = "2025-11-23T15:39:05"
        assert between(f"{day}.123456Z", f"{day}.123457Z") == ["a"]
        assert between(f"{day}.123457Z", f"{day}.123459Z") == ["b"]
        assert sorted(between(f"{day}.123Z", f"{day}.124Z")) == ["a", "b"]
        assert sorted(between("1763912345123", "1763912345124")) == ["a", "b"]

    async def test_numbers_stay_as_they_were_written(self, elastic, client, index, documents):
        written = b'{"messageId":"a","modelInput":{"x":0.1000000000000000055511151231257827}}'
        await elastic.write([Record("a", "decoy", written)])
        documents()
        answer = client.transport.perform_request("GET", f"/{index}/_doc/a")
        assert answer.body["_source"]["modelInput"]["x"] == 0.1

    async def test_fields_of_the_contract_can_be_searched_and_others_make_no_new_ones(
        self, elastic, client, index, documents
    ):
        await elastic.write([score("a", "dt", 1, foreign={"x": 1}, deadline=1.7639e12)])
        documents()
        before = client.indices.get_mapping(index=index).body
        await elastic.write([score("b", "lr", 0, foreign={"x": "text"}, another=[1, "text"])])
        documents()
        assert client.indices.get_mapping(index=index).body == before
        for query in (
            {"term": {"provenance.model.modelName": "dt"}},
            {"range": {"provenance.model.modelVersion": {"gte": 1}}},
            {"term": {"modelInput.sepalLength": "5.1"}},
            {"range": {"deadline": {"lte": "2026-01-01", "format": "strict_date"}}},
        ):
            hits = client.search(index=index, query=query)["hits"]["hits"]
            assert "a:dt:1" in [hit["_id"] for hit in hits], query

    async def test_what_a_foreign_model_answers_is_kept_though_it_is_no_number(
        self, elastic, documents
    ):
        result = {"modelName": "m", "result": "setosa"}
        assert await elastic.write([score("a", "m", 1, result=result)]) == []
        assert documents()["a:m:1"]["result"] == result

    @pytest.mark.parametrize(
        "fields",
        [
            {"timestamp": 1e12},
            {"timestamp": -1.0},
            {"timestamp": 1e300},
            {"timestamp": "yesterday"},
            {"timestamp": {"seconds": 1}},
            {"modelInput": 5},
            {"result": "text"},
            {"result": {"result": {"x": 1}}},
            {"_id": "another"},
            {"": 1},
            {"scoreTopic": "x" * 40_000},
        ],
        ids=str,
    )
    async def test_gives_back_what_its_mapping_refuses_and_stores_the_rest(
        self, elastic, documents, fields
    ):
        bad = request("bad", **fields)
        [rejection] = await elastic.write([request("a"), bad, request("b")])
        assert rejection.record == bad
        assert rejection.reason
        assert set(documents()) == {"a", "b"}

    async def test_gives_back_an_id_that_is_too_long_though_the_whole_request_is_refused(
        self, elastic, documents
    ):
        bad = request("x" * 513)
        batch = [*(request(f"r{n}") for n in range(20)), bad]
        [rejection] = await elastic.write(batch)
        assert rejection.record == bad
        assert "512" in rejection.reason
        assert len(documents()) == 20

    async def test_a_batch_larger_than_one_request_is_stored_whole(self, elastic, documents):
        batch = [request(f"r{n}", foreign="x" * 1_000_000) for n in range(12)]
        assert await elastic.write(batch) == []
        assert keys(list(documents().values())) == sorted(each.id for each in batch)

    async def test_waits_for_an_operator_while_the_index_is_closed(
        self, elastic, client, index, documents
    ):
        await elastic.write([request("a")])
        client.indices.close(index=index)
        with pytest.raises(SinkUnavailable, match="closed"):
            await elastic.write([request("b")])
        client.indices.open(index=index, wait_for_active_shards=1)
        assert await elastic.write([request("b")]) == []
        assert set(documents()) == {"a", "b"}

    async def test_waits_for_an_operator_while_the_index_may_not_be_written_to(
        self, elastic, client, index, documents
    ):
        await elastic.write([request("a")])
        client.indices.put_settings(index=index, settings={"index.blocks.write": True})
        with pytest.raises(SinkUnavailable, match="block"):
            await elastic.write([request("b")])
        client.indices.put_settings(index=index, settings={"index.blocks.write": None})
        assert await elastic.write([request("b")]) == []
        assert set(documents()) == {"a", "b"}

    async def test_waits_for_an_operator_while_there_may_be_no_more_indices(
        self, elastic, client, index, documents
    ):
        await elastic.write([])
        client.indices.delete(index=index)
        limit = "cluster.max_shards_per_node"
        client.indices.create(index=(other := f"test-{uuid.uuid4()}"))
        client.cluster.put_settings(persistent={limit: 1})
        try:
            with pytest.raises(SinkUnavailable, match="maximum normal shards"):
                await elastic.write([request("a")])
        finally:
            client.cluster.put_settings(persistent={limit: None})
            client.indices.delete(index=other)
        assert await elastic.write([request("a")]) == []
        assert set(documents()) == {"a"}

    async def test_the_first_record_of_an_id_stays_when_another_comes(self, elastic, documents):
        await elastic.write([request("a", modelInput={"x": 1})])
        assert await elastic.write([request("a", modelInput={"x": 2})]) == []
        assert documents()["a"]["modelInput"] == {"x": 1}

    async def test_its_fields_are_there_before_the_first_record(self, elastic, client, index):
        assert await elastic.write([]) == []
        mapping = client.indices.get_mapping(index=index)[index]["mappings"]
        assert lacking(mapping["properties"]) == {}
        assert client.count(index=index)["count"] == 0

    async def test_many_connectors_may_make_it_at_once(self, elasticsearch_url, index, documents):
        sinks = [ElasticSink(elasticsearch_url, index) for _ in range(8)]
        try:
            outcomes = await asyncio.gather(*(sink.write([request("a")]) for sink in sinks))
        finally:
            await asyncio.gather(*(sink.aclose() for sink in sinks))
        assert outcomes == [[]] * 8
        assert set(documents()) == {"a"}

    async def test_two_connectors_may_write_the_same_at_once(
        self, elasticsearch_url, elastic, index, documents
    ):
        other = ElasticSink(elasticsearch_url, index)
        batch = [request(f"r{n}") for n in range(300)]
        try:
            outcomes = await asyncio.gather(elastic.write(batch), other.write(batch[::-1]))
        finally:
            await other.aclose()
        assert outcomes == [[], []]
        counted = Counter(each["messageId"] for each in documents().values())
        assert counted == Counter(each.id for each in batch)


DECISION = {
    "deadlineMs": 1000.0,
    "policy": {"name": "newest"},
    "outcome": "answered",
    "reason": "newest",
    "chosen": {
        "model": "dt", "version": 1, "role": "production", "result": 2,
        "probabilities": [0.0, 0.25, 0.75],
    },
    "answeredBy": "dt@1",
    "decidedMs": 4.5,
    "closedMs": 900.25,
    "scores": [
        {
            "model": "lr", "version": 0, "role": "canary", "afterMs": 3.5, "evaluatedMs": 0.5,
            "queueMs": 1.5, "valid": True, "late": False, "result": 1, "agrees": False,
            "probabilities": [0.0, 0.75, 0.25],
        },
        {
            "model": "rf", "version": 2, "role": "shadow", "afterMs": 20.0, "valid": False,
            "late": True, "error": {"type": "ModelError", "message": "it failed"},
        },
    ],
    "agreeing": ["nb@3"],
    "disagreeing": ["lr@0"],
    "lateModels": ["rf@2"],
    "failedModels": ["rf@2"],
    "missingModels": ["knn@4", "svm@5"],
}  # fmt: skip
DEAD_LETTER = {
    "deadLetter": {
        "topic": "iris", "reason": "not a request", "tries": 3, "payload": "no JSON at all",
    },
}  # fmt: skip


def decision(name, **fields):
    """Return a decision record: a request without return address, and what became of it."""
    kept = {"scoreTopic": None, "endpoint": "iris", "schemaVersion": 1}
    return request(name, **{**kept, **DECISION, **fields})


def dead_letter(name):
    return record({"timestamp": TIMESTAMP, "messageId": name, **DEAD_LETTER})


def leaves(properties, path=()):
    """Yield the name of every field that is no object, with its type."""
    for name, field in properties.items():
        if "properties" in field:
            yield from leaves(field["properties"], (*path, name))
        else:
            yield ".".join((*path, name)), field["type"]


def paths(value, path=()):
    """Yield the name of every field that a document has."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            for name, inner in each.items():
                yield from paths(inner, (*path, name))
        else:
            yield ".".join(path)


def values(value, path):
    """Return all that a document has at a field."""
    if isinstance(value, list):
        return [found for each in value for found in values(each, path)]
    if not path:
        return [value]
    return values(value[path[0]], path[1:]) if path[0] in value else []


FIELDS = dict(leaves(PROPERTIES))
NEW = [
    name for name in FIELDS
    if name.split(".")[0] in {*DECISION, *DEAD_LETTER} - set(json.loads(request("").payload))
]  # fmt: skip


@pytest.mark.elasticsearch
class TestDecisionsAndDeadLetters:
    @pytest.fixture
    async def stored(self, elastic, documents):
        """One of each, on Elasticsearch."""
        assert await elastic.write([decision("a"), dead_letter("b")]) == []
        return documents()

    @pytest.fixture
    def aggregated(self, stored, client, index):
        """Return an aggregation of all documents."""

        def aggregated(kind, field):
            aggregations = {"found": {kind: {"field": field}}}
            return client.search(index=index, size=0, aggs=aggregations)["aggregations"]["found"]

        return aggregated

    async def test_are_kept_as_they_are(self, stored):
        assert {name: stored["a"][name] for name in DECISION} == DECISION
        assert stored["b"]["deadLetter"] == DEAD_LETTER["deadLetter"]

    async def test_have_each_of_their_fields_mapped_and_a_value_for_each(self, stored):
        everything = list(stored.values())
        assert {*paths(DECISION), *paths(DEAD_LETTER)} == set(NEW)
        assert [name for name in NEW if not values(everything, name.split("."))] == []

    @pytest.mark.parametrize("field", [n for n in NEW if FIELDS[n] in {"keyword", "boolean"}])
    async def test_can_be_counted_by_each_name(self, stored, aggregated, field):
        counted = Counter(values(list(stored.values()), field.split(".")))
        buckets = aggregated("terms", field)["buckets"]
        assert {bucket.get("key_as_string", bucket["key"]) for bucket in buckets} == {
            json.dumps(value) if isinstance(value, bool) else value for value in counted
        }

    @pytest.mark.parametrize("field", [n for n in NEW if FIELDS[n] in {"double", "long"}])
    async def test_have_percentiles_of_each_number(self, stored, aggregated, field):
        numbers = values(list(stored.values()), field.split("."))
        found = aggregated("percentiles", field)["values"]
        assert found["99.0"] == pytest.approx(max(numbers), rel=0.05)

    @pytest.mark.parametrize(
        ("field", "word", "found"),
        [("scores.error.message", "failed", "a"), ("deadLetter.payload", "json", "b")],
    )
    async def test_can_be_searched_for_a_word_of_each_text(
        self, stored, client, index, field, word, found
    ):
        hits = client.search(index=index, query={"match": {field: word}})["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == [found]

    async def test_are_stored_though_a_text_is_longer_than_can_be_searched(
        self, elastic, documents, client, index
    ):
        long = "x" * 40_000
        assert await elastic.write([decision("a", reason=long), decision("b")]) == []
        assert documents()["a"]["reason"] == long
        hits = client.search(index=index, query={"exists": {"field": "reason"}})["hits"]["hits"]
        assert [hit["_id"] for hit in hits] == ["b"]


@pytest.mark.elasticsearch
class TestAnIndexOfAnEarlierVersion:
    async def test_is_given_the_fields_that_it_lacks(self, client, index, elastic, documents):
        old = {name: PROPERTIES[name] for name in PROPERTIES if name not in {*DECISION, "result"}}
        client.indices.create(index=index, mappings={"dynamic": False, "properties": old})
        assert await elastic.write([decision("a")]) == []
        documents()
        query = {"range": {"decidedMs": {"lt": 5}}}
        assert len(client.search(index=index, query=query)["hits"]["hits"]) == 1
        mapping = client.indices.get_mapping(index=index)[index]["mappings"]
        assert lacking(mapping["properties"]) == {}
        assert mapping["dynamic"] == "false"

    async def test_is_written_to_though_its_fields_are_of_other_types(
        self, client, index, elastic, documents
    ):
        other = {"endpoint": {"type": "text"}, "chosen": {"type": "flattened"}}
        client.indices.create(index=index, mappings={"dynamic": False, "properties": other})
        assert await elastic.write([decision("a")]) == []
        assert documents()["a"]["chosen"] == DECISION["chosen"]
        mapping = client.indices.get_mapping(index=index)[index]["mappings"]["properties"]
        assert mapping["endpoint"] == {"type": "text"}
        assert mapping["closedMs"] == PROPERTIES["closedMs"]
