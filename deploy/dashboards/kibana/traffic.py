"""The dashboard *Traffic*: is everybody answered, by whom, how fast, and what got lost."""

from __future__ import annotations

from deploy.dashboards.kibana.panels import (
    Chart,
    Count,
    Dashboard,
    Layer,
    Listing,
    Number,
    Percentile,
    Row,
    Share,
    Values,
)
from deploy.dashboards.kibana.views import DEAD_LETTERS, DECISIONS, REQUESTS, SCORES

EXHAUSTED = 'outcome: "exhausted"'
DECIDED = "decidedMs"
ELAPSED = "provenance.model.elapsedTimeAfterRequest"
PERCENTS = (50, 90, 99)

NUMBERS = (
    Number("Decisions", DECISIONS, Count("Requests decided")),
    Number(
        "Empty answers",
        DECISIONS,
        Share("Answered by no model", EXHAUSTED),
        "The share of requests to which no model had an acceptable score within the deadline. "
        "The caller got an error, or an empty result where the endpoint is set to be compatible.",
    ),
    Number(
        "Slow answers",
        DECISIONS,
        Percentile(DECIDED, 99, "p99 of the time to the choice"),
        "Milliseconds from the request's arrival at the front end to the choice of its answer: "
        "99 of 100 requests took no longer.",
    ),
    Number("Dead letters", DEAD_LETTERS, Count("Messages that nobody could use")),
)

RATES = (
    Chart(
        "Requests per second",
        "bar_stacked",
        (
            Layer(
                "requests",
                REQUESTS,
                (Count("Requests per second", per_second=True),),
                split=Values("endpoint", "Endpoint", absent=True),
            ),
        ),
        "As the decoy recorded them: what the models were asked, by endpoint.",
    ),
    Chart(
        "Answered by",
        "bar_stacked",
        (
            Layer(
                "answers",
                DECISIONS,
                (Count("Answers"),),
                split=Values("answeredBy", "Model and version"),
            ),
        ),
        "Which version of which model gave the answers, as model@version.",
    ),
)

LATENCIES = (
    Chart(
        "Latency of each model",
        "line",
        (
            Layer(
                "latency",
                SCORES,
                tuple(Percentile(ELAPSED, percent, f"p{percent}") for percent in PERCENTS),
                split=Values("provenance.model.modelName", "Model"),
            ),
        ),
        "Milliseconds from the request's time stamp to the model's score, by the clock of the "
        "model's machine: its wait in the queue is part of it.",
    ),
    Chart(
        "Latency of answers",
        "line",
        (
            Layer(
                "latency",
                DECISIONS,
                tuple(Percentile(DECIDED, percent, f"p{percent}") for percent in PERCENTS),
            ),
        ),
        "Milliseconds from the request's arrival at the front end to the choice of its answer.",
    ),
)

LOSSES = (
    Chart(
        "Outcome of requests",
        "bar_percentage_stacked",
        (Layer("outcomes", DECISIONS, (Count("Requests"),), split=Values("outcome", "Outcome")),),
        "answered: a model's score was chosen; exhausted: none was acceptable in time, so the "
        "answer was empty.",
    ),
    Chart(
        "Late scores",
        "bar_stacked",
        (
            Layer(
                "late",
                DECISIONS,
                (Count("Late scores"),),
                split=Values("lateModels", "Model and version"),
            ),
        ),
        "Scores that came after the choice had been made. They are archived and compared all the "
        "same. Of a canary or shadow they are no harm.",
    ),
    Chart(
        "Dead letters by topic",
        "bar_stacked",
        (
            Layer(
                "dead",
                DEAD_LETTERS,
                (Count("Dead letters"),),
                split=Values("deadLetter.topic", "Topic"),
            ),
        ),
        "Messages that were given up after several tries, by the topic they came from.",
    ),
)

TRAFFIC = Dashboard(
    "rendezvous-traffic",
    "Rendezvous: traffic",
    "Requests and answers, the latency of models and answers, and what came late or got lost.",
    (
        Row(7, NUMBERS),
        Row(12, RATES),
        Row(12, LATENCIES),
        Row(12, LOSSES),
        Row(14, (Listing("Newest dead letters", "dead-letters"),)),
    ),
)
