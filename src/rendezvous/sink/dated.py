"""The names of dated indices: which one a record belongs in, and which are due to be deleted.

An index ``decoy-log`` with a period is many: ``decoy-log-2025.11.23`` for a day,
``decoy-log-2025.11`` for a month, in UTC, and ``decoy-log-undated`` for what tells no plausible
moment. Pure: the moment is passed in.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from rendezvous.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

Period = Literal["none", "day", "month"]

FIRST_YEAR, LAST_YEAR = 2020, 2049
"""Of dated indices; a sender of odd timestamps must not make thousands."""

LONGEST_KEPT = 36_500
"""Days that an index may be kept, at most."""

UNDATED = "undated"
_FORMATS = {"day": "%Y.%m.%d", "month": "%Y.%m"}
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}")
_DATE = re.compile(r"([0-9]{4})\.([0-9]{2})(?:\.([0-9]{2}))?")
_LIKE_DATED = re.compile(rf".*-(?:20[2-4][0-9]\.[0-9]{{2}}(?:\.[0-9]{{2}})?|{UNDATED})")
_DECEMBER = 12


def check_name(index: str) -> None:
    """Refuse what cannot be an index, or could be taken for a dated one of another index.

    Raises:
        ConfigurationError: It is so.
    """
    if not _NAME.fullmatch(index):
        raise ConfigurationError(f"{index!r} can not be the name of an index")
    if _LIKE_DATED.fullmatch(index):
        raise ConfigurationError(
            f"{index!r} can not be the name of an index: it ends as dated indices do"
        )


def dated_name(index: str, period: Literal["day", "month"], moment: datetime | None) -> str:
    """Return the index that a record of this moment (UTC) belongs in."""
    if moment is None or not FIRST_YEAR <= moment.year <= LAST_YEAR:
        return f"{index}-{UNDATED}"
    return f"{index}-{moment.strftime(_FORMATS[period])}"


def patterns(index: str) -> list[str]:
    """Return patterns that all dated names of an index match, and hardly any other name."""
    return [f"{index}-20*.*", f"{index}-{UNDATED}"]


def belongs(index: str, name: str) -> bool:
    """Return whether ``name`` is ``index`` itself or one of its dated ones."""
    return name in {index, f"{index}-{UNDATED}"} or period_end(index, name) is not None


def period_end(index: str, name: str) -> datetime | None:
    """Return when the period of a dated index ended (UTC); ``None`` where the name is no such."""
    date = _DATE.fullmatch(name.removeprefix(f"{index}-"))
    if not name.startswith(f"{index}-") or date is None:
        return None
    year, month, day = (int(part) if part is not None else None for part in date.groups())
    if year is None or month is None or not FIRST_YEAR <= year <= LAST_YEAR:
        return None
    try:
        begin = datetime(year, month, 1 if day is None else day, tzinfo=UTC)
    except ValueError:
        return None
    if day is not None:
        return begin + timedelta(days=1)
    return begin.replace(year=year + month // _DECEMBER, month=month % _DECEMBER + 1)


def due(index: str, names: Iterable[str], now: datetime, keep_days: int) -> list[str]:
    """Return the dated indices of ``index`` whose period ended more than so many days ago."""
    limit = now - timedelta(days=keep_days)
    return [name for name in names if (end := period_end(index, name)) is not None and end < limit]
