"""Prometheus's configuration and alerts: valid, about metrics that exist, tested and documented."""

import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from deploy.servers import prometheus
from deploy.servers.errors import ServerUnavailable
from deploy.servers.pulsar import Pulsar
from tests.dashboards.promql import declared, faults, selectors
from tests.servers import give_up

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "deploy" / "dashboards" / "prometheus"
CONFIGURATION = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
RULES = yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))
CASES = yaml.safe_load((FOLDER / "rules.test.yml").read_text(encoding="utf-8"))["tests"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
MODELS = {"lr_model", "dt_model", "price_model"}
SERVICES = MODELS | {
    "score", "pulsar", "decoy_model", "log_collector", "score_collector", "decision_collector",
    "log_elasticsearch_connector", "score_elasticsearch_connector",
    "decision_elasticsearch_connector", "dead_letter_elasticsearch_connector",
}  # fmt: skip
PULSARS = {
    "pulsar_storage_backlog_size": {"cluster", "namespace", "topic"},
    "pulsar_storage_backlog_quota_limit": {"cluster", "namespace", "topic"},
    "pulsar_subscription_back_log": {"cluster", "namespace", "topic", "subscription"},
    "pulsar_in_messages_total": {"cluster", "namespace", "topic"},
}


@pytest.fixture(scope="module")
def promtool():
    try:
        return prometheus.program("promtool")
    except ServerUnavailable as error:
        give_up(str(error))


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules.test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_finds_no_fault(promtool, command):
    done = subprocess.run(
        [promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


def addresses(job):
    """Yield every host and port that a scrape job asks."""
    for static in job.get("static_configs", ()):
        yield from (tuple(target.split(":")) for target in static["targets"])
    for dns in job.get("dns_sd_configs", ()):
        yield from ((name, str(dns["port"])) for name in dns["names"])


def test_every_service_is_read_at_its_port():
    read = [pair for job in CONFIGURATION["scrape_configs"] for pair in addresses(job)]
    ports = dict.fromkeys(SERVICES, "9100") | {"score": "8000", "pulsar": "8080"}
    assert sorted(read) == sorted(ports.items())


def test_every_replica_of_a_service_is_found():
    by_name = [job for job in CONFIGURATION["scrape_configs"] if "dns_sd_configs" in job]
    found = {name for job in by_name for name, _ in addresses(job)}
    assert found == SERVICES - {"score", "pulsar"}
    for job in by_name:
        assert {dns["type"] for dns in job["dns_sd_configs"]} == {"A"}
        [relabel] = job["relabel_configs"]
        assert relabel == {"source_labels": ["__meta_dns_name"], "target_label": "job"}


def test_a_service_that_is_found_by_its_name_alone_is_a_job_of_that_name():
    for job in CONFIGURATION["scrape_configs"]:
        if "static_configs" in job:
            assert {name for name, _ in addresses(job)} == {job["job_name"]}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_names_only_metrics_and_labels_that_exist(alert):
    assert faults(ALERTS[alert]["expr"], declared() | PULSARS) == []


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_it_means(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{alert.lower()}"


def test_every_alert_has_a_section_that_says_what_to_do():
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    assert [section.splitlines()[0] for section in sections] != []
    assert {section.splitlines()[0] for section in sections} == set(ALERTS)
    for section in sections:
        name, _, text = section.partition("\n")
        assert f"`{ALERTS[name]['labels']['severity']}`. " in text, name
        assert "- **First look:** " in text, name
        assert "- **Do:** " in text, name


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_seen_to_fire_and_seen_not_to(alert):
    expected = [
        bool(each["exp_alerts"])
        for case in CASES
        for each in case["alert_rule_test"]
        if each["alertname"] == alert
    ]
    assert any(expected)
    assert not all(expected)


def test_every_service_is_missed_when_it_has_no_replica_save_for_models():
    missed = {
        matcher.value
        for selector in selectors(ALERTS["TargetDown"]["expr"])
        for matcher in selector.matchers.matchers
        if matcher.name == "job"
    }
    assert missed == SERVICES - MODELS


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("nope", ["no metric nope"]),
        ('up{nope="1"}', ["no label nope of up"]),
        ("sum by (nope) (rate(up[1m]))", ["no label nope of up"]),
        ("sum by (job) (up) > on (job) up", []),
    ],
)
def test_a_name_that_nothing_has_is_noticed(expression, expected):
    assert faults(expression, {}) == expected


@pytest.mark.pulsar
def test_pulsar_has_the_metrics_that_are_asked_of_it(pulsar_server, tmp_path):
    import pulsar

    quiet = pulsar.FileLogger(pulsar.LoggerLevel.Error, str(tmp_path / "client.log"))
    client = pulsar.Client(pulsar_server.url, logger=quiet)
    topic = "persistent://public/default/of-metrics"
    try:
        client.subscribe(topic, "reads-nothing")
        client.create_producer(topic).send(b"x")
    finally:
        client.close()
    page = httpx.get(f"{pulsar_server.http_url}/metrics/")
    assert page.headers["content-type"].startswith("text/plain")  # Prometheus 3 refuses others
    for metric, labels in PULSARS.items():
        [sample] = re.findall(
            rf'^{metric}{{(.*topic="{topic}".*)}} (\S+)$', page.text, re.MULTILINE
        )
        assert set(re.findall(r"(\w+)=", sample[0])) == labels
        assert float(sample[1]) > 0, metric


def test_pulsars_own_page_is_asked_for_where_it_is():
    [job] = [job for job in CONFIGURATION["scrape_configs"] if job["job_name"] == Pulsar.name]
    assert job["metrics_path"] == "/metrics/"
