"""A mailbox keeps the scores of one request, and who is still to come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.mailbox import Mailbox
from rendezvous.policy import STRANGER
from tests.unit.scores import candidates, score

BUDGET = 0.95
LIVE = candidates(("lr", 0), ("dt", 1))


@pytest.fixture
def mailbox():
    return Mailbox("r1", LIVE, BUDGET)


class TestScores:
    def test_that_are_valid_are_there_to_choose_from_in_the_order_they_came(self, mailbox):
        dt, lr = score("dt", 1), score("lr", 0)

        assert mailbox.put(dt, 0.1)
        assert mailbox.put(lr, 0.2)

        assert mailbox.situation(0.3).scores == [dt, lr]
        assert [(a.score, a.after, a.valid) for a in mailbox.arrivals] == [
            (dt, 0.1, True),
            (lr, 0.2, True),
        ]

    def test_only_the_first_of_a_model_and_version_is_kept(self, mailbox):
        first, second = score("dt", 1, result=1), score("dt", 1, result=2)

        assert mailbox.put(first, 0.1)
        assert not mailbox.put(second, 0.2)

        assert mailbox.scores == [first]
        assert len(mailbox.arrivals) == 1

    def test_of_two_versions_of_a_model_are_two(self, mailbox):
        assert mailbox.put(score("dt", 1), 0.1)
        assert mailbox.put(score("dt", 2), 0.2)

        assert len(mailbox.scores) == 2

    @pytest.mark.parametrize(
        "unusable",
        [
            score("dt", 1, error="it failed"),
            score("dt", 1, result=None),
            score("dt", 1, role="shadow"),
            score("dt", 1, role="decoy"),
            score("dt", 1, role="a role that nobody knows"),
        ],
        ids=["an error", "no result", "a shadow", "a decoy", "unknown role"],
    )
    def test_that_may_not_answer_are_on_record_but_not_there_to_choose_from(
        self, mailbox, unusable
    ):
        mailbox.put(unusable, 0.1)

        assert mailbox.scores == []
        assert [arrival.valid for arrival in mailbox.arrivals] == [False]

    @pytest.mark.parametrize("role", ["production", "canary", "backup", None])
    def test_may_answer_in_these_roles_and_where_a_foreign_model_names_none(self, mailbox, role):
        mailbox.put(score("dt", 1, role=role), 0.1)

        assert len(mailbox.scores) == 1

    @pytest.mark.parametrize("result", [0, 0.0, False, "", []])
    def test_may_be_anything_but_nothing(self, mailbox, result):
        mailbox.put(score("dt", 1, result=result), 0.1)

        assert len(mailbox.scores) == 1

    def test_that_failed_do_not_make_way_for_a_second_try_of_the_same_model(self, mailbox):
        mailbox.put(score("dt", 1, error="no"), 0.1)

        assert not mailbox.put(score("dt", 1), 0.2)
        assert mailbox.scores == []


class TestPending:
    def test_are_the_live_models_that_have_not_scored(self, mailbox):
        mailbox.put(score("dt", 1), 0.1)

        assert mailbox.pending == candidates(("lr", 0))
        assert list(mailbox.situation(0.1).pending) == list(candidates(("lr", 0)).values())

    def test_is_no_model_that_has_failed(self, mailbox):
        mailbox.put(score("dt", 1, error="no"), 0.1)

        assert ("dt", 1) not in mailbox.pending

    def test_is_no_model_that_is_gone(self, mailbox):
        assert mailbox.drop(("dt", 1))
        assert not mailbox.drop(("dt", 1))
        assert not mailbox.drop(("never", 9))

        assert mailbox.pending == candidates(("lr", 0))

    def test_is_a_stranger_where_no_live_model_is_known_whoever_scores(self):
        mailbox = Mailbox("r1", {}, BUDGET)
        mailbox.put(score("dt", 1), 0.1)

        assert list(mailbox.situation(0.1).pending) == [STRANGER]
        assert not mailbox.situation(0.1).final

    def test_the_score_of_a_model_that_was_not_awaited_counts_as_any(self, mailbox):
        mailbox.put(score("rf", 2), 0.1)

        assert len(mailbox.scores) == 1
        assert mailbox.pending == LIVE

    def test_the_models_that_were_live_at_the_requests_arrival_are_not_changed(self, mailbox):
        mailbox.put(score("dt", 1), 0.1)
        mailbox.drop(("lr", 0))

        assert candidates(("lr", 0), ("dt", 1)) == LIVE


class TestShadows:
    SHADOWS = candidates(("rf", 9))

    def mailbox(self, live=LIVE):
        return Mailbox("r1", live, BUDGET, self.SHADOWS)

    def test_are_never_pending(self):
        assert self.mailbox().pending == LIVE

    def test_are_waited_for_until_they_have_scored_or_are_gone(self):
        for end in (
            lambda box: box.put(score("rf", 9, role="shadow"), 0.3),
            lambda box: box.drop(("rf", 9)),
        ):
            mailbox = self.mailbox(candidates(("dt", 1)))
            assert not mailbox.settled
            mailbox.put(score("dt", 1), 0.1)
            assert not mailbox.settled
            end(mailbox)
            assert mailbox.settled

    def test_that_are_gone_are_not_reported_as_having_been_pending(self):
        assert not self.mailbox().drop(("rf", 9))

    def test_are_unheard_until_they_score_also_when_they_are_gone(self):
        mailbox = self.mailbox()
        mailbox.put(score("dt", 1), 0.1)
        mailbox.drop(("lr", 0))
        assert [c.name for c in mailbox.unheard] == ["lr", "rf"]
        mailbox.put(score("rf", 9, role="shadow"), 0.2)
        assert [c.name for c in mailbox.unheard] == ["lr"]


class TestSituation:
    @pytest.mark.parametrize(
        ("elapsed", "final"), [(0.1, False), (BUDGET, True), (BUDGET + 1, True)]
    )
    def test_is_final_when_the_budget_is_spent(self, mailbox, elapsed, final):
        assert mailbox.situation(elapsed).final is final

    def test_is_final_when_nobody_is_to_come(self, mailbox):
        mailbox.put(score("dt", 1), 0.1)
        mailbox.put(score("lr", 0, error="no"), 0.1)

        assert mailbox.situation(0.1).final

    @given(
        live=st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1),
        came=st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.integers(0, 2),
                st.sampled_from([None, "failed"]),
                st.sampled_from([None, "shadow", "canary"]),
            )
        ),
    )
    def test_each_model_is_counted_once_and_is_either_in_or_to_come(self, live, came):
        mailbox = Mailbox("r1", candidates(*live), BUDGET)

        kept = [
            mailbox.put(score(name, version, error=error, role=role), 0.1)
            for name, version, error, role in came
        ]

        seen = {(name, version) for name, version, *_ in came}
        assert sum(kept) == len(mailbox.arrivals) == len(seen)
        assert mailbox.pending.keys() == live - seen
        assert mailbox.scores == [a.score for a in mailbox.arrivals if a.valid]
