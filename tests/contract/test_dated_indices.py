"""Dated indices on a real Elasticsearch: what is written where, and what pruning deletes."""

import asyncio
import logging
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from elasticsearch import Elasticsearch
from typer.testing import CliRunner

from rendezvous.cli import app
from rendezvous.errors import ConfigurationError, SinkError, SinkUnavailable
from rendezvous.sink.elastic import ElasticSink
from rendezvous.sink.indices import Index, opened
from rendezvous.sink.mapping import lacking
from rendezvous.sink.prune import Pruner, prune
from rendezvous.testing.sink_suite import TIMESTAMP, SinkSuite, request, score

pytestmark = pytest.mark.elasticsearch

DAY = 86_400.0
DAYS = ["2025.11.23", "2025.11.24", "2025.11.25"]
LATER = datetime(2025, 12, 25, 12, tzinfo=UTC)


@pytest.fixture
def client(elasticsearch_url):
    with Elasticsearch(elasticsearch_url) as client:
        yield client


@pytest.fixture
def index(client):
    """A name of its own for each test; it and all that begins with it is gone afterwards."""
    name = f"test-{uuid.uuid4()}"
    yield name
    for found in client.cat.indices(index=f"{name}*", format="json", expand_wildcards="all").body:
        client.indices.delete(index=found["index"])
    client.options(ignore_status=404).indices.delete_index_template(name=f"{name}*")


@pytest.fixture
async def sinks(elasticsearch_url):
    """Make sinks that are closed at the end."""
    made = []

    def make(name, period):
        made.append(ElasticSink(elasticsearch_url, name, period=period))
        return made[-1]

    yield make
    for sink in made:
        await sink.aclose()


@pytest.fixture
def daily(sinks, index):
    return sinks(index, "day")


@pytest.fixture
def names(client, index):
    """Return what there is of an index, without the part that all names have, with its ids."""

    def names(of=index):
        client.indices.refresh(index=f"{of}*", expand_wildcards="open")
        found = {}
        for each in client.cat.indices(index=f"{of}*", format="json").body:
            found.setdefault(each["index"].removeprefix(of).removeprefix("-"), set())
        for hit in client.search(index=f"{of}*", size=10_000)["hits"]["hits"]:
            found[hit["_index"].removeprefix(of).removeprefix("-")].add(hit["_id"])
        return found

    return names


def three_days():
    """Three requests and a score, of three days."""
    batch = [request(f"r{n}", timestamp=TIMESTAMP + n * DAY) for n in range(3)]
    return [*batch, score("r0", "dt", 1)]


class TestDatedSink(SinkSuite):
    @pytest.fixture
    def sink(self, daily):
        return daily

    @pytest.fixture
    def stored(self, client, index):
        def found():
            if not client.indices.exists(index=index):
                return []
            client.indices.refresh(index=index)
            hits = client.search(index=index, size=10_000)["hits"]["hits"]
            return [hit["_source"] for hit in hits]

        async def stored():
            return await asyncio.to_thread(found)

        return stored


class TestWriting:
    async def test_goes_by_the_records_own_day(self, daily, names):
        assert await daily.write(three_days()) == []
        assert names() == {
            "2025.11.23": {"r0", "r0:dt:1"}, "2025.11.24": {"r1"}, "2025.11.25": {"r2"},
        }  # fmt: skip

    async def test_makes_no_index_before_the_first_record(self, daily, names):
        assert await daily.write([]) == []
        assert names() == {}

    async def test_goes_by_the_records_own_month(self, sinks, index, names):
        monthly = sinks(index, "month")
        await monthly.write([*three_days(), request("later", timestamp=TIMESTAMP + 30 * DAY)])
        assert names() == {"2025.11": {"r0", "r0:dt:1", "r1", "r2"}, "2025.12": {"later"}}

    async def test_stores_a_record_once_that_comes_again_on_another_day(
        self, daily, sinks, index, names
    ):
        await daily.write(three_days())
        before = names()
        again = sinks(index, "day")
        assert await again.write(three_days()[::-1]) == []
        assert names() == before

    async def test_keeps_odd_timestamps_in_one_index(self, daily, names):
        odd = [
            request(f"o{n}", timestamp=timestamp)
            for n, timestamp in enumerate([0.0, 1.5e9, 2.6e9, 5e9, None, "2025-11-23", 9e9])
        ]
        assert await daily.write([*odd, request("r")]) == []
        assert names() == {"undated": {f"o{n}" for n in range(7)}, "2025.11.23": {"r"}}

    async def test_is_found_by_the_name_of_the_index(self, daily, client, index, names):
        await daily.write([*three_days(), request("o", timestamp=0.0)])
        names()
        assert client.count(index=index)["count"] == 5
        query = {"range": {"timestamp": {"gte": "2025-11-24", "lt": "2025-11-25"}}}
        [hit] = client.search(index=index, query=query)["hits"]["hits"]
        assert hit["_id"] == "r1"
        for each in client.indices.get_mapping(index=index).values():
            assert lacking(each["mappings"]["properties"]) == {}

    async def test_gives_all_dated_indices_the_fields_that_they_lack(self, daily, client, index):
        for day in DAYS[:2]:
            client.indices.create(
                index=f"{index}-{day}", aliases={index: {}}, mappings={"dynamic": False}
            )
        await daily.write([])
        for each in client.indices.get_mapping(index=index).values():
            assert lacking(each["mappings"]["properties"]) == {}


