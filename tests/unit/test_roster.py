"""Which models are live: learned from what they say and from their scores, never configured."""

import pytest

from rendezvous.policy import Candidate
from rendezvous.roster import FORGOTTEN, MISSES, SILENCE, Roster
from tests.unit.scores import announcement, provenance

DT, LR = ("dt", 1), ("lr", 0)


@pytest.fixture
def roster():
    return Roster()


def live(roster, endpoint="iris"):
    return set(roster.live(endpoint))


class TestAModelThatAnnouncesItself:
    def test_is_live_from_its_first_announcement(self, roster):
        roster.announced(announcement(*DT, role="canary"), 0.0)

        assert roster.live("iris") == {DT: Candidate("dt", 1, "canary")}

    def test_is_live_for_its_own_endpoint_only(self, roster):
        roster.announced(announcement(*DT, endpoint="iris"), 0.0)
        roster.announced(announcement(*LR, endpoint="housing"), 0.0)

        assert (live(roster, "iris"), live(roster, "housing")) == ({DT}, {LR})
        assert live(roster, "nowhere") == set()

    def test_is_out_when_it_says_that_it_stops(self, roster):
        roster.announced(announcement(*DT), 0.0)
        roster.announced(announcement(*DT, state="stopped"), 0.1)

        assert live(roster) == set()

    def test_is_out_when_it_has_been_silent_for_too_long(self, roster):
        roster.announced(announcement(*DT), 0.0)

        roster.expire(SILENCE)
        assert live(roster) == {DT}
        roster.expire(SILENCE + 0.01)
        assert live(roster) == set()

    def test_is_live_as_long_as_it_goes_on_speaking(self, roster):
        for tenth in range(100):
            roster.announced(announcement(*DT), tenth / 10)
            roster.expire(tenth / 10 + 0.05)
            assert live(roster) == {DT}

    def test_is_live_again_when_it_speaks_again(self, roster):
        roster.announced(announcement(*DT), 0.0)
        roster.announced(announcement(*DT, state="stopped"), 0.1)
        roster.announced(announcement(*DT), 0.2)

        assert live(roster) == {DT}

    def test_is_live_while_one_of_its_replicas_is(self, roster):
        roster.announced(announcement(*DT, instance="a"), 0.0)
        roster.announced(announcement(*DT, instance="b"), 1.5)

        roster.expire(SILENCE + 1.0)  # a has been silent for too long, b has not
        assert live(roster) == {DT}
        roster.announced(announcement(*DT, instance="b", state="stopped"), SILENCE + 1.0)
        assert live(roster) == set()

    def test_may_say_goodbye_before_it_was_ever_heard_of(self, roster):
        roster.announced(announcement(*DT, state="stopped"), 0.0)

        assert live(roster) == set()

    @pytest.mark.parametrize("role", ["shadow", "decoy", "something"])
    def test_is_not_awaited_in_a_role_that_may_not_answer(self, roster, role):
        roster.announced(announcement(*DT, role=role), 0.0)

        assert live(roster) == set()

    def test_may_change_its_role(self, roster):
        roster.announced(announcement(*DT, role="shadow"), 0.0)
        roster.announced(announcement(*DT, role="production"), 0.1)
        assert live(roster) == {DT}

        roster.announced(announcement(*DT, role="shadow"), 0.2)
        assert live(roster) == set()

    def test_is_out_by_silence_however_it_scores(self, roster):
        roster.announced(announcement(*DT), 0.0)
        roster.scored("iris", provenance(*DT), SILENCE + 0.01)
        roster.expire(SILENCE + 0.01)

        assert live(roster) == set()

    def test_stays_however_many_requests_it_misses(self, roster):
        roster.announced(announcement(*DT), 0.0)
        for _ in range(2 * MISSES):
            roster.missed("iris", [DT], 0.1)

        assert live(roster) == {DT}

    def test_of_two_versions_each_is_live_by_itself(self, roster):
        roster.announced(announcement("dt", 1), 0.0)
        roster.announced(announcement("dt", 2), 0.0)
        roster.announced(announcement("dt", 1, state="stopped"), 0.1)

        assert live(roster) == {("dt", 2)}


class TestAModelThatAnnouncesNothing:
    def test_is_live_from_its_first_score_on(self, roster):
        roster.scored("iris", provenance(*DT), 0.0)

        assert roster.live("iris") == {DT: Candidate("dt", 1, "production")}

    def test_is_live_however_long_nobody_asks_it(self, roster):
        roster.scored("iris", provenance(*DT), 0.0)
        roster.expire(1e9)

        assert live(roster) == {DT}

    def test_is_out_when_it_has_missed_a_few_requests_running(self, roster):
        roster.scored("iris", provenance(*DT), 0.0)

        for _ in range(MISSES - 1):
            roster.missed("iris", [DT], 0.1)
        assert live(roster) == {DT}
        roster.missed("iris", [DT], 0.1)
        assert live(roster) == set()

    def test_that_scores_in_between_has_missed_none(self, roster):
        for _ in range(3 * MISSES):
            roster.scored("iris", provenance(*DT), 0.0)
            roster.missed("iris", [DT], 0.1)

        assert live(roster) == {DT}

    def test_is_live_again_from_its_next_score_on(self, roster):
        roster.scored("iris", provenance(*DT), 0.0)
        for _ in range(MISSES):
            roster.missed("iris", [DT], 0.1)
        roster.scored("iris", provenance(*DT), 0.2)

        assert live(roster) == {DT}

    def test_keeps_the_role_that_its_score_names(self, roster):
        roster.scored("iris", provenance(*DT, role="shadow"), 0.0)

        assert live(roster) == set()

    def test_is_one_that_announces_itself_from_its_first_announcement_on(self, roster):
        roster.scored("iris", provenance(*DT), 0.0)
        roster.announced(announcement(*DT), 0.1)
        roster.expire(SILENCE + 0.2)

        assert live(roster) == set()


