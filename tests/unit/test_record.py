"""The record of a decision: whose scores came, when, and who says the same as the chosen one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.decision import Decision, Endpoint
from rendezvous.mailbox import Mailbox
from rendezvous.policy import Candidate, Newest
from rendezvous.record import agree, make_record
from tests.unit.scores import IRIS, candidates, request, score

LIVE = candidates(("lr", 0), ("dt", 1))
SHADOW = {("rf", 9): Candidate("rf", 9, "shadow")}


def recorded(
    *in_time, chosen=None, late=(), live=LIVE, shadows=SHADOW, tolerance=0.0, reason="newest"
):
    """Return the record of a request as its readers see it; each score came 1 ms after another."""
    mailbox = Mailbox("r1", live, 0.95, shadows)
    for number, each in enumerate(in_time, 1):
        mailbox.put(each, number / 1000)
    arrivals = tuple(mailbox.arrivals)
    asked = request("r1", schema_version=1)
    missing = tuple(mailbox.pending.values())
    decision = Decision(asked, chosen, reason, "newest", 0.0031, arrivals, missing)
    for number, each in enumerate(late, len(in_time) + 1):
        mailbox.put(each, number / 1000)
    endpoint = Endpoint("iris", "iris", Newest(), 1.0, tolerance)
    return json.loads(make_record(endpoint, decision, mailbox, 0.25).encode())


class TestARecord:
    def test_says_what_was_asked_and_what_was_chosen(self):
        dt = score("dt", 1, result=2, role="production")

        found = recorded(dt, chosen=dt)

        assert (found["messageId"], found["endpoint"], found["schemaVersion"]) == ("r1", "iris", 1)
        assert found["modelInput"] == IRIS
        assert found["timestamp"] == pytest.approx(request().timestamp, abs=60)
        assert (found["policy"], found["reason"]) == ({"name": "newest"}, "newest")
        assert (found["outcome"], found["answeredBy"]) == ("answered", "dt@1")
        assert found["chosen"] == {"model": "dt", "version": 1, "role": "production", "result": 2}
        assert (found["deadlineMs"], found["decidedMs"], found["closedMs"]) == (1000.0, 3.1, 250.0)

    def test_of_a_request_without_an_answer_names_nobody(self):
        found = recorded(score("dt", 1, error="it failed"), reason="exhausted")

        assert (found["outcome"], found["reason"]) == ("exhausted", "exhausted")
        assert "chosen" not in found
        assert "answeredBy" not in found
        assert found["failedModels"] == ["dt@1"]

    def test_has_every_score_in_the_order_they_came_and_which_came_after_the_choice(self):
        dt = score("dt", 1, result=2)
        found = recorded(dt, chosen=dt, late=[score("lr", 0, result=1, role="canary")])

        first, second = found["scores"]
        assert first == {
            "model": "dt", "version": 1, "role": "production", "afterMs": 1.0,
            "valid": True, "late": False, "result": 2,
        }  # fmt: skip
        assert second == {
            "model": "lr", "version": 0, "role": "canary", "afterMs": 2.0,
            "valid": True, "late": True, "result": 1, "agrees": False,
        }  # fmt: skip
        assert found["lateModels"] == ["lr@0"]

    def test_says_why_a_model_has_no_result(self):
        dt = score("dt", 1)
        found = recorded(score("lr", 0, error="it failed"), dt, chosen=dt)

        assert found["scores"][0] == {
            "model": "lr", "version": 0, "role": "production", "afterMs": 1.0,
            "valid": False, "late": False, "error": {"type": "ModelError", "message": "it failed"},
        }  # fmt: skip
        assert found["failedModels"] == ["lr@0"]

    def test_compares_a_shadow_too_though_it_may_not_answer(self):
        dt = score("dt", 1, result=2)
        found = recorded(dt, chosen=dt, late=[score("rf", 9, result=2, role="shadow")])

        assert found["scores"][1]["valid"]
        assert found["agreeing"] == ["rf@9"]

    def test_names_who_was_live_and_has_not_scored(self):
        dt = score("dt", 1)

        assert recorded(dt, chosen=dt)["missingModels"] == ["lr@0", "rf@9"]

    def test_names_no_stranger_where_no_model_was_known(self):
        assert "missingModels" not in recorded(live={}, shadows={}, reason="exhausted")

    def test_leaves_out_lists_that_are_empty(self):
        dt = score("dt", 1)

        found = recorded(dt, chosen=dt, live=candidates(("dt", 1)), shadows={})

        lists = {"agreeing", "disagreeing", "lateModels", "failedModels", "missingModels"}
        assert not lists & set(found)

    def test_of_two_versions_of_a_model_compares_the_other(self):
        new = score("dt", 2, result=1)
        found = recorded(score("dt", 1, result=1), new, chosen=new)

        assert found["agreeing"] == ["dt@1"]

    @given(
        said=st.dictionaries(
            st.tuples(st.sampled_from("abc"), st.integers(0, 2)),
            st.one_of(st.none(), st.just("failed"), st.integers(0, 2)),
        ),
        live=st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1),
        cut=st.integers(0, 9),
    )
    def test_counts_each_model_once_wherever_it_belongs(self, said, live, cut):
        scores = [
            score(*model, error="no") if result == "failed" else score(*model, result=result)
            for model, result in said.items()
        ]
        good = [each for each in scores[:cut] if each.result and each.result.result is not None]
        chosen = good[-1] if good else None

        found = recorded(
            *scores[:cut], chosen=chosen, late=scores[cut:], live=candidates(*live), shadows={}
        )

        def names(key):
            assert len(set(found.get(key, []))) == len(found.get(key, []))
            return set(found.get(key, []))

        valid = {f"{s['model']}@{s['version']}" for s in found["scores"] if s["valid"]}
        everyone = {f"{name}@{version}" for name, version in said}
        others = valid - {found.get("answeredBy")} if chosen else set()
        assert names("agreeing") | names("disagreeing") == others
        assert not names("agreeing") & names("disagreeing")
        assert names("failedModels") == everyone - valid
        assert names("missingModels") == {f"{name}@{version}" for name, version in live} - everyone
        assert names("lateModels") == {f"{name}@{version}" for name, version in [*said][cut:]}


ANYTHING = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


class TestTwoResults:
    @pytest.mark.parametrize(("one", "other"), [(1, 1), ("a", "a"), (True, True), ([1], [1])])
    def test_that_are_classes_agree_when_they_are_equal(self, one, other):
        assert agree(one, other, 0.0)

    @pytest.mark.parametrize(
        ("one", "other"), [(1, 2), ("a", "b"), (True, False), (True, 1), (1.0, True), (1, "1")]
    )
    def test_that_are_other_classes_do_not_whatever_the_tolerance(self, one, other):
        assert not agree(one, other, 0.9)

    def test_that_are_amounts_agree_within_the_tolerance(self):
        assert agree(100.0, 105.0, 0.05)
        assert not agree(100.0, 106.0, 0.05)
        assert agree(24, 24.5, 0.05)
        assert not agree(24.0, 24.000001, 0.0)

    def test_of_which_one_is_beyond_every_float_do_not(self):
        assert not agree(10**400, 1.0, 0.5)

    @given(one=ANYTHING, other=ANYTHING, tolerance=st.floats(0, 1))
    def test_agree_in_both_directions_or_in_none_and_each_with_itself(self, one, other, tolerance):
        assert agree(one, other, tolerance) == agree(other, one, tolerance)
        assert agree(one, one, tolerance)
