"""The Grafana dashboard: as its generator makes it, and about metrics that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.models import units

from deploy.dashboards.grafana import __main__ as command
from deploy.dashboards.grafana import dashboard
from deploy.dashboards.grafana.panels import DATASOURCE
from tests.dashboards.expressions import queries, ready
from tests.dashboards.promql import declared, faults
from tests.dashboards.test_prometheus import CONFIGURATION, PULSARS

FOLDER = Path(command.FILE).parent
DASHBOARD = json.loads(command.FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def provisioned(kind):
    """Return the only entry of the only file of a provisioning folder."""
    [file] = (FOLDER / "provisioning" / kind).iterdir()
    read = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert read["apiVersion"] == 1
    [entry] = read["providers" if kind == "dashboards" else kind]
    return entry


def test_the_file_is_what_the_generator_makes():
    made = command.FILE.read_text(encoding="utf-8") == dashboard.text()
    assert made, "write it anew: uv run python -m deploy.dashboards.grafana"


def test_the_command_writes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FILE", tmp_path / "rendezvous.json")
    command.main()
    assert (tmp_path / "rendezvous.json").read_text(encoding="utf-8") == dashboard.text()


def test_it_has_its_rows_and_a_name_that_stays():
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Models", "Archive", "Health"]
    assert DASHBOARD["uid"] == "rendezvous"
    assert DASHBOARD["schemaVersion"] == 41  # Grafana 12.0's


@pytest.mark.parametrize("expression", queries())
def test_an_expression_names_only_metrics_and_labels_that_exist(expression):
    assert faults(ready(expression), declared() | PULSARS) == []


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_legend_names_only_labels_that_its_expression_leaves(panel):
    for target in panel["targets"]:
        left = set(re.findall(r"\w+", " ".join(re.findall(r"by \((.*?)\)", target["expr"]))))
        left |= {"job", "instance"} if target["expr"] == "up" else set()
        assert set(re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))) <= left


def test_every_panel_asks_the_datasource_that_is_provisioned():
    source = provisioned("datasources")
    assert source["type"] == DATASOURCE.type_val
    assert source["uid"] == DATASOURCE.uid
    asked = [panel["datasource"] for panel in PANELS]
    asked += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    asked += [variable["datasource"] for variable in DASHBOARD["templating"]["list"]]
    assert {(each["type"], each["uid"]) for each in asked} == {(source["type"], source["uid"])}


def test_rates_are_taken_over_as_many_scrapes_as_prometheus_makes():
    interval = CONFIGURATION["global"]["scrape_interval"]
    assert provisioned("datasources")["jsonData"]["timeInterval"] == interval


def test_the_dashboard_is_loaded_from_a_folder_and_stays_as_its_file_says():
    provider = provisioned("dashboards")
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    assert provider["allowUiUpdates"] is False


def test_panels_have_numbers_of_their_own_and_do_not_overlap():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_every_panel_says_what_it_shows_in_a_unit_that_grafana_has():
    known = {value for value in vars(units).values() if isinstance(value, str)}
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"].get("unit", "short") in known, panel["title"]
