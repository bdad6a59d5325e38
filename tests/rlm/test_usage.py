"""DSPy's records of an RLM's LM calls: usage and histories."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.clients.base_lm import GLOBAL_HISTORY

from dspy_rlm import RLM
from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.lms.call_readings import COST_HEADER, Reading
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered
from dspy_rlm.testing import Action, PolicyServer, asks_for, chat, fields, route, rules, scripted

both = pytest.mark.parametrize("how", ["sync", "async"])

CELLS = (
    "x = sub_llm('one') + str(sub_llm_batched(['two', 'three']))",
    "predict_batched('q -> n: int', ['four', 'five'])",
    "SUBMIT(sub_rlm('q -> a: str', q='inner').a)",
)
# The calls of the sub-LM by these, its turn in the sub-run and that one's own sub-call among them.
SUB_CALLS = 7


def run_once(rlm: dspy.Module, how: str, **inputs: Any) -> dspy.Prediction:
    """Calls an RLM by `forward` or by `aforward`."""
    return rlm(**inputs) if how == "sync" else asyncio.run(rlm.acall(**inputs))


def replies() -> Any:
    """A sub-LM that plays the root of a sub-run, answers typed prompts with n = 4, others with yes."""
    return route(
        (asks_for("code"), scripted(Action("", "SUBMIT(sub_llm('deep'))"))),
        (asks_for("n"), fields(lambda _: {"n": 4})),
        otherwise=rules([], default="yes"),
    )


@pytest.fixture
def run(play):
    """An RLM that calls LMs in every way, and its server."""
    return play("q -> answer: str", *CELLS, sub=replies())


def reported(server, model: str) -> int:
    """The tokens of all replies of a model, as the server counted them."""
    return sum(
        chat.estimate_usage(exchange.request, exchange.reply)["total_tokens"]
        for exchange in server.requests_to(model)
    )


class TestUsage:
    @both
    def test_the_prediction_has_that_of_every_call(self, run, how):
        """The prediction's usage has every call once: root, sub-LM, batches in threads, sub-runs."""
        rlm, server = run
        with dspy.context(track_usage=True):
            usage = run_once(rlm, how, q="?").get_lm_usage()

        assert len(server.requests_to("sub")) == SUB_CALLS
        assert {name: entry["total_tokens"] for name, entry in usage.items()} == {
            "openai/root": reported(server, "root"),
            "openai/sub": reported(server, "sub"),
        }

    @both
    def test_a_tracker_hears_of_every_call(self, run, how):
        """A usage tracker gets one entry per call, in agreement with the run's report."""
        rlm, _ = run
        with dspy.track_usage() as tracker:
            result = run_once(rlm, how, q="?")

        assert {name: len(entries) for name, entries in tracker.usage_data.items()} == {
            "openai/root": 3,
            "openai/sub": SUB_CALLS,
        }
        totals = tracker.get_total_tokens().values()
        assert sum(entry["prompt_tokens"] for entry in totals) == sum(
            usage.input_tokens for usage in result.run.usage
        )

    def test_in_a_program_it_is_the_programs(self, run):
        """In a program, the outermost module has all the usage, as with any module."""

        class Program(dspy.Module):
            def __init__(self, rlm):
                super().__init__()
                self.rlm = rlm

            def forward(self, q):
                return dspy.Prediction(answer=self.rlm(q=q).answer)

        rlm, server = run
        with dspy.context(track_usage=True):
            usage = Program(rlm)(q="?").get_lm_usage()

        assert usage["openai/sub"]["total_tokens"] == reported(server, "sub")

    def test_runs_at_the_same_time_have_their_own(self, play):
        """Concurrent predictions have the usage of their own calls."""
        rlm, _ = play("q: str -> answer: str", "SUBMIT(sub_llm(q))", sub=replies())

        async def both_runs() -> list[dspy.Prediction]:
            return await asyncio.gather(rlm.acall(q="short"), rlm.acall(q="long " * 400))

        with dspy.context(track_usage=True):
            short, long = asyncio.run(both_runs())

        assert short.get_lm_usage()["openai/sub"]["prompt_tokens"] == 2
        assert long.get_lm_usage()["openai/sub"]["prompt_tokens"] == 500


