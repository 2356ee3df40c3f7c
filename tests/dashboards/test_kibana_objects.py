"""The file that Kibana imports keeps to what Kibana asks of saved objects, and names our fields."""

import json
import re
import runpy
from collections import Counter
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from deploy.dashboards.kibana import export
from deploy.dashboards.kibana.export import FILE, ndjson
from rendezvous.sink.mapping import PROPERTIES
from tests.dashboards.kql import fields as kql_fields
from tests.dashboards.kql import query
from tests.dashboards.lens import layers

ROOT = Path(__file__).resolve().parent.parent.parent
LINES = FILE.read_text(encoding="utf-8").splitlines()
OBJECTS = [json.loads(line) for line in LINES]
COLUMNS = 48
NEWEST = {
    "9.2": {"index-pattern": (8, 0, 0), "search": (10, 5, 0), "dashboard": (10, 3, 0)},
}
"""By the version of Kibana: a version that each type of object has reached there at least."""

CORE = (8, 8, 0)
AGGREGATABLE = {"keyword", "double", "long", "date_nanos", "boolean"}


def of(kind):
    return [pytest.param(each, id=each["id"]) for each in OBJECTS if each["type"] == kind]


EVERY = [pytest.param(each, id=f"{each['type']} {each['id']}") for each in OBJECTS]
DASHBOARDS = of("dashboard")
LAYERS = [
    pytest.param(layer, id=f"{layer.panel}: {layer.name}")
    for board in OBJECTS
    if board["type"] == "dashboard"
    for layer in layers(board)
]


def panels(board):
    return json.loads(board["attributes"]["panelsJSON"])


def charts(board):
    """Return the attributes of each panel that is a chart or a number."""
    inner = (panel["embeddableConfig"].get("attributes") for panel in panels(board))
    return [each for each in inner if each]


def version(text):
    return tuple(int(part) for part in text.split("."))


def mapped(fields=PROPERTIES, before=""):
    """Return the type of every field of the index template, by its whole name."""
    types = {}
    for name, field in fields.items():
        if "properties" in field:
            types |= mapped(field["properties"], f"{before}{name}.")
        else:
            types[f"{before}{name}"] = field["type"]
    return types


TYPES = mapped()


class TestTheFile:
    def test_is_what_the_descriptions_say(self):
        assert FILE.read_text(encoding="utf-8") == ndjson(), "python -m deploy.dashboards.kibana"

    def test_is_written_by_its_command(self, tmp_path, monkeypatch):
        monkeypatch.setattr(export, "FILE", tmp_path / "rendezvous.ndjson")
        runpy.run_module("deploy.dashboards.kibana", run_name="__main__")
        assert export.FILE.read_bytes() == FILE.read_bytes()

    def test_is_the_same_when_it_is_read_and_written(self):
        again = [json.dumps(o, ensure_ascii=False, separators=(",", ":")) for o in OBJECTS]
        assert again == LINES
        assert FILE.read_bytes().endswith(b"}\n")

    def test_has_the_data_views_the_searches_and_the_dashboards(self):
        assert Counter(o["type"] for o in OBJECTS) == {
            "index-pattern": 4, "search": 5, "dashboard": 2,
        }  # fmt: skip

    def test_has_what_is_referred_to_before_what_refers_to_it(self):
        seen = set()
        for each in OBJECTS:
            assert {(r["type"], r["id"]) for r in each["references"]} <= seen
            seen.add((each["type"], each["id"]))

    def test_has_each_id_once(self):
        assert max(Counter((o["type"], o["id"]) for o in OBJECTS).values()) == 1


