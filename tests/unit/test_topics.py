"""Which topics a name stands for, and under what name each is counted."""

import pytest

from rendezvous.bus.topics import covers, family, is_family, kind


def test_a_family_is_written_with_a_star():
    assert family("score") == "score-*"
    assert is_family("score-*")
    assert not is_family("score")
    assert not is_family("score*")


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("score-a", True),
        ("score-a-1", True),
        ("score", False),
        ("score-", False),
        ("scoreboard", False),
        ("my-score-a", False),
        ("score-dead-letter", False),
        ("score-a-dead-letter", False),
        ("score-dead-letter-a", True),
    ],
)
def test_a_family_is_every_topic_that_is_called_so_save_for_dead_letters(name, covered):
    assert covers("score-*", name) == covered


def test_a_topic_is_itself_and_no_other():
    assert covers("score", "score")
    assert not covers("score", "score-a")


@pytest.mark.parametrize(
    ("topic", "read", "expected"),
    [
        ("score-a", ["decoy", "score", "score-*"], "score"),
        ("score", ["score", "score-*"], "score"),
        ("score-a", ["score-*"], "score"),
        ("score-a", ["score-a", "score-*"], "score-a"),
        ("score-a", [], "score-a"),
        ("decoy", ["score-*"], "decoy"),
    ],
)
def test_all_topics_of_a_family_are_of_one_kind(topic, read, expected):
    assert kind(topic, read) == expected
