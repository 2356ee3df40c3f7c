"""Every number of every panel is asked for on a real Elasticsearch, about archived traffic."""

import asyncio
import json
from collections import Counter
from fnmatch import fnmatch

import pytest
from elasticsearch import Elasticsearch

from deploy.dashboards.kibana.export import FILE
from tests.dashboards.archived import ASKED, BURIED, HANGING_SECONDS, HURRIED, archive, fields
from tests.dashboards.kql import query
from tests.dashboards.lens import layers
from tests.dashboards.test_kibana_objects import TYPES

pytestmark = [pytest.mark.elasticsearch, pytest.mark.timeout(300)]

OBJECTS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
TITLES = {o["id"]: o["attributes"]["title"] for o in OBJECTS if o["type"] == "index-pattern"}
LAYERS = {
    f"{layer.panel}: {layer.name}": layer
    for board in OBJECTS
    if board["type"] == "dashboard"
    for layer in layers(board)
}
SEARCHES = {o["attributes"]["title"]: o for o in OBJECTS if o["type"] == "search"}


@pytest.fixture(scope="module")
def client(elasticsearch_url):
    with Elasticsearch(elasticsearch_url) as client:
        yield client


@pytest.fixture(scope="module")
def archived(elasticsearch_url, client):
    """Traffic in indices of this module's own."""
    archived = asyncio.run(archive(elasticsearch_url))
    indices = list(archived.indices.values())
    client.indices.refresh(index=indices)
    yield archived
    for index in indices:
        client.options(ignore_status=404).indices.delete(index=index)
        client.options(ignore_status=404).indices.delete_index_template(name=index)


@pytest.fixture
def rows(client, archived):
    """Return what a layer has to show, by its panel's title and its name."""

    def rows(name):
        layer = LAYERS[name]
        answer = client.search(index=index_of(archived, layer.view), **layer.search())
        assert answer["_shards"]["failed"] == 0
        return layer.rows(answer.body)

    return rows


def index_of(archived, view):
    """Return the index that the pattern of a data view matches."""
    [index] = [each for each in archived.indices.values() if fnmatch(each, TITLES[view])]
    return index


def total(rows, key, *by):
    """Return the sums of a column, by other columns."""
    sums = Counter()
    for row in rows:
        sums[tuple(row[each] for each in by)] += row[key]
    return {(group[0] if len(by) == 1 else group): number for group, number in sums.items()}


class TestEveryLayer:
    @pytest.mark.parametrize("name", LAYERS)
    def test_has_something_to_show(self, rows, name):
        shown = [k for k, c in LAYERS[name].columns.items() if not c["isBucketed"]]
        found = rows(name)
        assert found
        for row in found:
            values = [row[key] for key in shown]
            assert any(value is not None for value in values)
            assert all(value >= 0 for value in values if value is not None)

    @pytest.mark.parametrize(
        "name",
        [name for name, layer in LAYERS.items() if any("X2" in key for key in layer.columns)],
    )
    def test_has_shares_between_0_and_1(self, rows, name):
        formulas = [k for k, c in LAYERS[name].columns.items() if c["operationType"] == "formula"]
        shares = [row[key] for row in rows(name) for key in formulas if row[key] is not None]
        assert shares
        assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("title", SEARCHES)
def test_every_saved_search_finds_documents_with_each_of_its_columns(client, archived, title):
    search = SEARCHES[title]
    source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
    [view] = search["references"]
    found = client.search(
        index=index_of(archived, view["id"]),
        query=query(source["query"]["query"]),
        sort=[{field: order} for field, order in search["attributes"]["sort"]],
        fields=search["attributes"]["columns"],
        size=100,
    )["hits"]["hits"]
    seen = {field for hit in found for field in hit["fields"]}
    assert set(search["attributes"]["columns"]) <= seen


class TestArchive:
    def test_nothing_was_refused(self, archived):
        assert archived.rejections == []

    def test_has_every_record_once(self, client, archived):
        asked = ASKED + HURRIED
        number = {view: len(records) for view, records in archived.records.items()}
        assert number == {
            "decoy-log": asked,
            "score-log": 4 * ASKED + HURRIED,
            "decision-log": asked,
            "dead-letter-log": len(BURIED),
        }
        for view, index in archived.indices.items():
            assert client.count(index=index)["count"] == number[view]

    def test_has_no_field_that_the_index_could_not_take(self, client, archived):
        query = {"exists": {"field": "_ignored"}}
        assert client.count(index=list(archived.indices.values()), query=query)["count"] == 0

    def test_has_every_field_of_decisions_and_dead_letters_mapped(self, archived):
        for view in ("decision-log", "dead-letter-log"):
            for payload in archived.records[view].values():
                assert fields(json.loads(payload)) <= set(TYPES)


