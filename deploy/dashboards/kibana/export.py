"""The file that Kibana imports: one saved object a line."""

from __future__ import annotations

from pathlib import Path

from deploy.dashboards.kibana.grid import dashboard
from deploy.dashboards.kibana.models import MODELS
from deploy.dashboards.kibana.objects import text
from deploy.dashboards.kibana.traffic import TRAFFIC
from deploy.dashboards.kibana.views import SEARCHES, VIEWS, data_view, saved_search

FILE = Path(__file__).with_name("rendezvous.ndjson")


def ndjson() -> str:
    """Return the whole file: what is referred to before what refers to it."""
    objects = [
        *map(data_view, VIEWS),
        *map(saved_search, SEARCHES),
        *map(dashboard, (TRAFFIC, MODELS)),
    ]
    return "".join(f"{text(each)}\n" for each in objects)
