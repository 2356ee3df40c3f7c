"""The expressions of the dashboard, as Prometheus is asked them."""

import json

from deploy.dashboards.grafana.__main__ import FILE


def queries() -> list[str]:
    """Return every expression of the dashboard."""
    panels = json.loads(FILE.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def ready(expression: str) -> str:
    """Return an expression with Grafana's variables filled in, as for a view of a minute."""
    filled = {"$__rate_interval": "20s", "$__range": "1m", "$endpoint": ".*"}
    for variable, value in filled.items():
        expression = expression.replace(variable, value)
    return expression
