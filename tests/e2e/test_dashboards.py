"""Every expression of the dashboard and the alerts, in a real Prometheus that reads a real run."""

import asyncio
import subprocess
import time
from dataclasses import dataclass

import httpx
import pytest
import yaml

from deploy.servers import prometheus
from deploy.servers.errors import ServerUnavailable
from rendezvous.testing.processes import Process, answers, free_port, running
from tests.dashboards.expressions import queries, ready
from tests.dashboards.promql import metrics
from tests.dashboards.test_prometheus import ALERTS, CONFIGURATION, FOLDER
from tests.e2e.clients import Seen, steadily
from tests.e2e.conftest import ROOT
from tests.servers import give_up

SECONDS = 8.0
NO_SERIES = {
    "pulsar_in_messages_total": "everything is in one process: there is no Pulsar",
    "pulsar_storage_backlog_quota_limit": "as above",
    "pulsar_storage_backlog_size": "as above",
    "pulsar_subscription_back_log": "as above",
    "rendezvous_deadline_misses_total": "counted from the first one on, and there is none",
    "rendezvous_decisions_lost_total": "likewise",
    "rendezvous_dlq_messages_total": "likewise",
    "rendezvous_models_ejected_total": "likewise",
    "rendezvous_sink_retries_total": "likewise",
    "rendezvous_unreadable_messages_total": "likewise",
    "ALERTS": "likewise: none fires within a minute",
}


@dataclass
class Asked:
    """A Prometheus that has read a busy system for some seconds."""

    url: str

    def rows(self, expression: str) -> list[dict]:
        """Return what an expression comes to now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return answer["data"]["result"]

    def alerts(self) -> dict[str, dict]:
        """Return the alerts as they were last evaluated."""
        groups = httpx.get(f"{self.url}/api/v1/rules").json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}


@pytest.fixture(scope="module")
def system(project):
    port = free_port()
    arguments = ["-m", "rendezvous.cli", "run", "--port", str(port)]
    arguments += ["--config", str(project / "rendezvous.yaml")]
    arguments += ["--archive-dir", str(project / "archive")]
    process = Process("run", arguments, project, ROOT)
    with running([process]):
        process.wait_ready(f"http://127.0.0.1:{port}/readyz")
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def asked(system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prometheus")
    here = CONFIGURATION | {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FOLDER / name) for name in CONFIGURATION["rule_files"]],
        "scrape_configs": [{"job_name": "score", "static_configs": [{"targets": [system]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(here), encoding="utf-8")
    try:
        program = prometheus.program("prometheus")
    except ServerUnavailable as error:
        give_up(str(error))
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (folder / "output.log").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: answers(f"http://{address}/-/ready"), folder / "output.log")
        asyncio.run(load(f"http://{system}"))
        yield Asked(f"http://{address}")
    finally:
        process.terminate()
        process.wait(20)


def wait_until(true, log, seconds=30.0):
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, log.read_text(encoding="utf-8")
        time.sleep(0.1)


async def load(url):
    """Send requests for some seconds."""
    seen, stop = Seen(), asyncio.Event()
    asking = asyncio.create_task(steadily(url, stop, seen, rate=50))
    await asyncio.sleep(SECONDS)
    stop.set()
    await asking
    assert seen.bad == []
    assert len(seen.answers) > SECONDS * 10


def test_the_page_is_of_a_type_that_prometheus_3_takes(system):
    page = httpx.get(f"http://{system}/metrics")
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("expression", queries())
def test_an_expression_of_the_dashboard_has_rows(asked, expression):
    rows = asked.rows(ready(expression))
    if not metrics(ready(expression)) & NO_SERIES.keys():
        assert rows != []


@pytest.mark.parametrize("metric", NO_SERIES)
def test_what_is_excepted_is_not_there(asked, metric):
    assert asked.rows(f'{metric}{{alertstate!="pending"}}') == []


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_evaluated_and_does_not_fire_while_all_is_well(asked, alert):
    evaluated = asked.alerts()[alert]
    assert evaluated["health"] == "ok", evaluated["lastError"]
    rows = asked.rows(ALERTS[alert]["expr"])
    if alert != "TargetDown":  # the other services are missing here, and it says so
        assert rows == []


@pytest.mark.parametrize("alert", ALERTS)
def test_what_an_alert_looks_at_is_there(asked, alert):
    for metric in metrics(ALERTS[alert]["expr"]) - NO_SERIES.keys():
        assert asked.rows(metric) != []


def test_services_that_are_no_target_at_all_are_missed(asked):
    missed = {row["metric"]["job"] for row in asked.rows(ALERTS["TargetDown"]["expr"])}
    assert {"pulsar", "log_collector", "dead_letter_elasticsearch_connector"} <= missed
    assert "score" not in missed