@pytest.mark.parametrize("each", EVERY)
class TestEveryObject:
    def test_is_complete(self, each):
        assert {"type", "id", "attributes", "references"} <= set(each)
        assert re.fullmatch(r"rendezvous-[a-z0-9-]+", each["id"])
        assert each["attributes"]["title"]

    def test_is_no_newer_than_the_kibana_that_is_pinned(self, each):
        compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
        [pinned] = re.findall(r"kibana:([0-9.]+)", compose["services"]["kibana"]["image"])
        newest = NEWEST[".".join(pinned.split(".")[:2])]
        assert version(each["typeMigrationVersion"]) <= newest[each["type"]]
        assert version(each["coreMigrationVersion"]) <= CORE

    def test_refers_under_each_name_to_one_object_of_the_file(self, each):
        names = [reference["name"] for reference in each["references"]]
        assert len(names) == len(set(names))
        there = {(o["type"], o["id"]) for o in OBJECTS}
        assert {(r["type"], r["id"]) for r in each["references"]} <= there

    def test_has_json_wherever_text_is_json(self, each):
        attributes = {**each["attributes"], **each["attributes"].get("kibanaSavedObjectMeta", {})}
        texts = [
            value
            for name, value in attributes.items()
            if name.endswith("JSON") or (isinstance(value, str) and value[:1] in "{[")
        ]
        for value in texts:
            again = json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":"))
            assert again == value

    def test_has_no_script(self, each):
        assert re.findall(r"(?<![a-z])script", json.dumps(each), re.IGNORECASE) == []
        assert each["attributes"].get("runtimeFieldMap", "{}") == "{}"


@pytest.mark.parametrize("board", DASHBOARDS)
class TestEveryDashboard:
    def test_has_its_panels_side_by_side_within_the_columns(self, board):
        places = [panel["gridData"] for panel in panels(board)]
        for place in places:
            assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
            assert place["y"] >= 0
            assert place["h"] > 0
        for one, other in combinations(places, 2):
            apart = (
                one["x"] + one["w"] <= other["x"]
                or other["x"] + other["w"] <= one["x"]
                or one["y"] + one["h"] <= other["y"]
                or other["y"] + other["h"] <= one["y"]
            )
            assert apart, (one, other)

    def test_has_panels_with_an_id_and_a_title_each_of_its_own(self, board):
        ids = [panel["panelIndex"] for panel in panels(board)]
        assert len(ids) == len(set(ids))
        assert ids == [panel["gridData"]["i"] for panel in panels(board)]
        titles = [panel["embeddableConfig"]["title"] for panel in panels(board)]
        assert all(titles)
        assert len(titles) == len(set(titles))

    def test_refers_to_what_its_panels_show_and_to_nothing_else(self, board):
        wanted = []
        for panel in panels(board):
            if "panelRefName" in panel:
                assert panel["type"] == "search"
                wanted.append(f"{panel['panelIndex']}:{panel['panelRefName']}")
            else:
                inner = panel["embeddableConfig"]["attributes"]["references"]
                wanted += [f"{panel['panelIndex']}:{each['name']}" for each in inner]
        assert [reference["name"] for reference in board["references"]] == wanted

    def test_has_a_data_view_for_each_layer(self, board):
        for chart in charts(board):
            sources = chart["state"]["datasourceStates"]["formBased"]["layers"]
            names = [reference["name"] for reference in chart["references"]]
            assert names == [f"indexpattern-datasource-layer-{layer}" for layer in sources]

    def test_has_one_layer_in_each_chart(self, board):
        for chart in charts(board):  # bars of two could be stacked into each other
            assert len(chart["state"]["datasourceStates"]["formBased"]["layers"]) == 1

    def test_draws_columns_that_are_there(self, board):
        for chart in charts(board):
            sources = chart["state"]["datasourceStates"]["formBased"]["layers"]
            drawn = chart["state"]["visualization"]
            for layer in drawn.get("layers", [drawn]):
                columns = sources[layer["layerId"]]["columns"]
                named = [
                    value
                    for name, value in layer.items()
                    if name.endswith("Accessor") or name == "accessors"
                ]
                flat = [
                    k for value in named for k in ([value] if isinstance(value, str) else value)
                ]
                assert flat
                assert set(flat) <= set(columns)
                shown = {k for k, c in columns.items() if "X" not in k}
                assert shown == set(flat), "a column that nobody sees"