class TestSwitching:
    async def test_to_a_period_is_refused_while_an_index_has_the_name(self, sinks, index, names):
        await sinks(index, "none").write([request("a")])
        with pytest.raises(ConfigurationError, match="is an index"):
            await sinks(index, "day").write([request("b")])
        assert names() == {"": {"a"}}

    @pytest.mark.parametrize("days", [1, 3])
    async def test_to_none_is_refused_while_an_alias_has_the_name(self, sinks, index, names, days):
        await sinks(index, "day").write(three_days()[:days])
        with pytest.raises(ConfigurationError, match=f"alias of {days} indices"):
            await sinks(index, "none").write([request("b")])
        assert set(names()) == set(DAYS[:days])

    async def test_from_days_to_months_needs_nothing(self, sinks, index, client, names):
        await sinks(index, "day").write(three_days()[:1])
        await sinks(index, "month").write(three_days()[1:2])
        assert names() == {"2025.11.23": {"r0"}, "2025.11": {"r1"}}
        assert client.count(index=index)["count"] == 2

    async def test_an_index_that_came_in_between_buries_no_record_and_is_told(
        self, daily, index, client
    ):
        await daily.write([])
        client.indices.delete_index_template(name=f"{index}@dated")
        client.indices.create(index=index)
        # A template of the old kind is not checked against the indices that are there.
        old = {"index_patterns": [f"{index}-20*"], "aliases": {index: {}}}
        client.indices.put_template(name=f"{index}-old", **old)
        try:
            with pytest.raises(SinkUnavailable, match="same name as the alias"):
                await daily.write([request("a")])
        finally:
            client.indices.delete_template(name=f"{index}-old")
        with pytest.raises(ConfigurationError, match="is an index"):
            await daily.write([request("a")])

    async def test_an_old_index_is_kept_under_another_name_as_the_page_says(
        self, sinks, index, client, names
    ):
        await sinks(index, "none").write([request("a")])
        before = f"{index}-before"
        client.indices.add_block(index=index, block="write")
        client.indices.clone(
            index=index,
            target=before,
            settings={"index.blocks.write": None},
            wait_for_active_shards=1,
        )
        client.indices.delete(index=index)
        client.indices.put_alias(index=before, name=index)
        await sinks(index, "day").write([request("b")])
        assert names() == {"before": {"a"}, "2025.11.23": {"b"}}
        assert client.count(index=index)["count"] == 2


class TestNeighbours:
    @pytest.mark.parametrize("periods", [("day", "none"), ("none", "day"), ("day", "month")])
    @pytest.mark.parametrize("more", ["-log", "-20th.century", "-2", "-20.x", "-undated-log"])
    async def test_one_index_takes_nothing_from_another_whose_name_begins_alike(
        self, sinks, index, client, periods, more
    ):
        other = f"{index}{more}"
        first, second = sinks(index, periods[0]), sinks(other, periods[1])
        for sink in (first, second):
            await sink.write([])
        await first.write(three_days())
        await second.write(three_days())
        client.indices.refresh(index=f"{index}*")
        for name in (index, other):
            assert client.count(index=name)["count"] == 4
        shared = set(client.indices.get_mapping(index=index)) & set(
            client.indices.get_mapping(index=other)
        )
        assert shared == set()