def test_the_misses_of_models_that_nobody_knows_are_nothing(roster):
    roster.missed("iris", [DT], 0.0)
    roster.missed("nowhere", [DT], 0.0)

    assert live(roster) == set()


def test_who_was_handed_the_live_models_keeps_them_as_they_were(roster):
    roster.announced(announcement(*DT), 0.0)
    before = roster.live("iris")
    roster.announced(announcement(*LR), 0.1)
    roster.announced(announcement(*DT, state="stopped"), 0.1)

    assert set(before) == {DT}
    assert live(roster) == {LR}


class TestAShadow:
    def test_is_live_among_those_that_may_not_answer(self, roster):
        roster.announced(announcement(*DT, role="shadow"), 0.0)
        roster.announced(announcement(*LR), 0.0)

        assert roster.shadows("iris") == {DT: Candidate("dt", 1, "shadow")}
        assert roster.shadows("nowhere") == {}

    def test_is_out_by_silence_or_goodbye_like_any_other(self, roster):
        roster.announced(announcement(*DT, role="shadow"), 0.0)
        roster.announced(announcement(*LR, role="shadow"), 0.0)
        roster.announced(announcement(*LR, role="shadow", state="stopped"), 0.1)
        assert set(roster.shadows("iris")) == {DT}

        roster.expire(SILENCE + 0.01)
        assert roster.shadows("iris") == {}


class TestAModelIsEjected:
    def test_when_it_is_out_by_silence(self, roster):
        roster.announced(announcement(*DT), 0.0)
        assert not roster.ejected("iris", DT)

        roster.expire(SILENCE + 0.01)
        assert roster.ejected("iris", DT)

    def test_when_it_has_missed_a_few_requests(self, roster):
        roster.scored("iris", provenance(*DT), 0.0)
        for _ in range(MISSES):
            roster.missed("iris", [DT], 0.1)

        assert roster.ejected("iris", DT)

    def test_when_it_was_silent_for_so_long_that_it_is_forgotten_at_once(self, roster):
        roster.announced(announcement(*DT), 0.0)
        roster.expire(FORGOTTEN + 0.01)

        assert roster.ejected("iris", DT)

    def test_but_not_when_it_has_said_goodbye(self, roster):
        roster.announced(announcement(*DT, instance="a"), 0.0)
        roster.announced(announcement(*DT, instance="b"), 0.0)
        roster.announced(announcement(*DT, instance="a", state="stopped"), 0.1)
        roster.announced(announcement(*DT, instance="b", state="stopped"), 0.1)
        roster.expire(SILENCE + 0.01)

        assert not roster.ejected("iris", DT)

    def test_when_only_one_of_its_replicas_has(self, roster):
        roster.announced(announcement(*DT, instance="a"), 0.0)
        roster.announced(announcement(*DT, instance="b"), 0.0)
        roster.announced(announcement(*DT, instance="a", state="stopped"), 0.1)
        roster.expire(SILENCE + 0.01)

        assert roster.ejected("iris", DT)

    def test_but_not_when_it_only_changes_its_role(self, roster):
        roster.announced(announcement(*DT), 0.0)
        roster.announced(announcement(*DT, role="shadow"), 0.1)

        assert not roster.ejected("iris", DT)

    def test_once_more_after_it_had_come_back(self, roster):
        roster.announced(announcement(*DT), 0.0)
        roster.announced(announcement(*DT, state="stopped"), 0.1)
        roster.announced(announcement(*DT), 0.2)
        roster.expire(SILENCE + 0.3)

        assert roster.ejected("iris", DT)


class TestAModelThatIsOutForLong:
    def test_is_forgotten(self, roster):
        for number in range(100):
            roster.announced(announcement(f"m{number}"), 0.0)
        roster.announced(announcement(*DT), FORGOTTEN)

        roster.expire(FORGOTTEN + 0.1)

        assert set(roster._members["iris"]) == {DT}

    def test_is_live_again_when_it_comes_back(self, roster):
        roster.announced(announcement(*DT), 0.0)
        roster.expire(FORGOTTEN + 0.1)
        roster.announced(announcement(*DT), FORGOTTEN + 0.2)

        assert live(roster) == {DT}

    def test_is_not_one_that_scores_without_announcing(self, roster):
        roster.scored("iris", provenance(*DT), 0.0)
        roster.expire(2 * FORGOTTEN)

        assert live(roster) == {DT}