class TestHistory:
    @both
    def test_the_modules_have_their_calls(self, run, how):
        """Histories: the RLM has all calls it caused, the predictor and the LMs their own, DSPy's global list all."""
        rlm, server = run
        root = dspy.settings.lm
        before = len(GLOBAL_HISTORY)
        run_once(rlm, how, q="?")

        assert [entry["model"] for entry in rlm.generate_action.history] == ["openai/root"] * 3
        assert len(root.history) == 3
        assert len(rlm.sub_lm.history) == SUB_CALLS
        assert len(rlm.history) == 3 + SUB_CALLS == len(server.requests)
        assert len(GLOBAL_HISTORY) - before == 3 + SUB_CALLS
        assert {entry["prompt"] for entry in rlm.history} >= {"one", "two", "three", "deep"}

    def test_they_can_be_inspected(self, run):
        """Calls can be inspected through the module, the LM, and `dspy.inspect_history`."""
        rlm, _ = run
        rlm(q="?")
        listings = []
        for inspect in (
            rlm.inspect_history,
            dspy.settings.lm.inspect_history,
            dspy.inspect_history,
        ):
            file = io.StringIO()
            inspect(n=1, file=file)
            listings.append(file.getvalue())

        assert listings[0] == listings[2]
        assert "deep" in listings[0]
        assert "SUBMIT(sub_rlm(" in listings[1]

    def test_history_can_be_turned_off(self, run):
        """`disable_history` works as for every DSPy module."""
        rlm, _ = run
        with_history = rlm(q="?").run
        before = len(GLOBAL_HISTORY)
        for lm in (rlm, rlm.sub_lm):
            lm.history.clear()
        with dspy.context(disable_history=True):
            result = rlm(q="?")

        assert result.answer == "yes"
        assert result.run.cost == with_history.cost
        assert rlm.history == []
        assert rlm.sub_lm.history == []
        assert len(GLOBAL_HISTORY) == before

    def test_without_a_history_a_cut_answer_is_still_told_apart(self, play):
        """The cost and the finish reason of a reply do not depend on the history."""
        rlm, _ = play(
            "q -> a: list",
            "x = sub_llm('x')\nSUBMIT([x.cut, x.finish_reason])",
            sub=lambda _: chat.Counted("x", 5, 5, "length", cost=0.25),
        )
        with dspy.context(disable_history=True):
            result = rlm(q="?")

        assert result.a == [True, "length"]
        assert [call.cost for call in result.run.sub_calls] == [0.25]

    @both
    def test_nothing_is_kept_of_a_run_then(self, run, how):
        """Neither the trace of the process has its steps; an optimizer's own trace has them as always."""
        rlm, _ = run
        before = len(dspy.settings.trace)
        with dspy.context(disable_history=True):
            run_once(rlm, how, q="?")
            assert len(dspy.settings.trace) == before
            with dspy.context(trace=[]):
                run_once(rlm, how, q="?")
                assert len(dspy.settings.trace) == 3

    @pytest.mark.parametrize(
        ("settings", "engine", "how"),
        [
            ({"disable_history": True}, "auto", "sync"),
            ({"disable_history": True}, "auto", "async"),
            ({"disable_history": True}, "litellm", "sync"),
            ({"max_history_size": 0}, "auto", "sync"),
        ],
    )
    @pytest.mark.sampled(2)
    def test_costs_need_no_history(self, kept, settings, engine, how):
        """The report of a run is the same where DSPy keeps no history: costs, cut replies and cached calls too."""
        models = {
            "gpt-4o-mini": scripted(*(Action("", cell) for cell in CELLS)),
            "gpt-4o": replies(),
        }
        reports = []
        with PolicyServer(models) as server:
            lms = [server.lm(name, engine=engine) for name in models]
            for one in ({}, settings):
                with dspy.context(lm=lms[0], adapter=dspy.ChatAdapter(), **one):
                    before = len(GLOBAL_HISTORY)
                    rlm = RLM("q -> answer: str", sub_lm=lms[1], pool=kept)
                    reports.append(run_once(rlm, how, q="?").run)
                    kept_entries = len(GLOBAL_HISTORY) - before

        usual, quiet = reports
        assert quiet.cost == usual.cost > 0
        assert quiet.usage == usual.usage
        assert [call.cost for call in quiet.sub_calls].count(None) == 0
        assert kept_entries == 0 or "disable_history" not in settings
        assert [len(lm.history) for lm in lms] == [3, SUB_CALLS]

    def test_a_cut_reply_is_known_without_history(self, play):
        """The reason for the end of a reply is in DSPy's record of the call, which a run reads either way."""
        submit = scripted(Action("", "print(1)"), Action("", "SUBMIT('done')"))

        def root(request: Any) -> str:
            cut = chat.Counted("[[ ## code ## ]]\n```python\nprint((1", 9, 9, "length")
            return submit(request) if "=== Step 1 ===" in request.prompt else cut

        rlm, _ = play("q -> a", root)
        with dspy.context(disable_history=True):
            assert rlm(q="?").run.turns_lost == {"cut_off": 1}