@pytest.fixture
async def filled(sinks, index, client):
    """Two indices with days and months, an undated one, and neighbours that are nobody's."""
    odd = request("o", timestamp=0.0)
    await sinks(index, "day").write([*three_days(), odd])
    await sinks(f"{index}-x", "month").write(three_days())
    for name in ("-2025.11.23-copy", "-2025", "-before", "-2025.13", "-x-y-2025.01"):
        client.indices.create(index=f"{index}{name}", wait_for_active_shards=1)
    client.indices.refresh(index=f"{index}*")
    return index


@pytest.fixture
async def indices(elasticsearch_url, index):
    async with opened(elasticsearch_url, [index], None) as indices:
        yield indices


class TestPruning:
    async def test_finds_what_belongs_to_an_index_and_nothing_else(self, filled, indices):
        found = await indices.find([filled, f"{filled}-x", filled])
        assert [each.name.removeprefix(filled) for each in found] == [
            *(f"-{day}" for day in DAYS), "-undated", "-x-2025.11",
        ]  # fmt: skip
        assert [each.documents for each in found] == [2, 1, 1, 1, 4]
        assert all(each.size > 0 for each in found)
        assert found[0].end == datetime(2025, 11, 24, tzinfo=UTC)
        assert found[3].end is None

    async def test_deletes_nothing_in_a_dry_run(self, filled, indices, names):
        before = names(filled)
        outcomes = await prune(indices, [filled], keep_days=30, now=LATER, apply=False)
        assert [each.action for each in outcomes] == [
            "would delete",
            "would delete",
            "keep",
            "keep",
        ]
        assert names(filled) == before

    async def test_deletes_what_is_due_and_nothing_else(self, filled, indices, names):
        before = set(names(filled))
        outcomes = await prune(
            indices, [filled, f"{filled}-x"], keep_days=30, now=LATER, apply=True
        )
        assert [each.action for each in outcomes] == ["deleted", "deleted", "keep", "keep", "keep"]
        assert set(names(filled)) == before - {"2025.11.23", "2025.11.24"}

    async def test_deletes_a_month_when_its_last_day_is_old_enough(self, filled, indices, names):
        before = set(names(filled))
        for now, gone in ((1, set()), (2, {"x-2025.11"})):
            moment = datetime(2026, 1, now, tzinfo=UTC)
            await prune(indices, [f"{filled}-x"], keep_days=31, now=moment, apply=True)
            assert set(names(filled)) == before - gone

    async def test_leaves_the_alias_to_those_that_stay(self, filled, indices, client):
        await prune(indices, [filled], keep_days=30, now=LATER, apply=True)
        assert client.count(index=filled)["count"] == 2

    async def test_deletes_a_closed_index_too(self, filled, indices, client):
        client.indices.close(index=f"{filled}-{DAYS[0]}")
        [first, *_] = await prune(indices, [filled], keep_days=30, now=LATER, apply=True)
        assert (first.action, first.index.documents) == ("deleted", None)
        assert not client.indices.exists(index=f"{filled}-{DAYS[0]}")

    async def test_one_that_another_job_has_deleted_meanwhile_is_fine(
        self, filled, indices, client
    ):
        [first, *_] = await indices.find([filled])
        client.indices.delete(index=first.name)
        await indices.delete(first)

    @pytest.mark.parametrize("suffix", ["", "-undated", "-before", "-*", "-2025.11.23*"])
    async def test_never_deletes_an_index_without_a_date(self, filled, indices, names, suffix):
        before = names(filled)
        with pytest.raises(SinkError, match="not deleted"):
            await indices.delete(Index(f"{filled}{suffix}", filled, 1, 1, LATER))
        assert names(filled) == before

    @pytest.mark.parametrize("days", [0, -1, 36_501])
    async def test_needs_a_number_of_days(self, indices, days):
        with pytest.raises(ValueError, match="keep_days"):
            await prune(indices, ["a"], keep_days=days, now=LATER, apply=True)

    async def test_of_what_is_not_there_does_nothing(self, index, indices):
        assert await prune(indices, [index], keep_days=1, now=LATER, apply=True) == []


