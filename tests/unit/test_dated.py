"""The names of dated indices, and which are due."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.errors import ConfigurationError
from rendezvous.sink.dated import belongs, check_name, dated_name, due, period_end

PERIODS = st.sampled_from(["day", "month"])
FIRST = datetime(2020, 1, 1, tzinfo=UTC)
SECONDS = (datetime(2050, 1, 1, tzinfo=UTC) - FIRST) // timedelta(seconds=1) - 1
MOMENTS = st.integers(0, SECONDS).map(lambda seconds: FIRST + timedelta(seconds=seconds))
DAYS = st.integers(1, 36_500)
PARTS = ["log", "x", "-", ".", "2025", "2025.11", "2025.11.25", "20", "11", "undated", "_"]


def allowed(index):
    try:
        check_name(index)
    except ConfigurationError:
        return False
    return True


NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map("".join)
INDICES = NAMES.filter(allowed)


class TestNames:
    @pytest.mark.parametrize(
        ("period", "name"), [("day", "decoy-log-2025.11.03"), ("month", "decoy-log-2025.11")]
    )
    def test_are_of_the_day_or_month(self, period, name):
        assert dated_name("decoy-log", period, datetime(2025, 11, 3, 23, 59, tzinfo=UTC)) == name

    @pytest.mark.parametrize("year", [1, 1970, 2019, 2050, 9999])
    def test_of_what_is_of_no_plausible_year_have_no_date(self, year):
        moment = datetime(year, 6, 1, tzinfo=UTC)
        assert dated_name("a", "day", moment) == dated_name("a", "month", None) == "a-undated"

    @given(INDICES, PERIODS, MOMENTS)
    def test_tell_the_period_in_which_the_moment_is(self, index, period, moment):
        end = period_end(index, dated_name(index, period, moment))
        length = timedelta(days=1) if period == "day" else timedelta(days=31)
        assert moment < end <= moment + length
        before = period_end(index, dated_name(index, period, moment.replace(day=1)))
        assert (before == end) == (period == "month" or moment.day == 1)

    @pytest.mark.parametrize(
        "name",
        [
            "log", "log-", "log-undated", "log-2025", "log-2025.1", "log-2025.13", "log-2025.00",
            "log-2025.02.30", "log-2025.11.00", "log-2025.11.25-x", "log-2025.11.25.1",
            "log-2025-11-25", "log-2019.12.31", "log-2050.01", "log-02025.11", "log-2025.11.",
            "log-2025.11 ", "log-2025.11\n", "log-x-2025.11", "xlog-2025.11", "log2025.11",
            "2025.11", "log-log-2025.11", "log-\u0662\u0660\u0662\u0665.11", "log-*",
        ],
    )  # fmt: skip
    def test_that_are_no_more_than_alike_have_no_period(self, name):
        assert period_end("log", name) is None

    @given(INDICES, INDICES, PERIODS, MOMENTS)
    def test_of_two_indices_are_never_the_same(self, one, other, period, moment):
        if one != other:
            for name in (other, f"{other}-undated", dated_name(other, period, moment)):
                assert not belongs(one, name)

    @given(INDICES, PERIODS, MOMENTS)
    def test_of_an_index_belong_to_it(self, index, period, moment):
        for name in (index, f"{index}-undated", dated_name(index, period, moment)):
            assert belongs(index, name)


class TestDue:
    def test_is_what_ended_more_than_so_many_days_ago(self):
        names = ["a", "a-undated", "a-2025.11.23", "a-2025.11.24", "a-2025.10", "b-2020.01"]
        midnight = datetime(2025, 11, 25, tzinfo=UTC)
        assert due("a", names, midnight, 1) == ["a-2025.10"]
        assert due("a", names, midnight + timedelta(seconds=1), 1) == ["a-2025.11.23", "a-2025.10"]
        assert due("a", names, midnight, 23) == ["a-2025.10"]
        assert due("a", names, midnight, 24) == []

    @given(INDICES, PERIODS, MOMENTS, MOMENTS, DAYS)
    def test_is_nothing_that_holds_a_record_younger_than_that(
        self, index, period, moment, now, days
    ):
        name = dated_name(index, period, moment)
        found = due(index, [name], now, days)
        if now - moment <= timedelta(days=days):
            assert found == []
        if now - moment > timedelta(days=days + 31):
            assert found == [name]

    @given(INDICES, INDICES, PERIODS, MOMENTS, MOMENTS, DAYS)
    def test_is_nothing_without_a_date_and_nothing_of_another_index(
        self, index, other, period, moment, now, days
    ):
        names = [index, f"{index}-undated"]
        if other != index:
            names += [other, dated_name(other, period, moment)]
        assert due(index, names, now, days) == []

    @given(NAMES, st.lists(NAMES), MOMENTS, DAYS)
    def test_is_among_what_there_is(self, index, names, now, days):
        assert set(due(index, names, now, days)) <= {n for n in names if n.startswith(f"{index}-")}
