"""`Router`: the threshold that a comparison shows, saved and loaded; the RLM for everything longer."""

from __future__ import annotations

import copy
import logging

import dspy
import pytest

import dspy_rlm
from dspy_rlm import RLM, Router
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.comparing.router import threshold_of
from dspy_rlm.comparing.rows import Row
from dspy_rlm.errors import InputError
from dspy_rlm.testing import Action, Fault, PolicyServer, fields, scripted

# llama.cpp's words, which DSPy does not take for a prompt that is too long.
OVERFLOW = (
    "request (23834 tokens) exceeds the available context size (2048 tokens), try increasing it"
)


def comparison(*bins: tuple[int, float, float], n: int = 100) -> ComparisonResult:
    """A comparison with bins of a length, and the scores of the direct call and of the RLM in it."""
    rows = [
        Row(f"{length}-{number}", number, system, "s", length + number, float(number < score * n), cost=cost)
        for length, direct, rlm in bins
        for number in range(n)
        for system, score, cost in (("direct", direct, 0.01), ("rlm", rlm, 0.05))
    ]  # fmt: skip
    return ComparisonResult(("direct", "rlm"), tuple(rows), n * len(bins))


class TestThreshold:
    def test_it_is_the_edge_between_the_ways(self):
        """Both sides were measured, so the edge of the bin is the threshold."""
        assert threshold_of(comparison((1_000, 1, 1), (10_000, 1, 1), (40_000, 0.2, 0.9))) == 30_000

    def test_nothing_is_said_beyond_what_was_measured(self):
        """If the direct call is as good everywhere, its longest item is the threshold."""
        assert threshold_of(comparison((1_000, 1, 1), (10_000, 1, 1))) == 10_099

    def test_a_worse_direct_call_is_never_taken(self):
        """0 sends everything to the RLM."""
        assert threshold_of(comparison((1_000, 0.3, 0.9))) == 0

    @pytest.mark.parametrize(("undecided", "threshold"), [("rlm", 0), ("direct", 1_039)])
    def test_what_is_not_decided_goes_where_the_caller_says(self, undecided, threshold):
        """By default to the RLM."""
        result = comparison((1_000, 0.85, 0.9), n=40)

        assert result.advice[0].verdict == "undecided"
        assert threshold_of(result, undecided=undecided) == threshold

    def test_too_few_items_end_it(self):
        """A bin that shows nothing is not skipped."""
        few = comparison((1_000, 1, 1)).rows[:10]

        assert threshold_of(ComparisonResult(("direct", "rlm"), few, 5)) == 0

    def test_the_systems_must_be_in_the_comparison(self):
        """Their names can be others than the default ones."""
        with pytest.raises(InputError, match="no system 'plain'"):
            threshold_of(comparison((1_000, 1, 1)), names=("plain", "rlm"))


@pytest.fixture
def server():
    """A model that answers directly, and a root LM."""
    root = scripted(Action("Done.", "SUBMIT(answer='by code')"))
    with PolicyServer({"direct": fields(lambda _: {"answer": "at once"}), "root": root}) as server:
        yield server


@pytest.fixture
def router(server):
    """A router with a threshold of 100 tokens."""
    rlm = RLM("text -> answer")
    rlm.set_lm(server.lm("root"))
    router = Router(rlm, threshold=100)
    router.direct.set_lm(server.lm("direct"))
    return router


class TestRouter:
    def test_the_length_decides(self, server, router):
        """Short inputs take one request and no sandbox; long ones a run."""
        assert router(text="short").answer == "at once"
        assert router.route(text="x" * 404) == "rlm"
        assert router(text="x" * 500).answer == "by code"
        assert [one.model for one in server.requests] == ["direct", "root"]

    def test_inputs_that_do_not_fit_the_window_go_to_the_rlm(self, server, router, caplog):
        """A threshold from another model costs a refused request, and no answer."""
        server.fail("direct", Fault(status=400, message=OVERFLOW))

        with caplog.at_level(logging.WARNING, logger="dspy_rlm"):
            assert router(text="short").answer == "by code"

        assert "A threshold below 100" in caplog.text

    def test_a_saved_router_keeps_its_threshold_and_its_predictors(self, router, tmp_path):
        """`save` and `load` as for every DSPy module; the state has no key."""
        router.direct.signature = router.direct.signature.with_instructions("Be brief.")
        router.save(tmp_path / "router.json")

        other = Router(RLM("text -> answer"))
        other.load(tmp_path / "router.json")

        assert other.threshold == 100
        assert other.direct.signature.instructions == "Be brief."
        assert "api_key" not in (tmp_path / "router.json").read_text("utf-8")

    def test_optimizers_see_both_ways(self, router):
        """An optimizer can compile it: its parameters are those of both, and copies are independent."""
        names = [name for name, _ in router.named_predictors()]

        assert names == ["rlm.generate_action", "direct"]
        clone = copy.deepcopy(router)
        clone.direct.demos = [dspy.Example(text="a", answer="b")]
        assert router.direct.demos == []
        assert clone.reset_copy().threshold == 100

    def test_bootstrapped_demos_reach_the_direct_way(self, server, router):
        """DSPy's own optimizer compiles a router."""
        examples = [
            dspy.Example(text=f"t{i}", answer="at once").with_inputs("text") for i in range(3)
        ]
        optimizer = dspy.BootstrapFewShot(
            metric=lambda example, prediction, trace=None: example.answer == prediction.answer,
            max_bootstrapped_demos=2,
            max_labeled_demos=0,
        )

        with dspy.context(lm=server.lm("direct")):
            compiled = optimizer.compile(router, trainset=examples)

        assert len(compiled.direct.demos) == 2
        assert compiled.threshold == 100

    def test_it_is_learned_from_a_comparison(self):
        """The threshold is that of the comparison."""
        learned = Router.learned(
            comparison((1_000, 1, 1), (40_000, 0.2, 0.9)), RLM("text -> answer")
        )

        assert learned.threshold == 30_000

    def test_a_negative_threshold_is_a_mistake(self):
        """0 already means never."""
        with pytest.raises(InputError, match="0 or more"):
            Router(dspy_rlm.RLM("text -> answer"), threshold=-1)
