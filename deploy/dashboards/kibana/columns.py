"""The columns of a Lens layer: how Kibana writes down a bucket, a number, or a formula."""

from __future__ import annotations

from typing import Any

from deploy.dashboards.kibana.panels import Count, Measure, Percentile, Share, Time, Values

Column = dict[str, Any]
Columns = dict[str, Column]

RECORDS = "___records___"
"""The name Kibana has for the document itself, which is what is counted."""

TIME_FIELD = "timestamp"


def bucket(key: str, along: Time | Values, order: Column) -> Columns:
    """Return the column of buckets; ``order`` says which come first, if there are too many."""
    if isinstance(along, Time):
        return {
            key: {
                "label": TIME_FIELD,
                "dataType": "date",
                "operationType": "date_histogram",
                "sourceField": TIME_FIELD,
                "isBucketed": True,
                "scale": "interval",
                "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
            }
        }
    counted = order["type"] == "column"
    params: dict[str, Any] = {
        "size": along.size,
        "orderBy": order,
        "orderDirection": "desc" if counted else "asc",
        "otherBucket": counted and not along.then,
        "missingBucket": along.absent,
        "parentFormat": {"id": "multi_terms" if along.then else "terms"},
        "include": [],
        "exclude": [],
        "includeIsRegex": False,
        "excludeIsRegex": False,
    }
    if along.then:
        params["secondaryFields"] = [along.then]
    return {
        key: {
            "label": along.label,
            "customLabel": True,
            "dataType": "number" if along.number else "string",
            "operationType": "terms",
            "sourceField": along.field,
            "isBucketed": True,
            "scale": "ordinal",
            "params": params,
        }
    }


def order_by(measures: dict[str, Measure]) -> Column:
    """Return how buckets are ordered: by the first count, else by their own names.

    Elasticsearch can not order by a formula, which Kibana works out afterwards.
    """
    counts = [key for key, measure in measures.items() if isinstance(measure, Count)]
    if counts:
        return {"type": "column", "columnId": counts[0]}
    return {"type": "alphabetical", "fallback": True}


def measured(key: str, measure: Measure) -> Columns:
    """Return the columns of a measure, the one that is shown under ``key``."""
    match measure:
        case Count():
            return {key: _count(measure)}
        case Percentile():
            return {key: _percentile(measure)}
        case Share():
            return _share(key, measure)


def _count(measure: Count) -> Column:
    column = {
        "label": measure.label,
        "customLabel": True,
        "dataType": "number",
        "operationType": "count",
        "isBucketed": False,
        "scale": "ratio",
        "sourceField": RECORDS,
        "params": {"emptyAsNull": False},
    }
    if measure.kql:
        column["filter"] = kql(measure.kql)
    if measure.per_second:
        column["timeScale"] = "s"
    return column


def _percentile(measure: Percentile) -> Column:
    return {
        "label": measure.label,
        "customLabel": True,
        "dataType": "number",
        "operationType": "percentile",
        "isBucketed": False,
        "scale": "ratio",
        "sourceField": measure.field,
        "params": {
            "percentile": measure.percent,
            "format": {"id": "number", "params": {"decimals": 1, "suffix": " ms"}},
        },
    }


def _share(key: str, measure: Share) -> Columns:
    """Return a formula, and the columns that Kibana itself makes of it: ``<key>X0``, ...

    They are kept with the formula, and are what is asked of Elasticsearch.
    """
    text = f"{_counted(measure.part)} / {_counted(measure.whole)}"
    part, whole, quotient = (f"{key}X{number}" for number in range(3))
    inner = f"Part of {measure.label}"
    math = {
        "label": inner,
        "customLabel": True,
        "dataType": "number",
        "operationType": "math",
        "isBucketed": False,
        "scale": "ratio",
        "params": {
            "tinymathAst": {
                "type": "function",
                "name": "divide",
                "args": [part, whole],
                "location": {"min": 0, "max": len(text)},
                "text": text,
            }
        },
        "references": [part, whole],
    }
    formula = {
        "label": measure.label,
        "customLabel": True,
        "dataType": "number",
        "operationType": "formula",
        "isBucketed": False,
        "scale": "ratio",
        "params": {
            "formula": text,
            "isFormulaBroken": False,
            "format": {"id": "percent", "params": {"decimals": 2}},
        },
        "references": [quotient],
    }
    return {
        key: formula,
        part: _count(Count(inner, measure.part)),
        whole: _count(Count(inner, measure.whole)),
        quotient: math,
    }


def _counted(query: str) -> str:
    return f"count(kql='{query}')" if query else "count()"


def kql(query: str) -> dict[str, str]:
    """Return a query as Kibana keeps it."""
    return {"query": query, "language": "kuery"}
