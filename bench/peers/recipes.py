"""How each peer is started and asked, and where its answer has the label."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.load import PRODUCTION, QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROWS = tuple((list(q.body.values()), q.labels[PRODUCTION]) for q in QUESTIONS)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One peer. In commands and variables ``{...}`` stands for what differs from run to run.

    These are ``{folder}``, that of its files here; ``{scratch}``, an empty one, where it runs;
    ``{port}``, where it is asked; ``{second}`` and ``{third}``, further free ports.

    Attributes:
        path: HTTP path.
        body: Makes the request's body, to be written as JSON, of a row of four numbers.
        mark: Occurs in the answer that has a label, which is put for ``%d``, and in no other.
        command: The server, of its own environment.
        before: What to run to its end before; empty: nothing.
        env: Variables beside those of the environment.
    """

    path: str
    body: Callable[[list[float]], object]
    mark: str
    command: tuple[str, ...]
    before: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    def bodies(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the request's body and the answer's mark for each input of the load."""
        return tuple(
            (json.dumps(self.body(row)).encode(), (self.mark % label).encode())
            for row, label in ROWS
        )


RECIPES = {
    "bentoml": Recipe(
        path="/predict",
        body=lambda row: {"rows": [row]},
        mark="[%d]",
        command=("bentoml", "serve", "service:Iris", "--working-dir", "{folder}",
                 "--host", "127.0.0.1", "--port", "{port}"),
        env={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    "litserve": Recipe(
        path="/predict",
        body=lambda row: {"input": row},
        mark='"output":%d',
        command=("python", "{folder}/service.py", "{port}"),
    ),
    "mlserver": Recipe(
        path="/v2/models/iris/infer",
        body=lambda row: {
            "inputs": [{"name": "rows", "shape": [1, 4], "datatype": "FP64", "data": row}]
        },
        mark='"data":[%d]',
        command=("mlserver", "start", "{folder}"),
        before=("python", "{folder}/train.py", "{scratch}/model.joblib"),
        env={
            "MLSERVER_MODEL_URI": "{scratch}/model.joblib",
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{second}",
        },
    ),
    "ray": Recipe(
        path="/predict",
        body=lambda row: {"row": row},
        mark='"label":%d',
        command=("python", "{folder}/service.py", "{port}"),
        env={
            "RAY_USAGE_STATS_ENABLED": "0",
            # or below `uv run` it would ship its folder to its workers, and have uv start them
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            # so it binds to the loopback interface; the name is older than that use
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": "{folder}/haproxy",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{scratch}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": "{scratch}/haproxy.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{scratch}",
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{scratch}/server-state",
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_METRICS_PORT": "{second}",
            "RAY_SERVE_HAPROXY_STATS_PORT": "{third}",
        },
    ),
}  # fmt: skip
