"""``rendezvous run``: put a whole system together in one process."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
from contextlib import asynccontextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rendezvous.bus.factory import connect
from rendezvous.bus.topics import family
from rendezvous.configuration import load
from rendezvous.contract import REPLY_TOPICS
from rendezvous.deadletter import dead_letter_topic
from rendezvous.errors import BundleError, ConfigurationError
from rendezvous.frontend.server import make_rendezvous, serve
from rendezvous.local import Local
from rendezvous.model.bundle import load as load_bundle
from rendezvous.model.decoy import Decoy
from rendezvous.model.worker import Post, Worker
from rendezvous.service import Fuse, spare_collections
from rendezvous.settings import FrontEndSettings, read
from rendezvous.sink.files import FileSink
from rendezvous.sink.runner import Connector
from rendezvous.telemetry import Metrics, configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from rendezvous.bus.port import Bus
    from rendezvous.configuration import Configuration

log = logging.getLogger(__name__)


def run_everything(
    *,
    bus: str,
    elasticsearch: str | None,
    config: Path,
    archive_dir: Path,
    host: str | None,
    port: int | None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        RendezvousError: The configuration, a bundle, the bus or an archive is not as it must be.
        SystemExit: With 1 when a part failed for good.
    """
    settings = read(FrontEndSettings)
    given = {"host": host, "port": port}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    if settings.workers > 1:
        raise ConfigurationError("RENDEZVOUS_WORKERS: `rendezvous run` is one process")
    configure_logging(settings.log_level, settings.log_format)
    configuration = load(config)
    train_missing(configuration)
    connected = connect(bus)
    metrics = Metrics()
    local = assemble(configuration, connected, metrics, settings, archive_dir, elasticsearch)
    fuse = Fuse()
    local.failed = fuse.blow

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        try:
            async with local.running():
                typer.echo(banner(configuration, local, settings))
                yield
        finally:
            await connected.aclose()

    spare_collections()
    serve(configuration, local.rendezvous, settings, metrics, running)
    if fuse.blown:
        raise SystemExit(1)


def train_missing(configuration: Configuration) -> None:
    """Train each configured model whose bundle is not there.

    Raises:
        BundleError: It can not be trained, or the configuration does not say how.
    """
    for endpoint in configuration.endpoints.values():
        for model in endpoint.models:
            bundle = configuration.directory / model.bundle
            if (bundle / "manifest.json").exists():
                continue
            if model.train is None:
                raise BundleError(f"{bundle} is not there, and the configuration has no `train`")
            if PathFinder.find_spec("training", [str(Path.cwd()), *sys.path]) is None:
                raise BundleError(f"{bundle} is not there; train it in the project's folder")
            typer.echo(f"training {model.bundle} ...")
            models_dir = str(bundle.parent.parent)
            command = [sys.executable, "-m", "training", *shlex.split(model.train)]
            command += ["--models-dir", models_dir]
            if subprocess.run(command, check=False).returncode:  # noqa: S603 - the operator's own configuration
                raise BundleError(f"training {model.bundle} failed: {shlex.join(command)}")


def assemble(
    configuration: Configuration,
    bus: Bus,
    metrics: Metrics,
    settings: FrontEndSettings,
    archive_dir: Path,
    elasticsearch: str | None,
) -> Local:
    """Put the parts together; nothing is started. Raises: BundleError, ConfigurationError."""
    topics = configuration.topics
    scores = settings.reply_topic or topics.score
    inputs = [configuration.topic(name) for name in configuration.endpoints]
    folders = {"logs": [topics.decoy], "scores": [scores, family(scores)]}
    indices = {"decoy-log": folders["logs"], "score-log": folders["scores"]}
    if topics.decisions:
        folders["decisions"] = indices["decision-log"] = [topics.decisions]
    letters = [*inputs, *(topic for topic, *_ in folders.values())]
    indices["dead-letter-log"] = [dead_letter_topic(topic) for topic in letters]
    return Local(
        bus=bus,
        rendezvous=make_rendezvous(configuration, bus, settings, metrics),
        workers=_workers(configuration, bus, metrics, settings),
        decoy=Decoy(bus, inputs, topics.decoy, observer=metrics),
        connectors=[
            *_file_connectors(folders, bus, metrics, archive_dir),
            *_elastic_connectors(indices, bus, metrics, elasticsearch),
        ],
    )


def _workers(
    configuration: Configuration, bus: Bus, metrics: Metrics, settings: FrontEndSettings
) -> list[Worker]:
    address = re.escape(settings.return_address(configuration.topics.score, 1))
    workers = []
    for name, endpoint in configuration.endpoints.items():
        fields = {field.name for field in endpoint.input}
        for config in endpoint.models:
            path = configuration.directory / config.bundle
            model = load_bundle(path, allow_joblib=config.allow_joblib)
            lacking = [field.name for field in model.manifest.input if field.name not in fields]
            if lacking:
                raise ConfigurationError(f"{path} needs {', '.join(lacking)}, not in {name}.input")
            post = Post(
                endpoint=name,
                topic=configuration.topic(name),
                models_topic=configuration.topics.models,
                role=config.role,
                instance=settings.instance,
                reply_topics=f"{address}|{REPLY_TOPICS}",
            )
            workers.append(Worker(model, bus, post, metrics))
    return workers


def _file_connectors(
    folders: Mapping[str, Sequence[str]], bus: Bus, metrics: Metrics, archive_dir: Path
) -> list[Connector]:
    """Return a connector to each folder, for its topics."""
    return [
        Connector(
            bus, FileSink(archive_dir / name), topics, group="log-connector", observer=metrics
        )
        for name, topics in folders.items()
    ]


def _elastic_connectors(
    indices: Mapping[str, Sequence[str]], bus: Bus, metrics: Metrics, url: str | None
) -> list[Connector]:
    """Return a connector to each index, for its topics; none without a URL."""
    if url is None:
        return []
    from rendezvous.sink.elastic import ElasticSink  # noqa: PLC0415 - needs the `elastic` extra

    return [
        Connector(
            bus, ElasticSink(url, index), topics, group="elasticsearch-connector", observer=metrics
        )
        for index, topics in indices.items()
    ]


def banner(configuration: Configuration, local: Local, settings: FrontEndSettings) -> str:
    """Return what a person needs to know: where it serves, what, and one request to try."""
    url = f"http://{settings.host}:{settings.port}"
    name = configuration.default_endpoint
    lines = [f"rendezvous is ready at {url}  (docs: {url}/docs, metrics: {url}/metrics)"]
    for endpoint in configuration.endpoints:
        models = ", ".join(
            f"{w.name} version {w.model.manifest.version} ({w.post.role})"
            for w in local.workers
            if w.post.endpoint == endpoint
        )
        lines.append(f"  {endpoint}: {models or 'no models'}")
    example = configuration.endpoints[name].example
    if example:
        body = json.dumps(example)
        lines.append(f"try: curl -s {url}/predict -H 'Content-Type: application/json' -d '{body}'")
    return "\n".join(lines)
