"""Ray Serve: one replica, behind Ray's HAProxy."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import ray
from ray import serve
from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

if TYPE_CHECKING:
    from starlette.requests import Request

OBJECT_STORE_BYTES = 100 * 2**20  # little: no request goes through it, and /dev/shm may be small
REQUESTS_UNDER_WAY = 1000  # more than the load has; Ray's default of 5 would queue in front


@serve.deployment(num_replicas=1, max_ongoing_requests=REQUESTS_UNDER_WAY)
class Iris:
    """A decision tree on Iris."""

    def __init__(self) -> None:
        # Calls between deployments, of which there are none: no setting keeps this server of the
        # replica off the other interfaces.
        replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(
            server, "127.0.0.1:0"
        )
        rows, labels = load_iris(return_X_y=True)
        self.model = DecisionTreeClassifier(random_state=0).fit(rows, labels)

    async def __call__(self, request: Request) -> dict[str, int]:
        """Return the label of the request's row."""
        row = (await request.json())["row"]
        return {"label": int(self.model.predict([row])[0])}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ray.init(
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    serve.run(
        Iris.bind(),  # type: ignore[attr-defined]  # made by the decorator
        route_prefix="/predict",
    )
    signal.pause()
