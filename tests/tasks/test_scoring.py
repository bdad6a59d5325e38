"""The scorers: ours beside the published rules, where they differ."""

from __future__ import annotations

from datetime import date

import pytest

from dspy_rlm.tasks import scoring


@pytest.mark.parametrize(
    ("ours", "official", "answer", "truth", "scores"),
    [
        # RULER forgives text around the answer, and gives a part for a part.
        (scoring.same_text, scoring.ruler_all, "the number is 123", "123", (0, 1)),
        (scoring.same_text, scoring.ruler_all, " 123 ", "123", (1, 1)),
        (scoring.same_set, scoring.ruler_all, ["a", "b"], ["b", "a"], (1, 1)),
        (scoring.same_set, scoring.ruler_all, ["a"], ["a", "b"], (0, 0.5)),
        (scoring.same_set, scoring.ruler_all, ["a", "b", "c"], ["a", "b"], (0, 1)),
        # OOLONG forgives a number that is close.
        (scoring.same_number, scoring.oolong, 47, 47, (1, 1)),
        (scoring.same_number, scoring.oolong, 45, 47, (0, 0.5625)),
        (scoring.same_text, scoring.oolong, "Label: [spam]", "spam", (0, 1)),
        (scoring.same_text, scoring.oolong, "Answer: spam is **more common** than ham", "more common", (0, 1)),
        # The order within a pair, and a pair that comes twice.
        (scoring.f1_of_pairs, scoring.oolong_pairs, [(1, 2), (3, 4)], [(1, 2), (3, 4)], (1, 1)),
        (scoring.f1_of_pairs, scoring.oolong_pairs, [[2, 1]], [(1, 2)], (0, 1)),
        (scoring.f1_of_pairs, scoring.oolong_pairs, [(1, 2), (1, 2)], [(1, 2)], (2 / 3, 1)),
        (scoring.f1_of_pairs, scoring.oolong_pairs, [], [], (1, 1)),
        (scoring.f1_of_pairs, scoring.oolong_pairs, [], [(1, 2)], (0, 0)),
        (scoring.f1_of_pairs, scoring.oolong_pairs, "(1, 2)\n(3, 5)", [(1, 2), (3, 4)], (0, 0.5)),
        # MRCR gives a part for a similar text, but only with the prefix.
        (scoring.exact_text, scoring.mrcr, "abcdefghijtext", "abcdefghijtext", (1, 1)),
        (scoring.exact_text, scoring.mrcr, "text", "abcdefghijtext", (0, 0)),
        (scoring.exact_text, scoring.mrcr, "abcdefghijtexx", "abcdefghijtext", (0, 0.75)),
        # GraphWalks gives a part for a part of the nodes.
        (scoring.same_set, scoring.graphwalks, ["n1"], ["n1", "n2"], (0, 2 / 3)),
        (scoring.same_set, scoring.graphwalks, "I think.\nFinal Answer: [n1, n2]", ["n1", "n2"], (0, 1)),
        (scoring.same_set, scoring.graphwalks, "n1, n2", ["n1", "n2"], (0, 0)),
        (scoring.exact_text, scoring.repoqa, "def find(x):\n    ...", "find", (0, 1)),
        (scoring.exact_text, scoring.repoqa, "It is find", "find", (0, 1)),
        (scoring.exact_text, scoring.repoqa, "findall", "find", (0, 0)),
        (scoring.exact_text, scoring.letter, "The correct answer is (B).", "B", (0, 1)),
        (scoring.exact_text, scoring.letter, "B", "B", (1, 1)),
        (scoring.exact_text, scoring.letter, "Either A or B", "B", (0, 0)),
        (scoring.same_words, scoring.contains, "It was Ada Brok.", "Ada Brok", (0, 1)),
        (scoring.same_words, scoring.contains, "ada  brok", "Ada Brok", (1, 1)),
    ],
)  # fmt: skip
def test_ours_is_stricter_than_the_published_rule(ours, official, answer, truth, scores):
    """Each row has an answer on which the two rules differ, or one that both accept."""
    assert (ours(answer, truth), official(answer, truth)) == pytest.approx(scores)


@pytest.mark.parametrize(
    "text", ["2023-01-06", "Jan 06, 2023", "January 6, 2023", "Date: 2023-01-06"]
)
def test_oolong_reads_dates_in_several_forms(text):
    """A date is compared as a date."""
    assert scoring.oolong(text, date(2023, 1, 6)) == 1.0
    assert scoring.oolong("2023-01-07", date(2023, 1, 6)) == 0.0