class TestTraffic:
    def test_counts_the_requests_by_endpoint(self, rows):
        found = rows("Requests per second: requests")
        counts = total(found, "requests-measure-0", "requests-split")
        assert counts == {"iris": ASKED, "hurry": HURRIED}

    def test_counts_the_answers_by_model_and_version(self, rows, archived):
        assert archived.answers == {"rf@2": ASKED - 1, "dt@1": 1}
        found = rows("Answered by: answers")
        assert total(found, "answers-measure-0", "answers-split") == archived.answers

    def test_tells_the_share_of_empty_answers(self, rows):
        [row] = rows("Empty answers: number")
        assert row["number-measure-0"] == HURRIED / (ASKED + HURRIED)

    def test_divides_requests_by_outcome(self, rows):
        found = rows("Outcome of requests: outcomes")
        counts = total(found, "outcomes-measure-0", "outcomes-split")
        assert counts == {"answered": ASKED, "exhausted": HURRIED}

    def test_tells_the_latency_of_each_model(self, rows):
        found = rows("Latency of each model: latency")
        assert {row["latency-split"] for row in found} == {"lr", "dt", "rf", "nb", "old"}
        for row in found:
            p50, p90, p99 = (row[f"latency-measure-{number}"] for number in range(3))
            assert 0 < p50 <= p90 <= p99
        slow = [row["latency-measure-0"] for row in found if row["latency-split"] == "old"]
        assert min(slow) >= 1000 * HANGING_SECONDS

    def test_counts_late_scores_by_model(self, rows, archived):
        assert archived.late["nb@3"] == ASKED
        found = total(rows("Late scores: late"), "late-measure-0", "late-split")
        assert found == archived.late

    def test_counts_dead_letters_by_topic(self, rows):
        [row] = rows("Dead letters: number")
        assert row["number-measure-0"] == len(BURIED)
        found = rows("Dead letters by topic: dead")
        letters = Counter(topic for topic, _ in BURIED)
        assert total(found, "dead-measure-0", "dead-split") == letters


class TestModels:
    def test_tells_the_share_of_requests_on_which_all_models_agreed(self, rows, archived):
        compared = [verdicts for verdicts in archived.verdicts if verdicts]
        agreed = [verdicts for verdicts in compared if all(verdicts.values())]
        assert 0 < len(agreed) < len(compared)
        [row] = rows("Agreement: number")
        assert row["number-measure-0"] == len(agreed) / len(compared)

    @pytest.mark.parametrize("name", ["agreeing", "disagreeing"])
    def test_counts_agreement_and_disagreement_of_each_model(self, rows, archived, name):
        says = name == "agreeing"
        models = Counter(
            model for each in archived.verdicts for model, agreed in each.items() if agreed == says
        )
        assert models["lr@0"] > 0
        found = rows(f"{name.capitalize()} by model: {name}")
        assert total(found, f"{name}-measure-0", f"{name}-along") == models
        over_time = rows(f"{name.capitalize()} by model over time: {name}")
        assert total(over_time, f"{name}-measure-0", f"{name}-split") == models

    def test_counts_the_requests_with_a_disagreement(self, rows, archived):
        [row] = rows("Disagreements: number")
        assert row["number-measure-0"] == sum(
            not all(verdicts.values()) for verdicts in archived.verdicts
        )

    def test_counts_what_each_model_says(self, rows, archived):
        said = Counter(
            (s.result.model_name, float(s.result.result)) for s in archived.scores if s.result
        )
        found = rows("Classes by model: classes")
        assert total(found, "classes-measure-0", "classes-along", "classes-split") == said
        over_time = rows("Classes by model over time: classes")
        by = ("classes-split", "classes-split second")
        assert total(over_time, "classes-measure-0", *by) == said

    def test_tells_the_share_of_errors_by_model(self, rows, archived):
        errors = sum(s.error is not None for s in archived.scores)
        assert errors >= 1
        [row] = rows("Errors: number")
        assert row["number-measure-0"] == errors / len(archived.scores)
        found = rows("Error share of each model: errors")
        failing = {row["errors-split"] for row in found if row["errors-measure-0"]}
        assert failing == {"rf"}

    def test_counts_errors_by_type(self, rows, archived):
        types = Counter(s.error.type for s in archived.scores if s.error)
        found = rows("Errors by type: types")
        assert total(found, "types-measure-0", "types-split") == types
