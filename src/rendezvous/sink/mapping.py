"""How Elasticsearch is to understand the records: the template of each index.

Whoever adds a field to a record adds it here and raises ``version``. An index that is there already
does not heed a new version of its template: it is given the fields that it lacks, see `lacking`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rendezvous.contract import NESTING
from rendezvous.sink.dated import patterns

if TYPE_CHECKING:
    from rendezvous.sink.dated import Period

_KEYWORD = {"type": "keyword"}
_LABEL = {"type": "keyword", "ignore_above": 1024}
"""A keyword that a longer text does not fail on: it is kept, and not searchable."""

_TEXT = {"type": "text"}
_BOOLEAN = {"type": "boolean", "ignore_malformed": True}
_INTEGER = {"type": "long", "ignore_malformed": True}
_NUMBER = {"type": "double", "ignore_malformed": True}

_REQUEST = {
    # A `date` would keep milliseconds only, and many requests come in each.
    "timestamp": {
        "type": "date_nanos",
        "format": "strict_date_optional_time_nanos||epoch_millis",
    },
    "messageId": _KEYWORD,
    "endpoint": _KEYWORD,
    "scoreTopic": _KEYWORD,
    "deadline": {"type": "date", "format": "epoch_millis", "ignore_malformed": True},
    "schemaVersion": _INTEGER,
    "modelInput": {"type": "flattened", "ignore_above": 1024, "depth_limit": NESTING},
}
_SCORE = {
    "result": {
        "properties": {
            "modelName": _KEYWORD,
            "result": _NUMBER,
            "probabilities": _NUMBER,
        }
    },
    "error": {"properties": {"type": _KEYWORD, "message": _TEXT}},
    "provenance": {
        "properties": {
            "model": {
                "properties": {
                    "modelName": _KEYWORD,
                    "modelVersion": _INTEGER,
                    "role": _KEYWORD,
                    "digest": _KEYWORD,
                    "elapsedTimeAfterRequest": _NUMBER,
                    "evaluatedMs": _NUMBER,
                    "queueMs": _NUMBER,
                }
            }
        }
    },
}
_CHOICE = {
    "model": _LABEL,
    "version": _INTEGER,
    "role": _LABEL,
    "result": _NUMBER,
    "probabilities": _NUMBER,
}
_DECISION = {
    "deadlineMs": _NUMBER,
    "decidedMs": _NUMBER,
    "closedMs": _NUMBER,
    "policy": {"properties": {"name": _LABEL}},
    "outcome": _LABEL,
    "reason": _LABEL,
    "answeredBy": _LABEL,
    "agreeing": _LABEL,
    "disagreeing": _LABEL,
    "lateModels": _LABEL,
    "failedModels": _LABEL,
    "missingModels": _LABEL,
    "chosen": {"properties": _CHOICE},
    "scores": {
        "properties": {
            **_CHOICE,
            "afterMs": _NUMBER,
            "evaluatedMs": _NUMBER,
            "queueMs": _NUMBER,
            "valid": _BOOLEAN,
            "late": _BOOLEAN,
            "agrees": _BOOLEAN,
            "error": {"properties": {"type": _LABEL, "message": _TEXT}},
        }
    },
}
_DEAD_LETTER = {
    "deadLetter": {
        "properties": {
            "topic": _LABEL,
            "reason": _LABEL,
            "tries": _INTEGER,
            "payload": _TEXT,
        }
    },
}

# Elasticsearch brings templates of priority 100 for names such as `logs-a-b`, and refuses two of
# one priority whose patterns overlap. So the template of one index goes before any of dated ones,
# and of these the one with the longer name: of names of one length, no pattern overlaps.
_ONE_INDEX = 500
_DATED_INDICES = 200

TEMPLATE: dict[str, Any] = {
    "version": 2,
    "_meta": {
        "description": "requests, scores, decisions and dead letters of the rendezvous server"
    },
    "template": {
        "settings": {"index.auto_expand_replicas": "0-1"},
        "mappings": {
            "dynamic": False,
            "properties": {**_REQUEST, **_SCORE, **_DECISION, **_DEAD_LETTER},
        },
    },
}

PROPERTIES: dict[str, Any] = TEMPLATE["template"]["mappings"]["properties"]
"""Every field that can be searched."""


def template(index: str, period: Period) -> dict[str, Any]:
    """Return the template of an index, or of its dated ones, with its name and patterns.

    Dated indices get ``index`` for an alias. No index can have the name of their template, so that
    no other index's template has it.
    """
    if period == "none":
        return {"name": index, "index_patterns": [index], "priority": _ONE_INDEX, **TEMPLATE}
    return {
        **TEMPLATE,
        "name": f"{index}@dated",
        "index_patterns": patterns(index),
        "priority": _DATED_INDICES + len(index),
        "template": {**TEMPLATE["template"], "aliases": {index: {}}},
    }


def lacking(present: dict[str, Any], wanted: dict[str, Any] = PROPERTIES) -> dict[str, Any]:
    """Return the ``wanted`` properties of a mapping that are not ``present``, at any depth.

    What is present stays as it is, though its type be another.
    """
    missing: dict[str, Any] = {}
    for name, field in wanted.items():
        if name not in present:
            missing[name] = field
        elif "properties" in field and "properties" in present[name]:
            inner = lacking(present[name]["properties"], field["properties"])
            if inner:
                missing[name] = {"properties": inner}
    return missing
