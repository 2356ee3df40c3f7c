"""Run one model's worker: ``python -m services.model``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendezvous.errors import BundleError, RendezvousError
from rendezvous.model.bundle import load
from rendezvous.model.worker import Post, Worker
from rendezvous.service import run_service
from rendezvous.settings import ModelSettings, read

if TYPE_CHECKING:
    from rendezvous.bus.port import Bus
    from rendezvous.model.port import Model
    from rendezvous.service import Run
    from rendezvous.telemetry import Metrics


def main() -> None:
    settings = read(ModelSettings)
    model = load(settings.bundle, allow_joblib=settings.allow_joblib)
    check(model, settings)

    def build(bus: Bus, metrics: Metrics) -> Run:
        post = Post(
            endpoint=settings.endpoint,
            topic=settings.topic or settings.endpoint,
            models_topic=settings.models_topic,
            role=settings.role,
            instance=settings.instance,
            reply_topics=settings.reply_topics,
            max_batch=settings.max_batch,
            alone=True,
        )
        return Worker(model, bus, post, metrics).run

    run_service(f"model {model.manifest.name}", settings, build)


def check(model: Model, settings: ModelSettings) -> None:
    """Refuse a bundle that is not the model which the environment names. Raises: BundleError."""
    expected = {"name": settings.model_name, "version": settings.model_version}
    for key, value in expected.items():
        found = getattr(model.manifest, key)
        if value is not None and value != found:
            raise BundleError(f"{settings.bundle} holds model {key} {found}, not {value}")


if __name__ == "__main__":
    try:
        main()
    except RendezvousError as error:
        raise SystemExit(f"model: {error}") from error
