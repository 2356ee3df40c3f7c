"""Saved objects: data views, searches and dashboards as Kibana imports them.

An object says with which version of its type it was written; Kibana brings it up to its own, and
refuses what is newer than itself. These versions are older than 9.2 on purpose: they are the last
before which nothing changed that is used here.
"""

from __future__ import annotations

import json
from typing import Any

Reference = dict[str, str]
SavedObject = dict[str, Any]

CORE_VERSION = "8.8.0"
TYPE_VERSIONS = {"index-pattern": "8.0.0", "search": "10.5.0", "dashboard": "10.2.0"}
SOURCE = "kibanaSavedObjectMeta.searchSourceJSON.index"


def view_id(name: str) -> str:
    """Return the id of a data view."""
    return f"rendezvous-{name}"


def search_id(name: str) -> str:
    """Return the id of a saved search."""
    return f"rendezvous-search-{name}"


def reference(kind: str, target: str, name: str) -> Reference:
    """Return what an object needs another for: that one's type and id, under a name."""
    return {"type": kind, "id": target, "name": name}


def saved(
    kind: str, key: str, attributes: dict[str, Any], references: list[Reference]
) -> SavedObject:
    """Return an object with what Kibana wants to know of each."""
    return {
        "type": kind,
        "id": key,
        "attributes": attributes,
        "references": references,
        "managed": False,
        "coreMigrationVersion": CORE_VERSION,
        "typeMigrationVersion": TYPE_VERSIONS[kind],
    }


def text(value: Any) -> str:
    """Return JSON on one line, as it stands in the file and inside of objects."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
