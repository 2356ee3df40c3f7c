"""What the tests do to the system in containers, and ask of it."""

import json
import os
import signal
import time
from dataclasses import dataclass

import httpx
from elasticsearch import Elasticsearch

from deploy.stack.compose import Compose
from deploy.stack.waiting import wait_ready
from rendezvous.sink.archive import read, verify

OURS = (
    "lr_model", "dt_model", "price_model", "decoy_model", "score", "log_collector",
    "score_collector", "decision_collector", "log_elasticsearch_connector",
    "score_elasticsearch_connector", "decision_elasticsearch_connector",
    "dead_letter_elasticsearch_connector",
)  # fmt: skip
ARCHIVES = {"logs": "log_collector", "scores": "score_collector", "decisions": "decision_collector"}


@dataclass
class Stack:
    """The system.

    Attributes:
        compose: Its project.
        printed: What `make up` printed.
        ready_seconds: From the start of the containers until all were ready.
        up_seconds: What `make up` took.
    """

    compose: Compose
    printed: str
    ready_seconds: float
    up_seconds: float

    @property
    def url(self):
        return f"http://127.0.0.1:{os.environ['SCORE_PORT']}"

    def elastic(self):
        return Elasticsearch(f"http://127.0.0.1:{os.environ['ELASTICSEARCH_PORT']}")

    def names(self, service):
        return [each.name for each in self.compose.containers() if each.service == service]

    def inspect(self, service):
        return json.loads(self.compose.engine.must("inspect", self.names(service)[0]))[0]

    def docker(self, *arguments):
        return self.compose.engine.must(*arguments)

    def logs(self, name):
        """Return what a container has printed, on both outputs."""
        printed = self.compose.engine.run("logs", name)
        return printed.stdout + printed.stderr

    def kill(self, service):
        """Kill it as `docker kill` does; the engine then leaves it as it is."""
        for name in self.names(service):
            self.docker("kill", name)

    def crash(self, service):
        """End its process from outside, as a lack of memory would; the engine starts it again."""
        for name in self.names(service):
            os.kill(int(self.docker("inspect", "--format", "{{.State.Pid}}", name)), signal.SIGKILL)

    def start(self, service):
        for name in self.names(service):
            self.docker("start", name)

    def restore(self):
        """Bring back whatever was taken away, one container of each service."""
        self.compose.output("up", "--detach", "--no-build")
        self.wait_ready()

    def wait_ready(self, seconds=120):
        wait_ready(self.compose.containers, lambda: True, seconds)

    def answers(self):
        """Return whether a request is answered now."""
        body = {"sepalLength": 9, "sepalWidth": 10, "petalLength": 11, "petalWidth": 12}
        try:
            return httpx.post(f"{self.url}/predict", json=body, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def archived(self, name, folder):
        """Return the records of an archive, after proving it whole."""
        for _ in range(10):
            target = folder / f"{name}-{time.monotonic_ns()}"
            self.docker("cp", f"{self.names(ARCHIVES[name])[0]}:/{name}", str(target))
            findings = list(verify(target))
            if not findings:
                break  # else a file may have been closed while the folder was copied
            time.sleep(0.2)
        assert findings == []
        return [json.loads(line) for line in read(target)]

    def indexed(self, index):
        """Return every document of an index, by its id; none of one that is not there yet."""
        with self.elastic() as client:
            if not client.indices.exists(index=index):
                return {}
            client.indices.refresh(index=index)
            found, after = {}, None
            while True:
                page = client.search(
                    index=index, size=5000, sort=[{"timestamp": "asc"}, {"_doc": "asc"}],
                    search_after=after,
                )["hits"]["hits"]  # fmt: skip
                found |= {hit["_id"]: hit["_source"] for hit in page}
                if len(page) < 5000:
                    return found
                after = page[-1]["sort"]


def until(condition, seconds=60.0):
    """Wait until ``condition`` is true; return its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.2)
    return value


def score_id(message_id, model, version):
    return f"{message_id}:{model}:{version}"
