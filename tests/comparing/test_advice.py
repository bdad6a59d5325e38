"""The statistics of a comparison, its recommendation in words, and its page. No LM takes part."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET

import pytest

from dspy_rlm.comparing.advice import LEAST_ITEMS, advise, range_text
from dspy_rlm.comparing.intervals import Interval, wilson
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.rows import Row
from dspy_rlm.comparing.statistics import bin_of, binned, difference, paired, quantiles


def row(system: str, number: int, score: float, **fields: object) -> Row:
    """One row, of 1,000 tokens for $0.01 unless something else is passed."""
    values: dict[str, object] = {
        "length": 1_000,
        "cost": 0.01,
        "input_tokens": 100,
        "output_tokens": 10,
        **fields,
    }
    return Row(f"item{number}", number, system, "setup", score=score, **values)  # type: ignore[arg-type]


def measured(
    n: int, rlm: float, direct: float, *, cost: float = 0.05, length: int = 1_000, seed: int = 1
) -> list[Row]:
    """Rows of two systems that are right with these probabilities; the RLM costs more."""
    rng = random.Random(seed)
    return [
        one
        for number in range(n)
        for one in (
            row("rlm", number, float(rng.random() < rlm), cost=cost, length=length),
            row("direct", number, float(rng.random() < direct), length=length),
        )
    ]


def result_of(rows: list[Row], systems: tuple[str, ...] = ("rlm", "direct")) -> ComparisonResult:
    """A comparison with these rows."""
    return ComparisonResult(systems, tuple(rows), len({one.item for one in rows}))


class TestStatistics:
    def test_only_items_of_all_systems_count(self):
        """A system that was measured on more items has no advantage, and no harm, from these."""
        rows = [row("a", 0, 1), row("b", 0, 0), row("a", 1, 1)]

        assert len(paired(rows, ["a", "b"])) == 1
        assert result_of(rows, ("a", "b")).overall.items == 1

    def test_differences_are_of_pairs(self):
        """Two systems that differ on few items have a narrow interval, whatever their own intervals are."""
        pairs = [
            {"a": row("a", i, i % 2), "b": row("b", i, i % 2 if i else 1.0)} for i in range(100)
        ]
        found = bin_of(pairs, ["a", "b"])

        gap = found.differences["b", "a"]
        assert gap.mean == pytest.approx(0.01)
        assert gap.high - gap.low < 0.05
        assert found.systems[0].score.high - found.systems[0].score.low > 0.15

    @pytest.mark.parametrize(("n", "widest"), [(20, 0.14), (100, 0.03), (1000, 0.003)])
    def test_equal_outcomes_leave_room_for_others(self, n, widest):
        """A bootstrap of n equal differences has no width; the rule of three gives it one."""
        gap = difference([1.0] * n, [1.0] * n, [1.0] * 100, [1.0] * 100)

        assert gap.low == pytest.approx(-gap.high)
        assert gap.high == pytest.approx(1 - 0.05 ** (1 / n))
        assert gap.high == pytest.approx(widest, rel=0.05)

    @pytest.mark.parametrize(
        ("right", "n", "low", "high"),
        [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (44, 50, 0.7620, 0.9438)],
    )
    def test_a_proportion_has_the_score_interval(self, right, n, low, high):
        """The bounds are those of Wilson's published formula."""
        found = wilson(right, n)

        assert (found.low, found.high) == (
            pytest.approx(low, abs=1e-4),
            pytest.approx(high, abs=1e-4),
        )

    def test_the_interval_of_a_difference_covers_the_truth(self):
        """Of 200 comparisons of systems with known accuracies, about 95 % of the intervals have the true difference."""
        rng = random.Random(7)
        hits = 0
        for trial in range(200):
            pairs = []
            for i in range(60):
                shared = rng.random()
                pairs.append(
                    {
                        "a": row("a", i, float(shared < 0.8)),
                        "b": row(
                            "b", i, float(shared < 0.6) if i % 2 else float(rng.random() < 0.6)
                        ),
                    }
                )
            scores = {name: [pair[name].score for pair in pairs] for name in "ab"}
            means: dict[str, list[float]] = {"a": [], "b": []}
            draw = random.Random(trial)
            for _ in range(300):
                drawn = draw.choices(range(60), k=60)
                for name, values in scores.items():
                    means[name].append(sum(values[i] for i in drawn) / 60)
            gap = difference(scores["a"], scores["b"], means["a"], means["b"])
            hits += gap.low <= 0.2 <= gap.high

        assert 180 <= hits <= 200

    def test_quantiles_are_amounts_that_occurred(self):
        """The median of an even number lies between two; an unknown amount makes all unknown."""
        found = quantiles([4, 1, 2, 3])

        assert found is not None
        assert (found.median, found.p90, found.most, found.total) == (2.5, 4, 4, 10)
        assert quantiles([1, None]) is None
        assert quantiles([]) is None

    def test_bins_follow_the_lengths(self):
        """Bins without items are left out; the last one has no end."""
        rows = [
            one
            for number, length in enumerate([100, 7_999, 8_000, 3_000_000])
            for one in (row("a", number, 1, length=length), row("b", number, 1, length=length))
        ]

        found = binned(paired(rows, ["a", "b"]), ["a", "b"])

        assert [(one.low, one.high, one.items) for one in found] == [
            (0, 2_000, 1), (2_000, 8_000, 1), (8_000, 30_000, 1), (2_000_000, None, 1),
        ]  # fmt: skip