class TestTheJob:
    @pytest.fixture
    def job(self, elasticsearch_url, filled):
        def job(*, apply, every=0.0):
            return Pruner(elasticsearch_url, [filled], None, 30, apply=apply, every=every)

        return job

    async def test_only_says_what_it_would_delete(self, job, filled, names, caplog):
        caplog.set_level(logging.INFO)
        before = names(filled)
        await job(apply=False).run(asyncio.Event())
        assert f"would delete {filled}-{DAYS[0]} (2 documents)" in caplog.text
        assert names(filled) == before

    async def test_deletes_where_it_may(self, job, filled, names, caplog):
        caplog.set_level(logging.INFO)
        before = set(names(filled))
        await job(apply=True).run(asyncio.Event())
        assert f"deleted {filled}-{DAYS[0]} (2 documents)" in caplog.text
        assert set(names(filled)) == before - set(DAYS)

    async def test_goes_on_round_after_round_until_it_is_stopped(self, job, filled, sinks, client):
        stop = asyncio.Event()
        running = asyncio.create_task(job(apply=True, every=0.05 / 3600).run(stop))
        oldest = f"{filled}-{DAYS[0]}"
        async with asyncio.timeout(30):
            for _ in range(2):
                while await asyncio.to_thread(client.indices.exists, index=oldest):
                    await asyncio.sleep(0.02)
                client.indices.create(index=oldest)
        stop.set()
        async with asyncio.timeout(5):
            await running


class TestTheCommand:
    @pytest.fixture
    def call(self, elasticsearch_url):
        def call(*arguments, **env):
            url = ["--elasticsearch", elasticsearch_url]
            return CliRunner().invoke(
                app, ["indices", *arguments, *url], env={"COLUMNS": "160", **env}
            )

        return call

    @pytest.fixture
    def days(self, filled):
        """Days to keep so that the first two of three are due now."""
        first = datetime(2025, 11, 24, tzinfo=UTC)
        return str((datetime.now(UTC) - first - timedelta(days=1)).days)

    async def test_lists_what_there_is(self, call, filled):
        done = await asyncio.to_thread(call, "list", "--index", f"{filled},{filled}-x")
        assert done.exit_code == 0, done.output
        for name in (*DAYS, "undated", "x-2025.11"):
            assert f"{filled}-{name} " in done.output
        assert "before" not in done.output
        assert done.output.splitlines()[-1].startswith("5 indices, 9 documents, ")

    async def test_prunes_nothing_unless_told_to(self, call, filled, names, days):
        before = names(filled)
        for arguments in ([], ["--dry-run"]):
            done = await asyncio.to_thread(
                call, "prune", "--keep-days", days, "--index", filled, *arguments,
                RENDEZVOUS_PRUNE_APPLY="true", RENDEZVOUS_KEEP_DAYS="1",
            )  # fmt: skip
            assert done.exit_code == 0, done.output
            last = done.output.splitlines()[-1]
            assert last.startswith("would delete 2 of 4 indices, 3 documents, ")
            assert last.endswith("nothing was deleted, which takes --apply")
            assert names(filled) == before

    async def test_prunes_when_told_to(self, call, filled, names, days):
        before = set(names(filled))
        done = await asyncio.to_thread(
            call, "prune", "--keep-days", days, "--index", filled, "--apply"
        )
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[-1].startswith("deleted 2 of 4 indices, 3 documents, ")
        assert set(names(filled)) == before - set(DAYS[:2])

    async def test_takes_the_indices_from_the_environment(self, call, filled):
        done = await asyncio.to_thread(call, "list", RENDEZVOUS_INDEX=f"{filled}-x")
        assert done.output.splitlines()[-1].startswith("1 indices, 4 documents, ")

    async def test_says_so_where_there_is_nothing(self, call, index):
        done = await asyncio.to_thread(call, "list", "--index", index)
        assert done.output == "0 indices, 0 documents, 0 bytes\n"

    @pytest.mark.parametrize("days", ["0", "-5", "40000", "x"])
    async def test_needs_a_number_of_days(self, call, index, days):
        done = await asyncio.to_thread(
            call, "prune", "--index", index, "--apply", "--keep-days", days
        )
        assert done.exit_code == 2
