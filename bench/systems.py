"""The systems that are measured: each starts its processes, and stops them at the end."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench.closed import ANY_COPY, BARE, OWN, Exchange
from rendezvous.testing.processes import Process, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.usage import Pids
    from deploy.servers.elasticsearch import Elasticsearch
    from deploy.servers.pulsar import Pulsar

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class System:
    """A system that runs.

    Attributes:
        port: Where it answers.
        pids: Its processes, by the words for them in the report.
        exchanges: What it is asked, and what must be in the answers.
        path: Where it is asked, by ``POST``.
    """

    port: int
    pids: Mapping[str, Pids] = field(default_factory=dict)
    exchanges: Sequence[Exchange] = OWN
    path: str = "/predict"


@dataclass(frozen=True, slots=True)
class Part:
    """A service of ours that a system is made of."""

    name: str
    module: str
    env: Mapping[str, str]


def process(
    name: str, arguments: list[str], logs: Path, env: Mapping[str, str] | None = None
) -> Process:
    """Return a process that runs in the project's folder."""
    return Process(name, arguments, logs, ROOT, env or {})


@contextmanager
def bare(logs: Path) -> Iterator[System]:
    """A bare FastAPI service with one scikit-learn model."""
    port = free_port()
    arguments = ["-m", "uvicorn", "bench.bare:app", "--port", str(port), "--no-access-log"]
    service = process("bare", arguments, logs)
    with running([service]):
        service.wait_ready(f"http://127.0.0.1:{port}/openapi.json")
        yield System(port, {"service": (service.running.pid,)}, BARE)


@contextmanager
def embedded(logs: Path) -> Iterator[System]:
    """Everything in one process on the memory bus: two models, decoy, archive files."""
    port = free_port()
    arguments = ["-m", "rendezvous.cli", "run", "--port", str(port)]
    arguments += ["--archive-dir", str(logs / "archive-embedded")]
    service = process("embedded", arguments, logs)
    with running([service]):
        service.wait_ready(f"http://127.0.0.1:{port}/readyz")
        yield System(port, {"everything": (service.running.pid,)})


@contextmanager
def over_pulsar(
    logs: Path, broker: str, broker_pids: Pids, models: int | None = None
) -> Iterator[System]:
    """Each service a process of its own, over Pulsar: front end, 2 models, decoy, 2 connectors.

    With ``models``, so many instead: copies of the one in production, under names of their own.
    """
    port = free_port()
    config = logs / "rendezvous.yaml"
    config.write_text(_IRIS_ONLY, encoding="utf-8")
    front = {"RENDEZVOUS_PORT": str(port), "RENDEZVOUS_CONFIG": str(config)}
    two = [model("model dt", "dt/1"), model("model lr", "lr/0", RENDEZVOUS_ROLE="canary")]
    parts = [
        *(two if models is None else copies(models, logs)),
        Part("decoy", "services.decoy", {}),
        log_connector("log connector, inputs", "decoy", logs),
        log_connector("log connector, scores", "score", logs),
        Part("front end", "services.front_end", front),
    ]
    with services(parts, broker, logs) as pids:
        exchanges = OWN if models is None else ANY_COPY
        yield System(port, {**pids, "broker": broker_pids}, exchanges)


def model(name: str, bundle: str, **env: str) -> Part:
    """Return the worker of one of the trained models."""
    return Part(name, "services.model", {"RENDEZVOUS_BUNDLE": f"models/{bundle}", **env})


def copies(number: int, logs: Path) -> list[Part]:
    """Return workers of the production model and of copies of it with other names."""
    parts = [model("model 1", "dt/1")]
    for copy in range(2, number + 1):
        bundle = logs / "copies" / f"dt{copy}" / "1"
        shutil.copytree(ROOT / "models" / "dt" / "1", bundle)
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        manifest["name"] = f"dt{copy}"
        (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        parts.append(Part(f"model {copy}", "services.model", {"RENDEZVOUS_BUNDLE": str(bundle)}))
    return parts


def log_connector(name: str, topic: str, logs: Path) -> Part:
    """Return a connector that archives a topic in files."""
    folder = str(logs / f"archive-{topic}")
    return Part(name, "services.log_connector", {**_reads(topic, "log"),
        "RENDEZVOUS_OUTPUT_DIR": folder
    })  # fmt: skip


def elasticsearch_connector(name: str, topic: str, url: str) -> Part:
    """Return a connector that archives a topic in Elasticsearch."""
    return Part(name, "services.elasticsearch_connector", {**_reads(topic, "elasticsearch"),
        "RENDEZVOUS_ELASTICSEARCH": url, "RENDEZVOUS_INDEX": f"{topic}-log"
    })  # fmt: skip


def _reads(topic: str, kind: str) -> dict[str, str]:
    return {"RENDEZVOUS_TOPICS": topic, "RENDEZVOUS_GROUP": f"{kind}-{topic}"}


@contextmanager
def services(parts: Sequence[Part], broker: str, logs: Path) -> Iterator[dict[str, Pids]]:
    """Run services over Pulsar, each ready before the next starts; yield their pids by name."""
    with ExitStack() as stack:
        pids: dict[str, Pids] = {}
        for part in parts:
            service = process(
                part.name.replace(" ", "-"), ["-m", part.module], logs, _env(part, broker)
            )
            stack.enter_context(running([service]))
            service.wait_ready(f"{_pages(service.env)}/readyz")
            pids[part.name] = (service.running.pid,)
        yield pids


def pids(server: Pulsar | Elasticsearch) -> Pids:
    """Return the processes of a server that runs: some start another, which is the server."""
    if server.pid is None:
        raise RuntimeError(f"{server.name} does not run")
    children = psutil.Process(server.pid).children(recursive=True)
    return (server.pid, *(child.pid for child in children))


def _env(part: Part, broker: str) -> dict[str, str]:
    pages = {} if "RENDEZVOUS_PORT" in part.env else {"RENDEZVOUS_METRICS_PORT": str(free_port())}
    return {"RENDEZVOUS_BUS": broker, **pages, **part.env}


def _pages(env: Mapping[str, str]) -> str:
    return f"http://127.0.0.1:{env.get('RENDEZVOUS_METRICS_PORT') or env['RENDEZVOUS_PORT']}"


_IRIS_ONLY = """
endpoints:
  iris:
    input:
      sepalLength: {minimum: -1000, maximum: 1000}
      sepalWidth: {minimum: -1000, maximum: 1000}
      petalLength: {minimum: -1000, maximum: 1000}
      petalWidth: {minimum: -1000, maximum: 1000}
"""
