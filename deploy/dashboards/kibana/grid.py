"""Dashboards: panels on a grid of 48 columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from deploy.dashboards.kibana.columns import kql
from deploy.dashboards.kibana.lens import lens
from deploy.dashboards.kibana.objects import (
    Reference,
    SavedObject,
    reference,
    saved,
    search_id,
    text,
)
from deploy.dashboards.kibana.panels import Listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.dashboards.kibana.panels import Dashboard, Panel, Row

COLUMNS = 48


def dashboard(board: Dashboard) -> SavedObject:
    """Return a dashboard with its panels inside of it."""
    placed = list(_placed(board.rows))
    options = {
        "useMargins": True,
        "syncColors": True,  # a model has the same colour everywhere
        "syncCursor": True,
        "syncTooltips": False,
        "hidePanelTitles": False,
    }
    attributes = {
        "title": board.title,
        "description": board.description,
        "panelsJSON": text([panel for panel, _ in placed]),
        "optionsJSON": text(options),
        "kibanaSavedObjectMeta": {"searchSourceJSON": text({"query": kql(""), "filter": []})},
        "timeRestore": True,
        "timeFrom": "now-1h",
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": 30_000},
        "version": 1,
    }
    references = [each for _, needed in placed for each in needed]
    return saved("dashboard", board.id, attributes, references)


def _placed(rows: tuple[Row, ...]) -> Iterator[tuple[dict[str, Any], list[Reference]]]:
    """Yield each panel at its place, with what it refers to."""
    top = 0
    for row in rows:
        width = COLUMNS // len(row.panels)
        for number, panel in enumerate(row.panels):
            yield _panel(panel, {"x": number * width, "y": top, "w": width, "h": row.height})
        top += row.height


def _panel(panel: Panel, place: dict[str, int]) -> tuple[dict[str, Any], list[Reference]]:
    key = re.sub(r"[^a-z0-9]+", "-", panel.title.lower()).strip("-")
    config: dict[str, Any] = {
        "title": panel.title,
        "description": panel.description,
        "hidePanelTitles": False,
        "enhancements": {},
    }
    whole = {
        "type": "search" if isinstance(panel, Listing) else "lens",
        "gridData": {**place, "i": key},
        "panelIndex": key,
        "embeddableConfig": config,
    }
    if isinstance(panel, Listing):
        name = f"panel_{key}"
        whole["panelRefName"] = name
        return whole, [reference("search", search_id(panel.search), f"{key}:{name}")]
    attributes = lens(panel)
    config["attributes"] = attributes
    # the dashboard repeats what its panels refer to, so that it is exported with them
    needed = [{**each, "name": f"{key}:{each['name']}"} for each in attributes["references"]]
    return whole, needed
