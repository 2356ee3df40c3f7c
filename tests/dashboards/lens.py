"""What Lens asks Elasticsearch for a panel, read from the saved objects, and what it makes of it.

Only what the dashboards use. Two things differ from Lens: an interval is given where Lens chooses
one, and the values of two fields are asked for one inside of the other (Lens asks for both at once,
with an aggregation that the server core of the tests lacks): the buckets are the same.
"""

import json
from dataclasses import dataclass

from tests.dashboards.kql import fields as kql_fields
from tests.dashboards.kql import query

RECORDS = "___records___"
INTERVAL = "1s"
BUCKETS = {"date_histogram", "terms"}
AFTERWARDS = {"formula", "math"}
"""Operations that Kibana works out itself, of other columns."""

VIEW = "indexpattern-datasource-layer-"


@dataclass(frozen=True)
class Layer:
    """A layer of a panel: its data view's id, its columns and the query over all of it."""

    panel: str
    name: str
    view: str
    columns: dict
    kql: str

    @property
    def buckets(self):
        """The columns that divide, the outermost first."""
        return {k: c for k, c in self.columns.items() if c["operationType"] in BUCKETS}

    @property
    def asked(self):
        """The columns that Elasticsearch works out."""
        apart = BUCKETS | AFTERWARDS
        return {k: c for k, c in self.columns.items() if c["operationType"] not in apart}

    @property
    def fields(self):
        """Every field that is used, and whether values of it are aggregated."""
        used = {}
        for column in self.columns.values():
            params = column.get("params", {})
            named = [column.get("sourceField", RECORDS), *params.get("secondaryFields", [])]
            used |= dict.fromkeys(set(named) - {RECORDS}, True)
        kqls = [c["filter"]["query"] for c in self.columns.values() if "filter" in c]
        for field in {f for text in [self.kql, *kqls] for f in kql_fields(text)}:
            used.setdefault(field, False)
        return used

    def search(self):
        """Return the body of the search."""
        aggs = {key: _measure(column) for key, column in self.asked.items()}
        for key, column in reversed(self.buckets.items()):
            aggs = {key: {**_bucket(column), "aggs": aggs}}
            second = column["params"].get("secondaryFields")
            if second:
                inner = {"terms": {"field": second[0], "size": 100}, "aggs": aggs[key]["aggs"]}
                aggs[key]["aggs"] = {_second(key): inner}
        return {"size": 0, "query": query(self.kql), "aggs": aggs, "track_total_hits": True}

    def rows(self, answer):
        """Return a row for each bucket, each with the values of all columns by their ids."""
        keys = []
        for key, column in self.buckets.items():
            keys += [key, *([_second(key)] if column["params"].get("secondaryFields") else [])]
        rows = _rows(answer["aggregations"], keys, answer["hits"]["total"]["value"])
        return [self._worked_out(row) for row in rows]

    def _worked_out(self, row):
        values = {key: _value(row[key], column) for key, column in self.asked.items()}
        for key, column in self.columns.items():
            if column["operationType"] == "math":
                values[key] = _math(column["params"]["tinymathAst"], values)
        for key, column in self.columns.items():
            if column["operationType"] == "formula":
                values[key] = values[column["references"][0]]
        return {**row, **values}


def layers(saved_dashboard):
    """Return every layer of every Lens panel of a dashboard."""
    found = []
    for panel in json.loads(saved_dashboard["attributes"]["panelsJSON"]):
        attributes = panel["embeddableConfig"].get("attributes")
        if attributes is None:
            continue
        views = {each["name"]: each["id"] for each in attributes["references"]}
        state = attributes["state"]
        for name, layer in state["datasourceStates"]["formBased"]["layers"].items():
            columns = {key: layer["columns"][key] for key in layer["columnOrder"]}
            kql, view = state["query"]["query"], views[f"{VIEW}{name}"]
            found.append(Layer(attributes["title"], name, view, columns, kql))
    return found


def _second(key):
    return f"{key} second"


def _bucket(column):
    field, params = column["sourceField"], column["params"]
    if column["operationType"] == "date_histogram":
        return {"date_histogram": {"field": field, "fixed_interval": INTERVAL, "min_doc_count": 1}}
    order = params["orderBy"]
    # of a count there is no aggregation to order by but the bucket's own
    by = "_count" if order["type"] == "column" else "_key"
    terms = {"field": field, "size": params["size"], "order": {by: params["orderDirection"]}}
    return {"terms": {**terms, **({"missing": "(missing)"} if params["missingBucket"] else {})}}


def _measure(column):
    kind = column["operationType"]
    if kind == "count":
        return {"filter": query(column.get("filter", {}).get("query", ""))}
    if kind == "percentile":
        percents = [column["params"]["percentile"]]
        return {"percentiles": {"field": column["sourceField"], "percents": percents}}
    raise NotImplementedError(kind)


def _value(answer, column):
    if column["operationType"] == "count":
        return answer["doc_count"]
    [value] = answer["values"].values()
    return value


def _rows(aggregations, keys, count):
    if not keys:
        return [{**aggregations, "count": count}]
    first, *others = keys
    return [
        {first: bucket["key"], **row}
        for bucket in aggregations[first]["buckets"]
        for row in _rows(bucket, others, bucket["doc_count"])
    ]


def _math(node, values):
    if isinstance(node, str):
        return values[node]
    if not isinstance(node, dict):
        return node
    if node["name"] != "divide":
        raise NotImplementedError(node["name"])
    above, below = (_math(each, values) for each in node["args"])
    return above / below if below else None
