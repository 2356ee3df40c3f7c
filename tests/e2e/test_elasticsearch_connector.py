"""One connector to Elasticsearch for several topics, on a real Pulsar and Elasticsearch."""

import time
import uuid
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from rendezvous.bus.factory import connect
from rendezvous.testing.processes import Process, running
from rendezvous.testing.sink_suite import TIMESTAMP, request, score

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = [pytest.mark.pulsar, pytest.mark.elasticsearch, pytest.mark.timeout(300)]


@pytest.fixture
def name():
    """What the topics, indices and the group of one test begin with."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def elastic(elasticsearch_url, name):
    with Elasticsearch(elasticsearch_url) as client:
        yield client
        for index in client.cat.indices(index=f"{name}*", format="json").body:
            client.indices.delete(index=index["index"])
        client.options(ignore_status=404).indices.delete_index_template(name=f"{name}*")


@pytest.fixture
def connector(tmp_path, pulsar_url, elasticsearch_url, name):
    """A connector of both topics, by the indices it is to fill."""

    def make(*indices, **more):
        env = {
            "RENDEZVOUS_BUS": pulsar_url,
            "RENDEZVOUS_ELASTICSEARCH": elasticsearch_url,
            "RENDEZVOUS_GROUP": name,
            "RENDEZVOUS_TIMEOUT": "0.2",
            "RENDEZVOUS_TOPICS": f"{name}-decoy,{name}-score",
            "RENDEZVOUS_INDEX": ",".join(f"{name}-{index}" for index in indices),
            **more,
        }
        return Process("elastic", ["-m", "services.elasticsearch_connector"], tmp_path, ROOT, env)

    return make


async def publish(pulsar_url, name, decoys, scores):
    bus = connect(pulsar_url)
    try:
        for record in decoys:
            await bus.publish(f"{name}-decoy", record.payload)
        for record in scores:
            await bus.publish(f"{name}-score", record.payload)
    finally:
        await bus.aclose()


def holds(client, index, ids, seconds=60.0):
    """Wait until an index holds as many documents as there are ids; return whether it is these."""
    end, found = time.monotonic() + seconds, set()
    while len(found) < len(ids) and time.monotonic() < end:
        if client.indices.exists(index=index):
            client.indices.refresh(index=index)
            found = {hit["_id"] for hit in client.search(index=index, size=1000)["hits"]["hits"]}
        time.sleep(0.05)
    return found == ids


async def test_fills_an_index_for_each_topic(pulsar_url, elastic, connector, name):
    decoys = [request(f"r{n}") for n in range(50)]
    scores = [score(f"r{n}", model, 1) for n in range(50) for model in ("dt", "lr")]
    await publish(pulsar_url, name, decoys, scores)

    with running([process := connector("decoy-log", "score-log")]):
        assert holds(elastic, f"{name}-decoy-log", {each.id for each in decoys}), process.log()
        assert holds(elastic, f"{name}-score-log", {each.id for each in scores}), process.log()
        assert process.stop() == 0

    more = request("more")
    await publish(pulsar_url, name, [more], [])
    with running([process := connector("decoy-log", "score-log")]):
        ids = {each.id for each in [*decoys, more]}
        assert holds(elastic, f"{name}-decoy-log", ids), process.log()
        assert holds(elastic, f"{name}-score-log", {each.id for each in scores}), process.log()


async def test_fills_one_index_with_the_scores_of_all_front_ends(
    pulsar_url, elastic, connector, name
):
    topics = f"{name}-decoy,{name}-score,{name}-score-*"
    indices = ("decoy-log", "score-log", "score-log")
    addresses = [f"{name}-score", f"{name}-score-a-1", f"{name}-score-a-2"]
    with running([process := connector(*indices, RENDEZVOUS_TOPICS=topics)]):
        await publish(pulsar_url, name, [request("r")], [])
        bus = connect(pulsar_url)
        for address in addresses:
            await bus.publish(address, score(address, "dt", 1).payload)
        await bus.aclose()
        ids = {f"{address}:dt:1" for address in addresses}
        assert holds(elastic, f"{name}-score-log", ids), process.log()
        assert holds(elastic, f"{name}-decoy-log", {"r"}), process.log()


async def test_keeps_a_record_of_each_topic_though_they_have_the_same_id(
    pulsar_url, elastic, connector, name
):
    same = [request("same")]
    await publish(pulsar_url, name, same, same)

    with running([process := connector("decoy-log", "score-log")]):
        assert holds(elastic, f"{name}-decoy-log", {"same"}), process.log()
        assert holds(elastic, f"{name}-score-log", {"same"}), process.log()


async def test_fills_one_index_with_all_topics(pulsar_url, elastic, connector, name):
    decoys, scores = [request("a"), request("b")], [score("a", "dt", 1)]
    await publish(pulsar_url, name, decoys, scores)

    with running([process := connector("decoy-log")]):
        assert holds(elastic, f"{name}-decoy-log", {"a", "b", "a:dt:1"}), process.log()


async def test_fills_an_index_for_each_day_of_each_topic(pulsar_url, elastic, connector, name):
    decoys = [request("a"), request("b", timestamp=TIMESTAMP + 86_400.0)]
    scores = [score("a", "dt", 1)]
    await publish(pulsar_url, name, decoys, scores)

    with running([process := connector("decoy-log", "score-log", RENDEZVOUS_INDEX_PERIOD="day")]):
        assert holds(elastic, f"{name}-decoy-log", {"a", "b"}), process.log()
        assert holds(elastic, f"{name}-score-log", {"a:dt:1"}), process.log()
    assert set(elastic.indices.get_mapping(index=f"{name}*")) == {
        f"{name}-decoy-log-2025.11.23",
        f"{name}-decoy-log-2025.11.24",
        f"{name}-score-log-2025.11.23",
    }


async def test_does_not_start_where_the_index_is_there_without_a_period(
    pulsar_url, elastic, connector, name
):
    elastic.indices.create(index=f"{name}-decoy-log", wait_for_active_shards=1)
    with running([process := connector("decoy-log", RENDEZVOUS_INDEX_PERIOD="month")]):
        assert process.running.wait(60) == 1
    assert "set RENDEZVOUS_INDEX_PERIOD to none" in process.log()