@both
@pytest.mark.parametrize("engine", ["litellm", "auto"])
@pytest.mark.sampled(8)
@pytest.mark.parametrize(("cost", "booked"), [(0.25, 0.25), (0.0, 0.0), (-1.0, None), (None, None)])
def test_the_cost_in_the_header_of_a_proxy_is_booked(cost, booked, engine, how):
    """LiteLLM's proxy knows the price of a call, and says so in a header of its response."""
    ledger = Ledger(Budget())
    with PolicyServer({"lm": lambda _: chat.Counted("x", 5, 5, cost=cost)}) as server:
        lm = metered(server.lm("lm", engine=engine), Meter(ledger, "sub_llm", 0))
        lm("hi") if how == "sync" else asyncio.run(lm.acall("hi"))

    (call,) = ledger.sub_calls()
    assert call.cost == booked


@both
def test_the_costs_of_a_run_behind_a_proxy_are_its_headers(play, how):
    """Turns, sub-calls and batches are booked with the cost that the proxy reports for each, and no request twice."""
    sub = lambda _: chat.Counted("x", 5, 5, cost=0.25)  # noqa: E731
    moves = scripted(
        Action("", "sub_llm('one'); sub_llm_batched(['two', 'three'])"), Action("", "SUBMIT('')")
    )

    def root(request: Any) -> Any:
        return chat.Counted(moves(request), 5, 5, cost=2.0)

    rlm, server = play("q -> a", root, sub=sub)
    used_before = server.lm("sub")
    used_before("before the run")  # its connections exist already
    rlm.sub_lm = used_before
    report = run_once(rlm, how, q="?").run

    assert report.cost == pytest.approx(2 * 2.0 + 3 * 0.25)
    assert [call.cost for call in report.sub_calls] == [0.25] * 3


def test_several_candidates_cost_what_their_requests_cost():
    """DSPy sends a request for each of `n` candidates."""
    ledger = Ledger(Budget())
    with PolicyServer({"lm": lambda _: chat.Counted("x", 5, 5, cost=0.25)}) as server:
        metered(server.lm("lm", n=3), Meter(ledger, "sub_llm", 0))("hi")
        requests = len(server.requests)

    assert ledger.cost() == pytest.approx(0.25 * requests)


def test_prices_of_the_program_take_precedence_over_a_proxys():
    """The report counts with `prices=`, as the limits do."""
    budget = Budget(prices={"openai/lm": (1.0, 1.0)})
    ledger = Ledger(budget)
    with PolicyServer({"lm": lambda _: chat.Counted("x", 5, 5, cost=0.25)}) as server:
        metered(server.lm("lm"), Meter(ledger, "sub_llm", 0))("hi")

    assert ledger.cost() == pytest.approx(10 / 1e6)


def test_a_header_that_is_no_number_is_no_cost():
    """Usage that a server sends is not trusted to be a number."""
    reading = Reading(None)
    reading.add_usage("lm", {"prompt_tokens": 1})
    for value in ("nan", "inf", "a", "", None, []):
        response = SimpleNamespace(_hidden_params={"additional_headers": {COST_HEADER: value}})
        reading.history.append({"response": response, "cost": None})

    assert reading.cost is None
