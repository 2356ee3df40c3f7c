"""What PromQL expressions name: metrics, and labels of metrics."""

import promql_parser as promql
from prometheus_client.metrics import MetricWrapperBase

from rendezvous.telemetry import Metrics

OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
OF_THE_TARGET = {"job", "instance"}
_SAMPLES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def declared() -> dict[str, set[str]]:
    """Return the labels of every sample of the project's /metrics pages, by its name."""
    families = set(Metrics().registry._names_to_collectors.values())
    assert all(isinstance(family, MetricWrapperBase) for family in families)
    return {
        f"{family._name}{suffix}": {*family._labelnames}
        | ({"le"} if suffix == "_bucket" else set())
        for family in families
        for suffix in _SAMPLES[family._type]
    }


def nodes(expression: str | promql.Expr) -> list[promql.Expr]:
    """Return every part of an expression."""
    found: list[promql.Expr] = []
    parsed = promql.parse(expression) if isinstance(expression, str) else expression
    promql.walk(parsed, found.append)
    return found


def selectors(expression: str | promql.Expr) -> list[promql.VectorSelector]:
    """Return every selector of an expression, such as ``up{job="score"}``."""
    return [node for node in nodes(expression) if isinstance(node, promql.VectorSelector)]


def metrics(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    return {selector.name for selector in selectors(expression)}


def faults(expression: str, known: dict[str, set[str]]) -> list[str]:
    """Return what ``expression`` names and neither ``known`` nor Prometheus itself has."""
    known = known | OF_PROMETHEUS
    wrong = [f"no metric {name}" for name in metrics(expression) - known.keys()]
    for selector in selectors(expression):
        wrong += _unknown(selector, {m.name for m in selector.matchers.matchers}, known)
    for node in nodes(expression):
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            for selector in selectors(node.expr):
                wrong += _unknown(selector, set(node.modifier.labels), known)
    return sorted(wrong)


def _unknown(
    selector: promql.VectorSelector, labels: set[str], known: dict[str, set[str]]
) -> list[str]:
    unknown = labels - known.get(selector.name, labels) - OF_THE_TARGET
    return [f"no label {label} of {selector.name}" for label in unknown]
