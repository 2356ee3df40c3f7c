"""Which score goes out, and when: a policy is a pure function of what is known of one request.

The last class plays whole requests and knows what is to come; it says what the earliest moment
was at which nothing still to come could have changed the answer.
"""

import copy
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.errors import ConfigurationError
from rendezvous.policy import (
    STRANGER,
    Answer,
    Candidate,
    Exhausted,
    First,
    Newest,
    Priority,
    Rank,
    Situation,
    Wait,
)
from tests.unit.scores import score

BUDGET = 0.95
RANKING = Priority([Rank("dt"), Rank("lr", 0.3), Rank("rule", 0.6)])

names = st.sampled_from(["dt", "lr", "rule", "unranked"])
models = st.tuples(names, st.integers(0, 3))
moments = st.floats(0, 1.2 * BUDGET)


@st.composite
def rankings(draw):
    ranked = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    patience = sorted(draw(st.lists(moments, min_size=len(ranked), max_size=len(ranked))))
    return Priority([Rank(*place) for place in zip(ranked, patience, strict=True)])


policies = st.sampled_from([Newest(), First()]) | rankings()


@st.composite
def situations(draw, least=0):
    """At ``least`` some models have scored, others are pending; none is known with a stranger."""
    known = draw(st.lists(models, min_size=least, max_size=6, unique=True))
    came = draw(st.integers(least, len(known)))
    pending = [Candidate(*model) for model in known[came:]]
    if draw(st.booleans()):
        pending.append(STRANGER)
    scores = [score(*model, result=place) for place, model in enumerate(known[:came])]
    return Situation(scores, pending, draw(moments), BUDGET)


def situation(*scores, pending=(), elapsed=0.1, budget=BUDGET):
    return Situation(scores, [Candidate(*model) for model in pending], elapsed, budget)


class TestEveryPolicy:
    @given(policy=policies, known=situations())
    def test_says_the_same_of_the_same_situation_and_changes_nothing(self, policy, known):
        before = copy.deepcopy(known)

        said = policy.decide(known)

        assert policy.decide(known) == said
        assert policy.decide(copy.deepcopy(known)) == said
        assert known == before

    @given(policy=policies, known=situations())
    def test_never_waits_in_a_final_situation(self, policy, known):
        over = Situation(known.scores, known.pending, BUDGET, BUDGET)
        alone = Situation(known.scores, [], known.elapsed, BUDGET)

        assert not isinstance(policy.decide(over), Wait)
        assert not isinstance(policy.decide(alone), Wait)

    @given(policy=policies, known=situations())
    def test_answers_with_one_of_the_scores_and_says_why(self, policy, known):
        said = policy.decide(known)

        if isinstance(said, Answer):
            assert any(said.score is one for one in known.scores)
            assert said.reason.isidentifier()

    @given(policy=policies, known=situations())
    def test_waits_for_a_moment_to_come_and_within_the_budget(self, policy, known):
        said = policy.decide(known)

        if isinstance(said, Wait):
            assert known.elapsed < said.until <= known.budget

    @given(policy=policies, known=situations())
    def test_is_exhausted_only_when_it_may_wait_no_more_or_for_nobody(self, policy, known):
        said = policy.decide(known)

        if isinstance(said, Exhausted):
            ranked = {rank.model for rank in getattr(policy, "ranking", ())}
            awaited = [c for c in known.pending if not ranked or c.name in {*ranked, STRANGER.name}]
            assert known.final or not awaited

    @given(policy=policies, known=situations(least=1), later=moments)
    def test_an_answer_does_not_change_by_waiting_for_nothing(self, policy, known, later):
        said = policy.decide(known)
        waited = Situation(known.scores, known.pending, max(known.elapsed, later), known.budget)

        if isinstance(said, Answer):
            assert policy.decide(waited).score is said.score

    @pytest.mark.parametrize("policy", [Newest(), First(), RANKING])
    def test_with_nobody_to_wait_for_and_nothing_in_hand_it_is_exhausted(self, policy):
        assert policy.decide(situation()) == Exhausted()

    @pytest.mark.parametrize("policy", [Newest(), First(), RANKING])
    def test_where_no_model_is_known_it_waits_for_whoever_comes_until_the_budget_is_spent(
        self, policy
    ):
        nobody = Situation([], [STRANGER], 0.1, BUDGET)
        over = Situation([], [STRANGER], BUDGET, BUDGET)

        assert policy.decide(nobody) == Wait(BUDGET)
        assert policy.decide(over) == Exhausted()