@pytest.mark.parametrize("layer", LAYERS)
class TestEveryLayer:
    def test_uses_fields_of_the_index_template(self, layer):
        assert set(layer.fields) <= set(TYPES)

    def test_aggregates_fields_that_can_be(self, layer):
        for field, aggregated in layer.fields.items():
            assert not aggregated or TYPES[field] in AGGREGATABLE, field

    def test_says_which_fields_are_numbers(self, layer):
        for column in layer.buckets.values():
            if column["operationType"] == "terms":
                number = TYPES[column["sourceField"]] in {"double", "long"}
                assert column["dataType"] == ("number" if number else "string")

    def test_divides_before_it_measures(self, layer):
        bucketed = [column["isBucketed"] for column in layer.columns.values()]
        assert bucketed == sorted(bucketed, reverse=True)

    def test_has_the_parts_of_each_formula_as_kibana_names_them(self, layer):
        formulas = {k: c for k, c in layer.columns.items() if c["operationType"] == "formula"}
        for key, column in formulas.items():
            managed = [other for other in layer.columns if other.startswith(key) and other != key]
            assert managed == [f"{key}X{number}" for number in range(len(managed))]
            [math] = column["references"]
            assert math == managed[-1]
            ast = layer.columns[math]["params"]["tinymathAst"]
            assert ast["text"] == column["params"]["formula"]
            assert ast["location"] == {"min": 0, "max": len(ast["text"])}
            assert ast["args"] == layer.columns[math]["references"] == managed[:-1]
            assert column["params"]["formula"] == " / ".join(
                counted(layer.columns[part]) for part in managed[:-1]
            )

    def test_orders_buckets_by_a_column_that_elasticsearch_has(self, layer):
        for column in layer.buckets.values():
            order = column["params"].get("orderBy", {})
            if order.get("type") == "column":
                assert layer.columns[order["columnId"]]["operationType"] == "count"


def test_the_panels_use_fields_of_every_kind_of_record():
    used = {field for param in LAYERS for field in param.values[0].fields}
    assert {"timestamp", "answeredBy", "result.result", "deadLetter.topic"} <= used


def counted(column):
    """Return the formula of a part."""
    text = column.get("filter", {}).get("query")
    return f"count(kql='{text}')" if text else "count()"


def test_no_column_of_a_panel_has_the_id_of_another_layers():
    for board in (each for each in OBJECTS if each["type"] == "dashboard"):
        names = Counter((layer.panel, key) for layer in layers(board) for key in layer.columns)
        assert max(names.values()) == 1


@pytest.mark.parametrize("search", of("search"))
class TestEverySearch:
    def test_shows_fields_of_the_index_template(self, search):
        assert set(search["attributes"]["columns"]) <= set(TYPES)
        assert [field for field, _ in search["attributes"]["sort"]] == ["timestamp"]

    def test_asks_for_fields_of_the_index_template(self, search):
        source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert kql_fields(source["query"]["query"]) <= set(TYPES)
        assert query(source["query"]["query"])

    def test_names_its_data_view(self, search):
        source = json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        assert [r["name"] for r in search["references"]] == [source["indexRefName"]]


@pytest.mark.parametrize("view", of("index-pattern"))
class TestEveryDataView:
    def test_has_the_time_field_of_the_index_template(self, view):
        assert TYPES[view["attributes"]["timeFieldName"]] == "date_nanos"

    def test_formats_fields_of_the_index_template(self, view):
        assert set(json.loads(view["attributes"]["fieldFormatMap"])) <= set(TYPES)


@pytest.mark.parametrize("name", ["decoy-log", "score-log", "decision-log"])
def test_a_message_id_leads_to_the_decision_about_the_request(name):
    [view] = [o for o in OBJECTS if o["attributes"]["title"] == f"{name}*"]
    link = json.loads(view["attributes"]["fieldFormatMap"])["messageId"]
    assert link["id"] == "url"
    url = unquote(link["params"]["urlTemplate"].replace("{{value}}", "4f2a"))
    assert url.startswith("../app/discover#/?")
    [target] = re.findall(r"_a=\(index:([a-z-]+),", url)
    assert [o["attributes"]["title"] for o in OBJECTS if o["id"] == target] == ["decision-log*"]
    assert """query:(language:kuery,query:'messageId:"4f2a"')""" in url
    [columns] = re.findall(r"columns:!\(([^)]*)\)", url)
    assert set(columns.split(",")) <= set(TYPES)
