"""The systems that are measured: each starts its processes, is loaded, and stops them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rendezvous.testing.processes import Process, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent


def process(
    name: str, arguments: list[str], logs: Path, env: Mapping[str, str] | None = None
) -> Process:
    """Return a process that runs in the project's folder."""
    return Process(name, arguments, logs, ROOT, env or {})


@contextmanager
def bare(logs: Path) -> Iterator[int]:
    """A bare FastAPI service with one scikit-learn model."""
    port = free_port()
    arguments = ["-m", "uvicorn", "bench.bare:app", "--port", str(port), "--no-access-log"]
    service = process("bare", arguments, logs)
    with running([service]):
        service.wait_ready(f"http://127.0.0.1:{port}/openapi.json")
        yield port


@contextmanager
def embedded(logs: Path) -> Iterator[int]:
    """Everything in one process on the memory bus: two models, decoy, archive files."""
    port = free_port()
    arguments = ["-m", "rendezvous.cli", "run", "--port", str(port)]
    arguments += ["--archive-dir", str(logs / "archive-embedded")]
    service = process("embedded", arguments, logs)
    with running([service]):
        service.wait_ready(f"http://127.0.0.1:{port}/readyz")
        yield port


@contextmanager
def over_pulsar(logs: Path, url: str) -> Iterator[int]:
    """Each service a process of its own, over Pulsar: front end, 2 models, decoy, 2 connectors."""
    port = free_port()
    config = logs / "rendezvous.yaml"
    config.write_text(_IRIS_ONLY, encoding="utf-8")
    env = {"RENDEZVOUS_BUS": url}
    parts: dict[str, tuple[str, dict[str, str]]] = {
        "dt": ("services.model", {"RENDEZVOUS_BUNDLE": "models/dt/1"}),
        "lr": ("services.model", {"RENDEZVOUS_BUNDLE": "models/lr/0", "RENDEZVOUS_ROLE": "canary"}),
        "decoy": ("services.decoy", {}),
        "logs": ("services.log_connector", _archive(logs, "decoy")),
        "scores": ("services.log_connector", _archive(logs, "score")),
    }
    front = {**env, "RENDEZVOUS_PORT": str(port), "RENDEZVOUS_CONFIG": str(config)}
    services = [
        process(name, ["-m", m], logs, {**env, **more}) for name, (m, more) in parts.items()
    ]
    services.append(process("front", ["-m", "services.front_end"], logs, front))
    with running(services):
        services[-1].wait_ready(f"http://127.0.0.1:{port}/readyz")
        yield port


DEADLINE = 0.1


@contextmanager
def unanswered(logs: Path, url: str) -> Iterator[int]:
    """A front end whose endpoint has no model, so that every request meets its deadline."""
    port = free_port()
    config = logs / "unanswered.yaml"
    config.write_text(_IRIS_ONLY.replace("iris:", "nobody:"), encoding="utf-8")
    env = {
        "RENDEZVOUS_BUS": url,
        "RENDEZVOUS_PORT": str(port),
        "RENDEZVOUS_CONFIG": str(config),
        "RENDEZVOUS_REPLY_TOPIC": "score-unanswered",
        "RENDEZVOUS_DEADLINE": str(DEADLINE),
    }
    front = process("unanswered", ["-m", "services.front_end"], logs, env)
    with running([front]):
        front.wait_ready(f"http://127.0.0.1:{port}/healthz")
        yield port


def _archive(logs: Path, topic: str) -> dict[str, str]:
    return {
        "RENDEZVOUS_TOPICS": topic,
        "RENDEZVOUS_GROUP": f"log-{topic}",
        "RENDEZVOUS_OUTPUT_DIR": str(logs / f"archive-{topic}"),
    }


_IRIS_ONLY = """
endpoints:
  iris:
    input:
      sepalLength: {minimum: -1000, maximum: 1000}
      sepalWidth: {minimum: -1000, maximum: 1000}
      petalLength: {minimum: -1000, maximum: 1000}
      petalWidth: {minimum: -1000, maximum: 1000}
"""