class TestNewest:
    def test_the_highest_version_answers_at_once_when_it_is_in(self):
        dt, lr = score("dt", 1), score("lr", 0)

        said = Newest().decide(situation(lr, dt, pending=[("slow", 0)]))

        assert said == Answer(dt, "newest")

    def test_an_older_one_waits_for_the_newer_until_the_budget_is_spent(self):
        lr = score("lr", 0)

        assert Newest().decide(situation(lr, pending=[("dt", 1)])) == Wait(BUDGET)
        assert Newest().decide(situation(lr, pending=[("dt", 1)], elapsed=BUDGET)) == Answer(
            lr, "deadline_best"
        )

    def test_an_older_one_answers_at_once_when_the_newer_has_failed_or_is_gone(self):
        lr = score("lr", 0)

        assert Newest().decide(situation(lr)) == Answer(lr, "newest")

    def test_of_equal_versions_the_first_that_came_answers_and_waits_for_no_other(self):
        one, other = score("one", 1), score("other", 1)

        said = Newest().decide(situation(one, other, pending=[("third", 1)]))

        assert said == Answer(one, "newest")

    def test_where_no_model_is_known_a_newer_one_may_come_until_the_budget_is_spent(self):
        dt = score("dt", 1)

        assert Newest().decide(Situation([dt], [STRANGER], 0.1, BUDGET)) == Wait(BUDGET)
        assert Newest().decide(Situation([dt], [STRANGER], BUDGET, BUDGET)) == Answer(
            dt, "deadline_best"
        )

    @given(known=situations())
    def test_never_answers_with_a_lower_version_than_one_that_is_in(self, known):
        said = Newest().decide(known)

        if isinstance(said, Answer):
            highest = max(one.model.model_version for one in known.scores)
            assert said.score.model.model_version == highest

    @given(known=situations(least=1), name=names, below=st.integers(0, 3))
    def test_a_lower_model_to_come_never_changes_the_answer(self, known, name, below):
        said = Newest().decide(known)

        if isinstance(said, Answer):
            lower = Candidate(name, said.score.model.model_version - below)
            more = [*known.pending, lower]
            assert Newest().decide(Situation(known.scores, more, known.elapsed, BUDGET)) == said


class TestFirst:
    def test_whoever_came_first_answers_whatever_is_pending(self):
        lr, dt = score("lr", 0), score("dt", 1)

        assert First().decide(situation(lr, dt, pending=[("rf", 9)])) == Answer(lr, "first")

    @given(known=situations(least=1))
    def test_never_waits_with_a_score_in_hand(self, known):
        assert First().decide(known).score is known.scores[0]


