"""Pulsar and Elasticsearch from their images, by testcontainers: the library runs on both."""

import uuid

import pytest
from elasticsearch import Elasticsearch
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from rendezvous.bus.factory import connect
from rendezvous.sink.elastic import ElasticSink
from rendezvous.sink.port import Record

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pulsar(images):
    ready = HttpWaitStrategy(8080, "/admin/v2/brokers/health").for_status_code(200)
    container = (
        DockerContainer(images["PULSAR_IMAGE"])
        .with_command("bin/pulsar standalone -nfw -nss")
        .with_env("PULSAR_MEM", "-Xms256m -Xmx512m -XX:MaxDirectMemorySize=512m")
        .with_exposed_ports(6650, 8080)
        .waiting_for(ready.with_startup_timeout(120))
    )
    with container as started:
        yield f"pulsar://127.0.0.1:{started.get_exposed_port(6650)}"


@pytest.fixture(scope="module")
def elasticsearch(images):
    ready = HttpWaitStrategy(9200, "/_cluster/health").for_status_code(200)
    container = (
        DockerContainer(images["ELASTICSEARCH_IMAGE"])
        .with_env("discovery.type", "single-node")
        .with_env("xpack.security.enabled", "false")
        .with_env("ES_JAVA_OPTS", "-Xms512m -Xmx512m")
        .with_exposed_ports(9200)
        .waiting_for(ready.with_startup_timeout(120))
    )
    with container as started:
        yield f"http://127.0.0.1:{started.get_exposed_port(9200)}"


async def test_a_message_goes_over_the_image_of_pulsar(pulsar):
    bus = connect(pulsar)
    topic = f"t-{uuid.uuid4().hex[:8]}"
    try:
        async with bus.subscribe([topic], "group", start="earliest") as deliveries:
            await bus.publish(topic, b"hello", key="k", properties={"p": "v"})
            [delivery] = await deliveries.receive(10, 30)
            await deliveries.ack([delivery])
    finally:
        await bus.aclose()
    assert (delivery.payload, delivery.key, delivery.properties["p"]) == (b"hello", "k", "v")


async def test_a_record_goes_into_the_image_of_elasticsearch(elasticsearch):
    sink = ElasticSink(elasticsearch, "decoy-log")
    record = Record("r", "decoy", b'{"messageId":"r","timestamp":1795426181.5}')
    try:
        assert await sink.write([record]) == []
        assert await sink.write([record]) == []
    finally:
        await sink.aclose()
    with Elasticsearch(elasticsearch) as client:
        client.indices.refresh(index="decoy-log")
        assert client.count(index="decoy-log")["count"] == 1
