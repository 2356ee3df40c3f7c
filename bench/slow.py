"""A worker whose model takes 20 ms for each row: ``python -m bench.slow``.

One of them answers 50 requests a second; so it shows whether replicas share the load.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rendezvous.model.bundle import load
from rendezvous.model.port import Model, Prediction
from rendezvous.model.worker import Post, Worker
from rendezvous.service import run_service
from rendezvous.settings import ModelSettings, read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rendezvous.bus.port import Bus
    from rendezvous.model.manifest import Manifest
    from rendezvous.service import Run
    from rendezvous.telemetry import Metrics

SECONDS_A_ROW = 0.02
ENDPOINT = "slow"


@dataclass(frozen=True, slots=True)
class SlowModel(Model):
    """Another model, made slow."""

    model: Model

    @property
    def manifest(self) -> Manifest:
        """The other's."""
        return self.model.manifest

    def predict(self, matrix: NDArray[np.float32]) -> Prediction:
        """Score, and take one's time."""
        time.sleep(SECONDS_A_ROW * len(matrix))
        return self.model.predict(matrix)


def main() -> None:
    """Serve until SIGTERM."""
    settings = read(ModelSettings)

    def build(bus: Bus, metrics: Metrics) -> Run:
        post = Post(endpoint=ENDPOINT, topic=ENDPOINT, instance=settings.instance, max_batch=1)
        return Worker(SlowModel(load(settings.bundle)), bus, post, metrics).run

    run_service("slow model", settings, build)


if __name__ == "__main__":
    main()