class TestPriority:
    def test_the_preferred_model_answers_at_once(self):
        dt, lr = score("dt"), score("lr")

        said = RANKING.decide(situation(lr, dt, pending=[("rule", 0)]))

        assert said == Answer(dt, "preferred")

    @pytest.mark.parametrize(("elapsed", "expected"), [(0.0, 0.3), (0.29, 0.3)])
    def test_the_second_waits_for_the_preferred_until_its_patience_has_passed(
        self, elapsed, expected
    ):
        said = RANKING.decide(situation(score("lr"), pending=[("dt", 1)], elapsed=elapsed))

        assert said == Wait(expected)

    @pytest.mark.parametrize("elapsed", [0.3, 0.5, BUDGET])
    def test_the_second_will_do_from_its_patience_on(self, elapsed):
        lr = score("lr")

        said = RANKING.decide(situation(lr, pending=[("dt", 1)], elapsed=elapsed))

        assert said == Answer(lr, "patience_expired")

    def test_the_second_answers_at_once_when_nobody_better_is_to_come(self):
        lr = score("lr")

        assert RANKING.decide(situation(lr, pending=[("rule", 0)])) == Answer(lr, "only_live")

    def test_patience_that_is_longer_than_the_budget_ends_with_it(self):
        patient = Priority([Rank("dt"), Rank("lr", 9.0)])
        lr = score("lr")

        assert patient.decide(situation(lr, pending=[("dt", 1)])) == Wait(BUDGET)
        assert patient.decide(situation(lr, pending=[("dt", 1)], elapsed=BUDGET)) == Answer(
            lr, "deadline_best"
        )

    def test_nobody_waits_for_a_model_that_is_not_ranked(self):
        lr = score("lr")

        assert RANKING.decide(situation(lr, pending=[("unranked", 9)])) == Answer(lr, "only_live")
        assert RANKING.decide(situation(pending=[("unranked", 9)])) == Exhausted()

    def test_a_stranger_might_be_the_best_of_all_save_for_the_patience(self):
        lr, dt = score("lr"), score("dt")

        assert RANKING.decide(Situation([lr], [STRANGER], 0.1, BUDGET)) == Wait(0.3)
        assert RANKING.decide(Situation([lr], [STRANGER], 0.3, BUDGET)) == Answer(
            lr, "patience_expired"
        )
        assert RANKING.decide(Situation([dt], [STRANGER], 0.1, BUDGET)).score is dt

    def test_of_one_models_versions_the_newest_answers(self):
        old, new = score("dt", 1), score("dt", 2)

        assert RANKING.decide(situation(old, new)) == Answer(new, "preferred")

    @given(policy=rankings(), known=situations())
    def test_a_model_that_is_not_ranked_never_answers(self, policy, known):
        said = policy.decide(known)

        if isinstance(said, Answer):
            assert said.score.model.model_name in {rank.model for rank in policy.ranking}

    @given(policy=rankings(), known=situations())
    def test_never_answers_with_a_lower_rank_than_one_that_is_in(self, policy, known):
        places = [rank.model for rank in policy.ranking]
        said = policy.decide(known)

        if isinstance(said, Answer):
            came = [one.model.model_name for one in known.scores]
            best = min(places.index(name) for name in came if name in places)
            assert places.index(said.score.model.model_name) == best

    @given(policy=rankings(), known=situations(least=1), below=st.integers(0, 3))
    def test_a_worse_model_to_come_never_changes_the_answer(self, policy, known, below):
        said = policy.decide(known)

        if isinstance(said, Answer):
            places = [rank.model for rank in policy.ranking]
            worse = places[places.index(said.score.model.model_name) :]
            more = [*known.pending, Candidate(worse[below % len(worse)], 9)]
            again = policy.decide(Situation(known.scores, more, known.elapsed, BUDGET))
            assert again.score is said.score

    @pytest.mark.parametrize(
        "ranking",
        [
            [],
            [Rank("dt"), Rank("dt", 0.1)],
            [Rank("dt", 0.2), Rank("lr", 0.1)],
            [Rank("dt", -0.1)],
            [Rank("dt"), Rank("lr", math.nan), Rank("rule", 0.1)],
            [Rank("dt", math.nan)],
        ],
        ids=["empty", "twice", "falling", "negative", "no number within", "no number"],
    )
    def test_a_ranking_that_contradicts_itself_is_a_configuration_error(self, ranking):
        with pytest.raises(ConfigurationError, match="ranking"):
            Priority(ranking)


@dataclass(frozen=True)
class Event:
    """What a model does ``at`` some moment: it scores; without a ``score`` it fails or goes."""

    at: float
    model: tuple[str, int]
    score: object


