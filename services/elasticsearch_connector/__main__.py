"""Run the connector to Elasticsearch: ``python -m services.elasticsearch_connector``."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from rendezvous.errors import RendezvousError
from rendezvous.service import run_service, together
from rendezvous.settings import ElasticsearchConnectorSettings, read
from rendezvous.sink.elastic import ElasticSink
from rendezvous.sink.runner import Connector

if TYPE_CHECKING:
    from rendezvous.bus.port import Bus
    from rendezvous.service import Run
    from rendezvous.telemetry import Metrics


def main() -> None:
    settings = read(ElasticsearchConnectorSettings)
    api_key = settings.api_key.get_secret_value() if settings.api_key else None
    topics_of: dict[str, list[str]] = {}
    for topic, index in zip(settings.topics, cycle(settings.index), strict=False):
        topics_of.setdefault(index, []).append(topic)

    def build(bus: Bus, metrics: Metrics) -> Run:
        return together(
            [
                Connector(
                    bus,
                    ElasticSink(
                        settings.elasticsearch,
                        index,
                        api_key=api_key,
                        period=settings.index_period,
                    ),
                    topics,
                    group=settings.group or "elasticsearch-connector",
                    threshold=settings.threshold,
                    timeout=settings.timeout,
                    observer=metrics,
                ).run
                for index, topics in topics_of.items()
            ]
        )

    run_service("Elasticsearch connector", settings, build)


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"Elasticsearch connector: {error}") from error
