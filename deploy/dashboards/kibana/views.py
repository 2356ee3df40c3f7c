"""Data views and saved searches."""

from __future__ import annotations

from deploy.dashboards.kibana.columns import TIME_FIELD, kql
from deploy.dashboards.kibana.objects import (
    SOURCE,
    SavedObject,
    reference,
    saved,
    search_id,
    text,
    view_id,
)
from deploy.dashboards.kibana.panels import Search, View

REQUESTS, SCORES, DECISIONS = "decoy-log", "score-log", "decision-log"
DEAD_LETTERS = "dead-letter-log"

VIEWS = (
    View(REQUESTS, "Rendezvous: requests"),
    View(SCORES, "Rendezvous: scores"),
    View(DECISIONS, "Rendezvous: decisions"),
    # what cannot be read has no request's id
    View(DEAD_LETTERS, "Rendezvous: dead letters", linked=False),
)

SEARCHES = (
    Search(
        "requests",
        "Rendezvous: requests",
        "Every input, as the models saw it.",
        REQUESTS,
        ("messageId", "endpoint", "modelInput"),
    ),
    Search(
        "scores",
        "Rendezvous: scores",
        "What each model said to each request, and how long it took.",
        SCORES,
        (
            "messageId",
            "provenance.model.modelName",
            "provenance.model.modelVersion",
            "provenance.model.role",
            "result.result",
            "provenance.model.elapsedTimeAfterRequest",
            "error.type",
            "error.message",
        ),
    ),
    Search(
        "decisions",
        "Rendezvous: decisions",
        "Which model answered each request and why, and what the others said.",
        DECISIONS,
        (
            "messageId",
            "endpoint",
            "outcome",
            "reason",
            "answeredBy",
            "chosen.result",
            "decidedMs",
            "agreeing",
            "disagreeing",
            "lateModels",
            "failedModels",
            "missingModels",
        ),
    ),
    Search(
        "disagreements",
        "Rendezvous: disagreements",
        "Requests to which a model said something else than the answer.",
        DECISIONS,
        (
            "messageId",
            "modelInput",
            "answeredBy",
            "chosen.result",
            "disagreeing",
            "agreeing",
            "scores.model",
            "scores.result",
        ),
        "disagreeing: *",
    ),
    Search(
        "dead-letters",
        "Rendezvous: dead letters",
        "Messages that nobody could use, and why.",
        DEAD_LETTERS,
        (
            "deadLetter.topic",
            "deadLetter.reason",
            "deadLetter.tries",
            "deadLetter.payload",
            "messageId",
        ),
    ),
)

LINK = (
    # `..` leads out of the application that shows the link, whatever path Kibana is served under.
    "../app/discover#/?_g=(time:(from:now-1y,to:now))"
    f"&_a=(index:{view_id(DECISIONS)},columns:!(outcome,answeredBy,agreeing,disagreeing),"
    "query:(language:kuery,query:'messageId:%22{{value}}%22'))"
)


def data_view(view: View) -> SavedObject:
    """Return a data view; it may be there before its first index is."""
    link = {"id": "url", "params": {"urlTemplate": LINK, "labelTemplate": "{{rawValue}}"}}
    attributes = {
        "title": f"{view.name}*",
        "name": view.title,
        "timeFieldName": TIME_FIELD,
        "allowNoIndex": True,
        "fields": "[]",
        "fieldAttrs": "{}",
        "fieldFormatMap": text({"messageId": link} if view.linked else {}),
        "runtimeFieldMap": "{}",
        "sourceFilters": "[]",
        "typeMeta": "{}",
    }
    return saved("index-pattern", view_id(view.name), attributes, [])


def saved_search(search: Search) -> SavedObject:
    """Return a saved search, newest documents first."""
    source = {
        "highlightAll": True,
        "version": True,
        "query": kql(search.kql),
        "filter": [],
        "indexRefName": SOURCE,
    }
    attributes = {
        "title": search.title,
        "description": search.description,
        "columns": list(search.columns),
        "sort": [[TIME_FIELD, "desc"]],
        "grid": {},
        "hideChart": False,
        "isTextBasedQuery": False,
        "timeRestore": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(source)},
    }
    references = [reference("index-pattern", view_id(search.view), SOURCE)]
    return saved("search", search_id(search.name), attributes, references)