@st.composite
def futures(draw):
    """All that will happen to one request's models; some never do anything."""
    known = draw(st.lists(models, min_size=1, max_size=5, unique=True))
    moment = st.floats(0.001, 1.5 * BUDGET)
    ats = draw(st.lists(moment, min_size=len(known), max_size=len(known), unique=True))
    fates = draw(
        st.lists(
            st.sampled_from(["scores", "scores", "fails", "silent"]),
            min_size=len(known),
            max_size=len(known),
        )
    )
    events = [
        Event(at, model, score(*model) if fate == "scores" else None)
        for at, model, fate in zip(ats, known, fates, strict=True)
        if fate != "silent"
    ]
    return known, sorted(events, key=lambda event: event.at)


def known_at(elapsed, known, events):
    """Return the situation ``elapsed`` seconds after the request's arrival."""
    past = [event for event in events if event.at <= elapsed]
    done = {event.model for event in past}
    pending = [Candidate(*model) for model in known if model not in done]
    return Situation([e.score for e in past if e.score], pending, elapsed, BUDGET)


def play(policy, known, events):
    """Ask the policy as the server does: on arrivals, when it asked to be, and at the budget."""
    calls = sorted({*[event.at for event in events], BUDGET})
    while True:
        now = calls.pop(0)
        said = policy.decide(known_at(now, known, events))
        if not isinstance(said, Wait):
            return now, said
        calls = sorted({*calls, said.until})


def subsets(candidates):
    for mask in range(2 ** len(candidates)):
        yield [c for place, c in enumerate(candidates) if mask >> place & 1]


def version(one):
    """Return what a score is worth to the policy ``newest``."""
    return one.model.model_version


def rank(policy):
    """Return what a score is worth to ``policy``: all versions of a model the same."""
    places = {place.model: -number for number, place in enumerate(policy.ranking)}
    return lambda one: places.get(one.model.model_name, NOTHING)


NOTHING = -math.inf


def worth(value, scores):
    return max(map(value, scores), default=NOTHING)


def settled(value, known):
    """Tell whether no way in which the pending models can still score is worth more."""
    now = worth(value, known.scores)
    return all(
        worth(value, [score(c.name, c.version) for c in coming]) <= now
        for coming in subsets(list(known.pending))
    )


def earliest(value, known, events, *, good_enough=lambda _worth, _elapsed: False, more=()):
    """Return the first moment at which the choice is settled or good enough, and its worth.

    The server asks its policy for the first time when something happens, then also at ``more``
    moments, and at the budget for the last time.
    """
    happens = [event.at for event in events if event.at < BUDGET]
    first = min(happens, default=BUDGET)
    for now in sorted({*happens, *(moment for moment in more if first <= moment < BUDGET)}):
        then = known_at(now, known, events)
        best = worth(value, then.scores)
        if settled(value, then) or good_enough(best, now):
            return now, best
    return BUDGET, worth(value, known_at(BUDGET, known, events).scores)


def played(value, now, said):
    return now, value(said.score) if isinstance(said, Answer) else NOTHING


class TestTheAnswerGoesOutAtTheEarliestMomentAtWhichItIsSettled:
    @given(future=futures())
    def test_newest(self, future):
        known, events = future

        now, said = play(Newest(), known, events)

        assert played(version, now, said) == earliest(version, known, events)

    @given(future=futures())
    def test_first(self, future):
        known, events = future
        arrivals = [event for event in events if event.score and event.at <= BUDGET]

        now, said = play(First(), known, events)

        if arrivals:
            assert (now, said.score) == (arrivals[0].at, arrivals[0].score)
        else:
            over = [event.at for event in events if event.at < BUDGET]
            assert said == Exhausted()
            assert now == (over[-1] if len(over) == len(known) else BUDGET)

    @given(future=futures(), policy=rankings())
    def test_priority(self, future, policy):
        known, events = future
        value = rank(policy)
        patience = [place.patience for place in policy.ranking]

        def patient_enough(best, elapsed):
            return best != NOTHING and elapsed >= patience[-best]

        now, said = play(policy, known, events)

        expected = earliest(value, known, events, good_enough=patient_enough, more=patience)
        assert played(value, now, said) == expected
