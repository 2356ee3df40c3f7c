"""What the dashboard shows: rows Traffic, Models, Archive and Health."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.dashboards.grafana.panels import DATASOURCE, WIDTH, graph, number, rows, states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.dashboards.grafana.panels import AnyPanel

UID = "rendezvous"
OF_ENDPOINT = 'endpoint=~"$endpoint"'
RATE = "[$__rate_interval]"


def text() -> str:
    """Return the dashboard's file."""
    return json.dumps(build().build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def build() -> Dashboard:
    """Return the dashboard."""
    numbers = itertools.count(1)
    made = (
        Dashboard("rendezvous")
        .uid(UID)
        .description("Requests and answers, the models behind them, the archive, and its health.")
        .tags(["rendezvous"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .with_variable(
            QueryVariable("endpoint")
            .label("Endpoint")
            .datasource(DATASOURCE)
            .query("label_values(rendezvous_models_live, endpoint)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
            .current(VariableOption(text="All", value="$__all", selected=True))
        )
    )
    for title, panels in {
        "Traffic": (*numbers_of_traffic(), *traffic()),
        "Models": (*models(), *workers()),
        "Archive": archive(),
        "Health": health(),
    }.items():
        made.with_row(Row(title).id(next(numbers)))
        for panel in panels:
            made.with_panel(panel.id(next(numbers)))
    return made


def numbers_of_traffic() -> Sequence[AnyPanel]:
    """Return what callers notice, now."""
    asked = f"sum(rate(rendezvous_requests_total{{{OF_ENDPOINT}}}{RATE}))"
    exhausted = f'rendezvous_requests_total{{{OF_ENDPOINT},outcome="exhausted"}}'
    missed = f"rendezvous_deadline_misses_total{{{OF_ENDPOINT}}}"
    return (
        number("Requests", "Decided in a second.", asked, unit="reqps"),
        number(
            "Median",
            "Half of the choices are made within this time from the request's arrival.",
            quantile(0.5, "rendezvous_request_duration_seconds_bucket", OF_ENDPOINT),
            unit="s",
        ),
        number(
            "99th percentile",
            "99 of 100 choices are made within this time.",
            quantile(0.99, "rendezvous_request_duration_seconds_bucket", OF_ENDPOINT),
            unit="s",
        ),
        number(
            "No score",
            "Share of requests with nothing acceptable in time. Alert DefaultRatio: 1%.",
            f"(sum(rate({exhausted}{RATE})) or vector(0)) / ({asked} > 0)",
            unit="percentunit",
            red=0.01,
        ),
        number(
            "Deadline misses",
            "Choices that came later than the deadline, in the time shown.",
            f"sum(increase({missed}[$__range])) or vector(0)",
            red=1,
        ),
        number("In flight", "Requests that have no answer yet.", "sum(rendezvous_inflight)"),
    )


def traffic() -> Sequence[AnyPanel]:
    """Return what callers notice, over time."""
    return (
        graph(
            "Requests by reason",
            "Requests in a second, by why the choice was made; exhausted: nothing acceptable.",
            {
                "{{endpoint}} {{reason}}": "sum by (endpoint, reason)"
                f" (rate(rendezvous_requests_total{{{OF_ENDPOINT}}}{RATE}))"
            },
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Time to the choice",
            "From a request's arrival to the choice.",
            {
                f"{{{{endpoint}}}} {share:.0%}": quantile(
                    share, "rendezvous_request_duration_seconds_bucket", OF_ENDPOINT, "endpoint"
                )
                for share in (0.5, 0.95, 0.99)
            },
            unit="s",
        ),
        graph(
            "Requests in flight",
            "Requests that have no answer yet, by front end.",
            {"{{instance}}": "sum by (instance) (rendezvous_inflight)"},
        ),
    )


def models() -> Sequence[AnyPanel]:
    """Return which models answer, and how they compare."""
    compared = f"rendezvous_comparisons_total{{{OF_ENDPOINT}}}"
    agreed = f'rendezvous_comparisons_total{{{OF_ENDPOINT},outcome="agree"}}'
    by = "sum by (endpoint, model, version)"
    return (
        graph(
            "Answers by model",
            "Answers in a second, by the model whose score they are.",
            {
                "{{endpoint}} {{model}}@{{version}}": f"{by}"
                f" (rate(rendezvous_answers_total{{{OF_ENDPOINT}}}{RATE}))"
            },
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Agreement",
            "Share of a model's scores that are equal to the chosen ones, or within the tolerance.",
            {
                "{{endpoint}} {{model}}@{{version}}": f"({by} (rate({agreed}{RATE}))"
                f" or 0 * {by} (rate({compared}{RATE}))) / {by} (rate({compared}{RATE}))"
            },
            unit="percentunit",
        ),
        graph(
            "Live models",
            "Models that may answer, by endpoint; the fewest that a front end knows.",
            {"{{endpoint}}": f"min by (endpoint) (rendezvous_models_live{{{OF_ENDPOINT}}})"},
        ),
        graph(
            "Models taken out",
            "How often since the front ends started: it was silent, hung or missing.",
            {
                "{{endpoint}} {{model}}@{{version}}": f"{by}"
                f" (rendezvous_models_ejected_total{{{OF_ENDPOINT}}})"
            },
        ),
        graph(
            "Scores received",
            "Scores in a second. in_time, late (normal, where another's was good enough), error,"
            " duplicate, foreign (another front end's).",
            {
                "{{model}}@{{version}} {{state}}": "sum by (model, version, state)"
                f" (rate(rendezvous_scores_total{RATE}))"
            },
            unit="cps",
        ),
    )


def workers() -> Sequence[AnyPanel]:
    """Return how much the models do, and how fast they are."""
    return (
        graph(
            "Evaluation, 99th percentile",
            "Time that a model takes for a batch.",
            {
                "{{model}}@{{version}}": quantile(
                    0.99, "rendezvous_worker_evaluation_seconds_bucket", "", "model, version"
                )
            },
            unit="s",
        ),
        graph(
            "Rows in a batch",
            "Requests that a model scores at once.",
            {
                "{{model}}@{{version}}": "sum by (model, version)"
                f" (rate(rendezvous_worker_rows_total{RATE})) / sum by (model, version)"
                f" (rate(rendezvous_worker_evaluation_seconds_count{RATE}))"
            },
        ),
        graph(
            "Requests at the models",
            "Requests that workers took in a second: ok, error, expired (past their deadline).",
            {
                "{{model}}@{{version}} {{outcome}}": "sum by (model, version, outcome)"
                f" (rate(rendezvous_worker_requests_total{RATE}))"
            },
            unit="reqps",
        ),
    )


def archive() -> Sequence[AnyPanel]:
    """Return how the connectors keep up."""
    lost = f"rendezvous_decisions_lost_total{{{OF_ENDPOINT}}}"
    return (
        graph(
            "Records stored",
            "Records that connectors stored durably in a second.",
            {
                "{{group}} {{topic}}": "sum by (group, topic)"
                f" (rate(rendezvous_archived_total{RATE}))"
            },
            unit="wps",
        ),
        graph(
            "Lag",
            "Age of the oldest message in hand that is not stored yet. Alert SinkLag: 120 s.",
            {"{{group}} {{job}}": "max by (job, group) (rendezvous_sink_lag_seconds)"},
            unit="s",
            limit=120,
        ),
        graph(
            "Writes tried again",
            "Writes in a second that failed: the sink is away. Alert SinkAway: for 3 minutes.",
            {
                "{{group}} {{job}}": "sum by (job, group)"
                f" (rate(rendezvous_sink_retries_total{RATE}))"
            },
            unit="wps",
        ),
        graph(
            "Backlog by subscription",
            "Messages on Pulsar that a subscription has not acked.",
            {
                "{{subscription}} of {{topic}}": "sum by (topic, subscription)"
                " (pulsar_subscription_back_log)"
            },
        ),
        graph(
            "Dead letters",
            "Messages that went to a dead-letter topic since the services started.",
            {"{{topic}}": "sum by (topic) (rendezvous_dlq_messages_total)"},
        ),
        graph(
            "Decision records lost",
            "Decision records that the bus did not take, since the front ends started.",
            {"{{endpoint}}": f"sum by (endpoint) ({lost})"},
        ),
    )


def health() -> Sequence[AnyPanel]:
    """Return what runs, and what Prometheus calls somebody for."""
    return (
        states(
            "Read by Prometheus",
            "Whether a replica answers Prometheus.",
            {"{{job}} {{instance}}": "up"},
        ),
        states(
            "Reading from the bus",
            "Whether a model, decoy or connector has its subscription and works.",
            {"{{group}} {{job}}": "min by (job, group) (rendezvous_reading)"},
        ),
        rows(
            "Alerts",
            "What fires now; docs/alerts.md says what to do.",
            'ALERTS{alertstate="firing"}',
        ),
        rows("Versions", "What runs where.", "rendezvous_build_info"),
        graph(
            "Messages into Pulsar",
            "Messages that topics take in a second.",
            {"{{topic}}": f"sum by (topic) (rate(pulsar_in_messages_total{RATE}))"},
            unit="mps",
        ).span(WIDTH // 2),
        graph(
            "Messages that cannot be read",
            "Messages in a second that are no score, or no announcement.",
            {"{{topic}}": f"sum by (topic) (rate(rendezvous_unreadable_messages_total{RATE}))"},
            unit="cps",
        ).span(WIDTH // 2),
    )


def quantile(share: float, metric: str, matchers: str, by: str = "") -> str:
    """Return the expression of a quantile of a histogram, ``by`` labels."""
    labels = f"le, {by}" if by else "le"
    selected = f"{metric}{{{matchers}}}" if matchers else metric
    return f"histogram_quantile({share}, sum by ({labels}) (rate({selected}{RATE})))"
