"""The dashboard *Models*: how the models compare on the same requests, and which of them fail."""

from __future__ import annotations

from deploy.dashboards.kibana.panels import (
    Chart,
    Count,
    Dashboard,
    Layer,
    Listing,
    Number,
    Row,
    Share,
    Values,
)
from deploy.dashboards.kibana.views import DECISIONS, SCORES

COMPARED = "agreeing: * or disagreeing: *"
UNANIMOUS = "agreeing: * and not disagreeing: *"
DISAGREED = "disagreeing: *"
FAILED = "error.type: *"
MODEL = "provenance.model.modelName"
CANARY = (
    "The canary is a fixed old model that scores all traffic, not a share of it: as it does not "
    "change, a change of its agreement comes from the traffic or from the model that answers."
)


def verdict(name: str, title: str, description: str) -> tuple[Chart, Chart]:
    """Return the charts of the models that agree, or disagree: in all, and over time.

    Each has one layer: bars of two would be stacked into each other, or not, as Kibana likes.
    """
    models = Values(name, "Model and version")
    requests = (Count("Requests"),)
    return (
        Chart(
            f"{title} by model",
            "bar_horizontal",
            (Layer(name, DECISIONS, requests, along=models),),
            description,
        ),
        Chart(
            f"{title} by model over time",
            "bar_stacked",
            (Layer(name, DECISIONS, requests, split=models),),
            description,
        ),
    )


NUMBERS = (
    Number(
        "Agreement",
        DECISIONS,
        Share("Every model agreed with the answer", UNANIMOUS, COMPARED),
        "Of the requests on which at least one other model could be compared with the answer, "
        "the share on which all of them said the same. With one canary beside the model that "
        f"answers, it is the canary's agreement. {CANARY}",
    ),
    Number("Disagreements", DECISIONS, Count("Requests with a disagreement", DISAGREED)),
    Number("Scores", SCORES, Count("Scores of all models, errors too")),
    Number("Errors", SCORES, Share("Scores that are errors", FAILED)),
)

AGREEING = verdict(
    "agreeing",
    "Agreeing",
    "On how many requests each model said the same as the answer, where another model gave the "
    "answer. Numbers agree within the tolerance that the endpoint is set to.",
)
DISAGREEING = verdict(
    "disagreeing",
    "Disagreeing",
    "On how many requests each model said something else than the answer. Failed and invalid "
    "scores are not compared.",
)
AGREEMENT = (
    Chart(
        "Agreement over time",
        "line",
        (
            Layer(
                "agreement",
                DECISIONS,
                (Share("Every model agreed with the answer", UNANIMOUS, COMPARED),),
            ),
        ),
        f"Of the requests that could be compared, the share on which all models agreed. {CANARY}",
    ),
    AGREEING[0],
    DISAGREEING[0],
)
VERDICTS = (AGREEING[1], DISAGREEING[1])

CLASSES = (
    Chart(
        "Classes by model",
        "bar_horizontal_percentage_stacked",
        (
            Layer(
                "classes",
                SCORES,
                (Count("Scores"),),
                along=Values("result.modelName", "Model"),
                split=Values("result.result", "Class", number=True, size=10),
            ),
        ),
        "How often each model says each class; of a regression, its ten most frequent numbers.",
    ),
    Chart(
        "Classes by model over time",
        "bar_percentage_stacked",
        (
            Layer(
                "classes",
                SCORES,
                (Count("Scores"),),
                split=Values("result.modelName", "Model and class", then="result.result", size=30),
            ),
        ),
        "All scores by model and class. All models score the same requests, so each has about "
        "the same part of the bar; what moves inside of that part is its distribution.",
    ),
)

ERRORS = (
    Chart(
        "Error share of each model",
        "line",
        (
            Layer(
                "errors",
                SCORES,
                (Share("Scores that are errors", FAILED),),
                split=Values(MODEL, "Model"),
            ),
        ),
        "Of all scores of a model, the share that is an error instead of a result.",
    ),
    Chart(
        "Errors by type",
        "bar_stacked",
        (Layer("types", SCORES, (Count("Errors"),), split=Values("error.type", "Type")),),
        "InputError: the input does not fit the model; ModelError: the model failed; "
        "OutputError: it said something that is no result.",
    ),
)

MODELS = Dashboard(
    "rendezvous-models",
    "Rendezvous: models",
    "Agreement of the models with the answers, distribution of their classes, disagreements with "
    f"links to the requests, and errors. {CANARY}",
    (
        Row(7, NUMBERS),
        Row(12, AGREEMENT),
        Row(12, VERDICTS),
        Row(12, CLASSES),
        Row(12, ERRORS),
        Row(
            18,
            (
                Listing(
                    "Requests with a disagreement",
                    "disagreements",
                    "Each messageId leads to the decision about that request.",
                ),
            ),
        ),
    ),
)
