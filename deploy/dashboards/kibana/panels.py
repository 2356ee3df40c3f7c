"""What a panel shows, in few words: which documents, divided by what, and what of them is told.

These are descriptions only. ``lens`` turns them into what Kibana keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Series = Literal[
    "line",
    "bar_horizontal",
    "bar_stacked",
    "bar_percentage_stacked",
    "bar_horizontal_percentage_stacked",
]


@dataclass(frozen=True, slots=True)
class Time:
    """One bucket for each stretch of time."""


@dataclass(frozen=True, slots=True)
class Values:
    """One bucket for each of the most frequent values of a field.

    Attributes:
        field: The field; of one with several values, each counts.
        label: What the values are.
        then: A second field, whose values divide those of the first.
        number: Whether the values are numbers.
        size: How many buckets, at most; the rest is one more where counts are shown.
        absent: Whether documents without the field have a bucket too.
    """

    field: str
    label: str
    then: str = ""
    number: bool = False
    size: int = 20
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """How many documents there are; with ``kql``, how many of these."""

    label: str
    kql: str = ""
    per_second: bool = False


@dataclass(frozen=True, slots=True)
class Percentile:
    """The value that ``percent`` of a hundred documents do not exceed, in milliseconds."""

    field: str
    percent: int
    label: str


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the documents that ``whole`` matches (all, if empty) ``part`` matches too."""

    label: str
    part: str
    whole: str = ""


Measure = Count | Percentile | Share


@dataclass(frozen=True, slots=True)
class Layer:
    """Measures of the documents of one data view, along an axis.

    Attributes:
        name: Short, and unique within the panel.
        view: Name of the data view.
        measures: What is drawn.
        along: The axis.
        split: What divides each measure into several series.
    """

    name: str
    view: str
    measures: tuple[Measure, ...]
    along: Time | Values = Time()
    split: Values | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines or bars."""

    title: str
    series: Series
    layers: tuple[Layer, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """One number, of all documents of a data view in the time that is looked at."""

    title: str
    view: str
    measure: Measure
    description: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The documents of a saved search, newest first."""

    title: str
    search: str
    description: str = ""


Panel = Chart | Number | Listing


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, each of the same width; ``height`` in Kibana's units of 20 px."""

    height: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Rows of panels, the first on top."""

    id: str
    title: str
    description: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A data view: the indices ``<name>*``.

    Attributes:
        name: What the indices' names begin with.
        title: What people read.
        linked: Whether a ``messageId`` leads to the decision about that request.
    """

    name: str
    title: str
    linked: bool = True


@dataclass(frozen=True, slots=True)
class Search:
    """A saved search: columns of the documents of a data view that ``kql`` matches."""

    name: str
    title: str
    description: str
    view: str
    columns: tuple[str, ...]
    kql: str = ""
