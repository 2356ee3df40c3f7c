"""LitServe: one process for HTTP and one worker with the model, with its fast queue between."""

from __future__ import annotations

import sys

import litserve
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier


class Iris(litserve.LitAPI):
    """A decision tree on Iris."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - as LitServe calls it
        """Train the model, in the worker."""
        rows, labels = load_iris(return_X_y=True)
        self.model = DecisionTreeClassifier(random_state=0).fit(rows, labels)

    def decode_request(self, request: dict[str, list[float]]) -> list[float]:
        """Take the row from the request."""
        return request["input"]

    def predict(self, row: list[float]) -> int:
        """Return its label."""
        return int(self.model.predict([row])[0])

    def encode_response(self, label: int) -> dict[str, int]:
        """Put the label into the answer."""
        return {"output": label}


if __name__ == "__main__":
    server = litserve.LitServer(Iris(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
