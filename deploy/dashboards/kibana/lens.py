"""A chart or a number as Kibana's editor of charts, Lens, keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploy.dashboards.kibana.columns import Columns, bucket, kql, measured, order_by
from deploy.dashboards.kibana.objects import Reference, reference, view_id
from deploy.dashboards.kibana.panels import Chart, Layer, Measure, Number


@dataclass(slots=True)
class _Drawn:
    """A layer: its columns, and which of them is drawn as what."""

    columns: Columns = field(default_factory=dict)
    along: str = ""
    split: str = ""
    shown: list[str] = field(default_factory=list)


def lens(panel: Chart | Number) -> dict[str, Any]:
    """Return a panel's ``attributes``."""
    if isinstance(panel, Number):
        layers: tuple[Layer, ...] = (Layer("number", panel.view, (panel.measure,)),)
        drawn = [_drawn(layer, bare=True) for layer in layers]
        kind, state = "lnsMetric", _metric(layers[0].name, drawn[0])
    else:
        layers, drawn = panel.layers, [_drawn(layer) for layer in panel.layers]
        kind, state = "lnsXY", _xy(panel, drawn)
    return {
        "title": panel.title,
        "description": panel.description,
        "visualizationType": kind,
        "type": "lens",
        "references": _references(layers),
        "state": {
            "visualization": state,
            "query": kql(""),
            "filters": [],
            "datasourceStates": {
                "formBased": {
                    "layers": {
                        layer.name: {
                            "columns": each.columns,
                            "columnOrder": list(each.columns),
                            "incompleteColumns": {},
                            "sampling": 1,
                        }
                        for layer, each in zip(layers, drawn, strict=True)
                    }
                },
                "indexpattern": {"layers": {}},
                "textBased": {"layers": {}},
            },
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }


def _references(layers: tuple[Layer, ...]) -> list[Reference]:
    return [
        reference(
            "index-pattern", view_id(layer.view), f"indexpattern-datasource-layer-{layer.name}"
        )
        for layer in layers
    ]


def _drawn(layer: Layer, *, bare: bool = False) -> _Drawn:
    """Return a layer's columns: what divides before what is divided, as Kibana orders them.

    No key begins with another's, for what begins with that of a formula Kibana takes for a part
    of it; and none is that of another layer, for by the key Kibana finds the layer.
    """
    measures: dict[str, Measure] = {
        f"{layer.name}-measure-{number}": measure for number, measure in enumerate(layer.measures)
    }
    order = order_by(measures)
    drawn = _Drawn(shown=list(measures))
    if layer.split:
        drawn.split = f"{layer.name}-split"
        drawn.columns |= bucket(drawn.split, layer.split, order)
    if not bare:
        drawn.along = f"{layer.name}-along"
        drawn.columns |= bucket(drawn.along, layer.along, order)
    for key, measure in measures.items():
        drawn.columns |= measured(key, measure)
    return drawn


def _metric(layer: str, drawn: _Drawn) -> dict[str, Any]:
    return {
        "layerId": layer,
        "layerType": "data",
        "metricAccessor": drawn.shown[0],
        "showBar": False,
    }


def _xy(panel: Chart, drawn: list[_Drawn]) -> dict[str, Any]:
    sides = {"x": True, "yLeft": True, "yRight": True}
    return {
        "preferredSeriesType": panel.series,
        "legend": {"isVisible": True, "position": "right", "showSingleSeries": True},
        "valueLabels": "hide",
        "fittingFunction": "None",
        "yLeftExtent": {"mode": "full"},
        "yRightExtent": {"mode": "full"},
        "axisTitlesVisibilitySettings": {"x": False, "yLeft": True, "yRight": True},
        "tickLabelsVisibilitySettings": sides,
        "gridlinesVisibilitySettings": sides,
        "labelsOrientation": {"x": 0, "yLeft": 0, "yRight": 0},
        "layers": [
            {
                "layerId": layer.name,
                "layerType": "data",
                "seriesType": panel.series,
                "position": "top",
                "showGridlines": False,
                "xAccessor": each.along,
                **({"splitAccessor": each.split} if each.split else {}),
                "accessors": each.shown,
                "palette": {"type": "palette", "name": "default"},
            }
            for layer, each in zip(panel.layers, drawn, strict=True)
        ],
    }
