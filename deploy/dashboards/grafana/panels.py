"""The few kinds of panels that the dashboard has, with what all of a kind have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as parts
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import prometheus as query

if TYPE_CHECKING:
    from collections.abc import Mapping

    AnyPanel = stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel

P = TypeVar("P", stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="prometheus")
"""The uid is set in ``provisioning/datasources``."""

WIDTH = 24
HEIGHT = 8


def graph(
    title: str,
    description: str,
    queries: Mapping[str, str],
    *,
    unit: str = "short",
    stacked: bool = False,
    limit: float | None = None,
) -> timeseries.Panel:
    """Return lines over time, three to a row of the dashboard.

    Args:
        title: Of the panel.
        description: Shown at the panel's corner.
        queries: By legend, such as ``{{model}}``: the expression.
        unit: Grafana's name of it.
        stacked: Lines are parts of a whole.
        limit: Where a red line is drawn.
    """
    panel = _common(timeseries.Panel(), title, description, queries)
    panel.unit(unit).min(0).span(WIDTH // 3).height(HEIGHT)
    panel.line_width(1).fill_opacity(30 if stacked else 8).show_points(common.VisibilityMode.NEVER)
    panel.stacking(
        options.StackingConfig().mode(
            common.StackingMode.NORMAL if stacked else common.StackingMode.NONE
        )
    )
    panel.legend(
        options.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    panel.tooltip(
        options.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    if limit is not None:
        panel.thresholds(_thresholds(limit))
        panel.thresholds_style(
            options.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.LINE)
        )
    return panel


def number(
    title: str, description: str, expression: str, *, unit: str = "short", red: float | None = None
) -> stat.Panel:
    """Return one number, six to a row of the dashboard, red from ``red`` on."""
    panel = _common(stat.Panel(), title, description, {"": expression})
    panel.unit(unit).span(WIDTH // 6).height(HEIGHT // 2).no_value("-")
    panel.graph_mode(common.BigValueGraphMode.AREA)
    panel.color_mode(common.BigValueColorMode.VALUE)
    panel.reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    panel.thresholds(_thresholds(red))
    return panel


def states(title: str, description: str, queries: Mapping[str, str]) -> statetimeline.Panel:
    """Return a bar for each series, green where it is 1 and red where it is 0."""
    panel = _common(statetimeline.Panel(), title, description, queries)
    panel.span(WIDTH // 2).height(HEIGHT + 2).show_value(common.VisibilityMode.NEVER)
    panel.row_height(0.8).merge_values(merge_values=True)
    return panel.mappings(
        [
            dashboard.ValueMap(
                options={
                    "0": dashboard.ValueMappingResult(text="no", color="red", index=0),
                    "1": dashboard.ValueMappingResult(text="yes", color="green", index=1),
                }
            )
        ]
    )


def rows(title: str, description: str, expression: str) -> table.Panel:
    """Return a table of the labels that the series have now."""
    panel = _common(table.Panel(), title, description, {})
    panel.span(WIDTH // 2).height(HEIGHT).no_value("none")
    panel.with_target(
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .ref_id("A")
        .expr(expression)
        .format(query.PromQueryFormat.TABLE)
        .instant()
    )
    hidden = dict.fromkeys(("Time", "Value", "__name__", "alertstate"), True)
    return panel.with_transformation(
        dashboard.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    )


def _common(panel: P, title: str, description: str, queries: Mapping[str, str]) -> P:
    panel.title(title).description(description).datasource(DATASOURCE)
    for letter, (legend, expression) in zip("ABCDEFGH", queries.items(), strict=False):
        panel.with_target(
            prometheus.Dataquery()
            .datasource(DATASOURCE)
            .ref_id(letter)
            .expr(expression)
            .legend_format(legend)
            .range()
        )
    return panel


def _thresholds(red: float | None) -> parts.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color="green")]
    if red is not None:
        steps.append(dashboard.Threshold(value=red, color="red"))
    return parts.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