class TestAdvice:
    def test_a_cheaper_system_that_is_as_good_is_recommended(self):
        """As good: with 95 % confidence not worse by more than the margin. The price is said."""
        (advice,) = result_of(measured(200, 1.0, 1.0)).advice

        assert (advice.verdict, advice.system) == ("use", "direct")
        assert re.match(r"Below 2k tokens \(200 items\): use direct\.", advice.text)
        assert "5 times" in advice.text

    def test_a_better_system_is_recommended_whatever_it_costs(self):
        """The difference is named with its interval, and what it costs."""
        (advice,) = result_of(measured(60, 0.95, 0.3)).advice

        assert (advice.verdict, advice.system) == ("use", "rlm")
        assert "it costs 5 times as much" in advice.text
        assert re.search(r"difference \+0\.\d\d \[\+0\.\d\d, \+0\.\d\d\]", advice.text)

    def test_too_few_items_are_no_recommendation(self):
        """Even if one system has all answers right and the other none."""
        (advice,) = result_of(measured(LEAST_ITEMS - 1, 1.0, 0.0)).advice

        assert (advice.verdict, advice.system) == ("too few", "")
        assert "19 items cannot show" in advice.text

    def test_what_is_not_decided_is_said_with_the_items_that_would(self):
        """A cheaper system that may be worse by more than the margin is neither recommended nor rejected."""
        (advice,) = result_of(measured(30, 0.9, 0.8)).advice

        assert advice.verdict == "undecided"
        needed = re.search(r"About ([\d,]+) items would decide it", advice.text)
        assert needed is not None
        assert int(needed[1].replace(",", "")) > 30

    def test_systems_without_a_right_answer_are_not_recommended(self):
        """The cheapest of two useless systems is no advice."""
        (advice,) = result_of(measured(50, 0.0, 0.0)).advice

        assert advice.verdict == "undecided"
        assert "no system has an answer right" in advice.text

    def test_tokens_stand_in_for_unknown_prices(self):
        """Without prices, the recommendation compares tokens."""
        rows = [
            row(system, number, 1.0, cost=None, input_tokens=tokens)
            for number in range(100)
            for system, tokens in (("rlm", 4_000), ("direct", 1_000))
        ]

        (advice,) = result_of(rows).advice

        assert advice.system == "direct"
        assert "4 times fewer tokens" in advice.text

    @pytest.mark.parametrize(
        ("low", "high", "text"),
        [
            (0, None, "At any length"),
            (0, 30_000, "Below 30k tokens"),
            (30_000, 130_000, "From 30k to 130k tokens"),
            (2_000_000, None, "From 2M tokens"),
        ],
    )
    def test_ranges_are_in_words(self, low, high, text):
        """Lengths are rounded to what a person reads."""
        assert range_text(low, high) == text

    def test_no_rows_no_advice(self):
        """A comparison that was stopped before its first pair has no advice, and says so."""
        result = ComparisonResult(("rlm", "direct"), (), 5, stopped_by="max_cost")

        assert advise(result.bins) == ()
        assert "0 of 5 items" in str(result)
        assert result.html().startswith("<!doctype html>")


class TestPage:
    def page(self) -> str:
        """The page of a comparison with hostile texts in two bins."""
        rows = measured(30, 0.9, 0.5)
        rows += [
            row(system, 100 + number, 0.0, length=50_000, failure="ContextWindowExceededError",
                error="<script>alert(1)</script>\u202e", outputs={"answer": '"><img src=x onerror=alert(1)>'})
            for number in range(25)
            for system in ("rlm", "direct")
        ]  # fmt: skip
        return result_of(rows).html()

    def test_the_policy_allows_its_style_and_nothing_else(self):
        """No script, no picture from elsewhere, no inline style."""
        page = self.page()
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)

        assert policy is not None
        assert re.fullmatch(
            r"default-src 'none'; style-src 'sha256-[\w+/]+=*'; base-uri 'none'; form-action 'none'",
            policy[1],
        )
        assert "<script" not in page
        assert " style=" not in page

    def test_hostile_text_is_escaped(self):
        """Errors and answers of models are text, and characters that cannot be seen are spelled out."""
        page = self.page()

        assert "&lt;script&gt;alert(1)" in page
        assert "⟨U+202E⟩" in page
        assert "<img" not in page

    def test_pictures_are_well_formed(self):
        """Both pictures parse as XML and have a mark for each system."""
        pictures = re.findall(r"<svg.*?</svg>", self.page(), re.DOTALL)

        assert len(pictures) == 2
        for picture in pictures:
            dots = [one for one in ET.fromstring(picture).iter() if "dot" in one.get("class", "")]
            assert len(dots) >= 2

    def test_the_page_says_what_the_text_says(self):
        """Each sentence of the recommendation is on the page."""
        rows = measured(30, 0.9, 0.5)
        result = result_of(rows)

        assert all(one.text in str(result) for one in result.advice)
        assert all(one.text in result.html() for one in result.advice)


def test_an_interval_knows_whether_it_decides():
    """Zero inside means that the items do not show a difference."""
    assert Interval(0.1, 0.01, 0.2).excludes_zero
    assert not Interval(0.1, -0.01, 0.2).excludes_zero
