"""Budgets of whole runs: what ends one, what is charged, and what the report says of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from datetime import UTC, datetime

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from thrifty_pool import ThriftyPool

from dspy_rlm import RLM, BudgetExceededError, CodeType, Limits, RunFailedError
from dspy_rlm.errors import PriceUnknownError
from dspy_rlm.testing import Action, Fault, PolicyServer, fields, route, rules, scripted
from dspy_rlm.testing import asks_for as asks


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


def root(*codes, **extracted):
    moves = scripted(*(Action("", code) for code in codes))
    return route((asks("code"), moves), otherwise=fields(lambda _: extracted))


class TestEnds:
    def test_failed_turns_in_a_row_end_a_run(self, play):
        """A run ends after `max_errors` consecutive failed turns; a successful one resets the count."""
        rlm, server = play(
            "q -> answer",
            *("1/0", "print('fine')", "1/0", "2/0", "SUBMIT('never')"),
            extracted={"answer": "from the steps"},
            max_errors=2,
        )
        result = rlm(q="?")

        assert (result.run.status, result.run.stopped_by) == ("extracted", "max_errors")
        assert result.answer == "from the steps"
        assert result.run.iterations == 4
        assert "1 of 2 failed turns in a row" in server.requests[3].prompt
        assert "2 failed turns in a row end the run." in server.requests[0].messages[0].text

    def test_tokens_end_a_run_while_the_extraction_can_be_paid(self, play):
        """The limit applies to all LMs together; the rest is in the prompt and in BUDGET()."""
        rlm, server = play(
            "q -> answer",
            *["print(BUDGET())"] * 20,
            extracted={"answer": "x"},
            max_tokens=9000,
        )
        result = rlm(q="?")

        assert (result.run.status, result.run.stopped_by) == ("extracted", "max_tokens")
        used = sum(u.input_tokens + u.output_tokens for u in result.run.usage)
        assert used <= 9000
        assert 1 < result.run.iterations < 8
        assert "9,000 tokens left" in server.requests[0].prompt
        assert "'tokens': " in outputs(result)[0]

    def test_a_sub_call_that_does_not_fit_is_refused_before_it_is_sent(self, play):
        """A sub-call that does not fit is refused before it is sent, and the run continues."""
        rlm, server = play(
            "q -> answer: str",
            "sub_llm('x' * 40_000)",
            "SUBMIT(sub_llm('short'))",
            sub=rules([], default="ok"),
            max_tokens=9000,
        )
        result = rlm(q="?")

        assert "BudgetExceededError" in outputs(result)[0]
        assert "(max_tokens)" in outputs(result)[0]
        assert result.answer == "ok"
        assert [e.prompt for e in server.requests_to("sub")] == ["short"]

    def test_time_ends_a_run(self, play):
        """The time limit is checked between turns and ends the run."""
        rlm, _ = play(
            "q -> answer",
            *["import time; time.sleep(0.8)"] * 20,
            extracted={"answer": "late"},
            max_seconds=2,
        )
        result = rlm(q="?")

        assert (result.answer, result.run.stopped_by) == ("late", "max_seconds")
        assert result.run.iterations < 10

    def test_dollars_end_a_run(self, kept):
        """`max_cost` ends a run of a model whose price DSPy knows; the total is the sum of all calls."""
        models = {"gpt-4o-mini": root(*["print(1)"] * 20, answer="x")}
        with PolicyServer(models) as server, dspy.context(lm=server.lm("gpt-4o-mini")):
            result = RLM("q -> answer", max_cost=0.0012, pool=kept)(q="?")

        assert (result.run.status, result.run.stopped_by) == ("extracted", "max_cost")
        assert 0.0005 < result.run.cost <= 0.0012
        assert result.run.cost == pytest.approx(sum(usage.cost for usage in result.run.usage))

    def test_an_unknown_price_and_a_limit_in_dollars_do_not_go_together(self, play):
        """A price that DSPy's table does not have is refused before the first call, with what to do."""
        rlm, server = play("q -> answer", "print(1)", "SUBMIT('x')", max_cost=1)

        with pytest.raises(PriceUnknownError, match=r"prices=.*openai/root.*dollars for a million"):
            rlm(q="?")
        with pytest.raises(PriceUnknownError, match="prices="):
            asyncio.run(rlm.acall(q="?"))
        assert server.requests == []

    def test_a_sub_lm_without_a_price_is_refused_too(self, play):
        """The prices of the sub-LMs are checked with that of the root."""
        prices = {"root": (0, 0)}
        rlm, server = play("q -> answer", "SUBMIT('x')", max_cost=1, prices=prices)

        with pytest.raises(PriceUnknownError, match="openai/sub"):
            rlm(q="?")
        assert server.requests == []

    @pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
    def test_an_lm_with_prices_of_its_own_is_asked(self, play):
        """The cost of an LM that sends its calls itself may be known afterwards: it ends the run if not."""

        class Own(dspy.LM):
            def forward(self, *args, **options):
                return super().forward(*args, **options)

        rlm, server = play(
            "q -> answer", "print(1)", "SUBMIT('x')", max_cost=1, prices={"sub": (0, 0)}
        )
        rlm.set_lm(Own("openai/root", api_base=server.base_url, api_key="none", cache=False))

        with pytest.raises(RunFailedError, match="Limit the run by max_tokens") as caught:
            rlm(q="?")
        assert caught.value.run.cost is None
        assert len(server.requests) == 1


class Slow:
    """An input that takes its time."""


class TestTime:
    """`max_seconds` cancels the work in progress, in time for the outputs to be extracted."""

    @staticmethod
    def results(rlm):
        """Returns the results of both calls; each must end far below the minute that a cell may take."""
        began = time.monotonic()
        yield rlm(q="?")
        yield asyncio.run(rlm.acall(q="?"))
        assert time.monotonic() - began < 55

    @pytest.mark.parametrize(
        "code",
        [
            "import time\ntime.sleep(55)",
            "wait()",
            pytest.param("while True: pass", marks=pytest.mark.nightly),
            pytest.param("sum(range(10**12))", marks=pytest.mark.nightly),  # waits out its grace
            pytest.param("await wait.aio()", marks=pytest.mark.nightly),
        ],
    )
    def test_a_cell_is_cut(self, play, held, code):
        """A cell is cut off even in a tool that never returns; the step says so, and the extraction sees it."""

        def wait() -> None:
            """Never returns."""
            held.wait()

        seconds = (
            5 if "sum" in code else 2
        )  # what is held back for the extraction must outlast the grace
        rlm, server = play(
            "q -> answer",
            "print('a clue')",
            code,
            tools=[wait],
            extracted={"answer": "from the clue"},
            max_seconds=seconds,
        )
        for result in self.results(rlm):
            assert (result.answer, result.run.stopped_by) == ("from the clue", "max_seconds")
            assert result.run.status == "extracted"
            assert "TimeoutError: The cell was stopped. At second " in outputs(result)[1]
        assert f"of {seconds} (max_seconds)" in server.requests[-1].prompt

    @pytest.mark.nightly  # waits two limits out
    def test_a_cell_that_is_watched_is_interrupted(self, play):
        """With handlers too, a cell is interrupted before its process is killed."""
        rlm, _ = play(
            "q -> answer",
            "import time\ntry:\n    time.sleep(55)\nfinally:\n    print('tidied up')",
            extracted={"answer": "x"},
            max_seconds=2,
            limits=Limits(grace_seconds=10),
        )
        with dspy.context(callbacks=[BaseCallback()]):
            for result in self.results(rlm):
                assert outputs(result)[0].startswith("tidied up")
                assert result.run.stopped_by == "max_seconds"

    def test_a_call_of_the_root_lm_is_abandoned(self, kept, held):
        """An abandoned call of the root LM leaves no step."""

        def late(request):
            held.wait()
            return ""

        moves = scripted(Action("", "print('a clue')"))
        player = route(
            (lambda r: asks("code")(r) and "a clue" in r.prompt, late),
            (asks("code"), moves),
            otherwise=fields(lambda _: {"answer": "x"}),
        )
        with PolicyServer({"root": player}) as server, dspy.context(lm=server.lm("root")):
            for result in self.results(RLM("q -> answer", max_seconds=2, pool=kept)):
                assert (result.answer, result.run.stopped_by) == ("x", "max_seconds")
                assert outputs(result) == ["a clue"]
            held.set()

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        "code",
        [
            "sub_llm('?')",
            "sub_llm_batched(['1', '2'])",
            "predict('q -> a', q=q)",
            "sub_rlm('q -> a', q=q)",
        ],
    )
    def test_sub_calls_are_abandoned(self, play, held, code):
        """Sub-calls, including sub-runs, are abandoned, and nothing more is sent."""
        prompts = []

        def late(request):
            prompts.append(request)
            held.wait()
            return ""

        seconds = 6 if "sub_rlm" in code else 3  # its sandbox is to be there in time
        rlm, _ = play("q -> answer", code, sub=late, extracted={"answer": "x"}, max_seconds=seconds)
        for result in self.results(rlm):
            assert (result.answer, result.run.stopped_by) == ("x", "max_seconds")
            assert result.run.sub_calls
            assert all("max_seconds" in call.error for call in result.run.sub_calls)
        assert len(prompts) == 2 * (2 if "batched" in code else 1)
        held.set()

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_an_extraction_that_hangs_ends_the_run(self, kept, held, asynchronous):
        """A hanging extraction ends the run a little late, with everything found so far."""

        def late(request):
            held.wait()
            return ""

        player = route((asks("code"), scripted(Action("", "print('a clue')"))), otherwise=late)
        with PolicyServer({"root": player}) as server, dspy.context(lm=server.lm("root")):
            rlm = RLM("q -> answer", max_iterations=1, max_seconds=2, pool=kept)
            with pytest.raises(RunFailedError, match="The time of the run is over") as caught:
                asyncio.run(rlm.acall(q="?")) if asynchronous else rlm(q="?")
            assert [step.output for step in caught.value.run.steps] == ["a clue"]
            held.set()

    def test_it_may_be_over_while_inputs_are_assigned(self, play):
        """Time that runs out while inputs are assigned ends the run with the cause and the report."""
        pool = ThriftyPool(keeps=0, max_sessions=1)

        def payload(_value):
            while pool.queue.held:  # until the sandbox is closed
                threading.Event().wait(0.01)
            return "1"

        rule = CodeType(Slow, payload=payload, code=lambda value, name, raw: f"{name} = {raw}")
        rlm, server = play("slow -> a", types=[rule], pool=pool, max_seconds=0.1)
        with pytest.raises(
            RunFailedError, match="stopped before its first turn: The time"
        ) as caught:
            rlm(slow=Slow())
        pool.close()

        assert isinstance(caught.value.__cause__, BudgetExceededError)
        assert caught.value.run.status == "failed"
        assert not server.requests

    def test_time_in_line_does_not_count(self, play):
        """The time in the queue does not count: the run starts with its sandbox."""
        pool = ThriftyPool(keeps=0, max_sessions=1)
        rlm, _ = play("q -> answer", "SUBMIT('x')", pool=pool, max_seconds=60)
        slot = pool.slot()

        async def main():
            run = asyncio.ensure_future(rlm.acall(q="?"))
            await asyncio.wait([run], timeout=0.3)
            assert not run.done()
            free = datetime.now(UTC)
            slot.release()
            return free, await run

        free, result = asyncio.run(main())
        assert result.run.started_at >= free
        assert result.run.stopped_by == "SUBMIT"
        pool.close()


@pytest.fixture
def held():
    """An event that tools wait for, set when the test ends."""
    event = threading.Event()
    yield event
    event.set()


class TestCharges:
    def test_cache_hits_are_free(self, kept):
        """A prompt that DSPy's cache answers is refunded to the budget."""
        prompt = uuid.uuid4().hex
        models = {
            "root": root(f"SUBMIT([sub_llm('{prompt}') for _ in range(5)])"),
            "sub": rules([], default="yes"),
        }
        with PolicyServer(models) as server, dspy.context(lm=server.lm("root")):
            lm = server.lm("sub", cache=True)
            rlm = RLM("q -> answer: list", sub_lm=lm, max_llm_calls=2, pool=kept)
            result = rlm(q="?")

            assert result.answer == ["yes"] * 5
            assert len(server.requests_to("sub")) == 1
        run = result.run
        assert run.llm_calls == 1
        assert [call.cached for call in run.sub_calls] == [False] + [True] * 4
        assert [(u.calls, u.cached) for u in run.usage if u.model == "openai/sub"] == [(1, 4)]

    def test_a_failed_call_is_in_the_log(self, play):
        """A failed call is logged with its reason, and without the LM's key."""
        rlm, server = play(
            "q -> answer: str",
            "sub_llm('?')",
            "SUBMIT(sub_llm('hello'))",
            sub=rules([], default="hi"),
        )
        server.fail("sub", Fault(status=400, message="no such prompt"))
        failed, answered = rlm(q="?").run.sub_calls

        assert "no such prompt" in failed.error
        assert (answered.kind, answered.model, answered.depth) == ("sub_llm", "openai/sub", 0)
        assert (answered.chars_in, answered.chars_out, answered.error) == (5, 2, "")
        assert answered.seconds > 0

    def test_the_report_is_there_whatever_ends_the_run(self, play):
        """Every ending of a run has a report, a failing root LM included, and it is plain data."""
        rlm, server = play("q -> answer", "sub_llm('?')", sub=rules([], default="x"))
        server.fail("root", Fault(status=400, message="gone", after=1, times=None))

        with pytest.raises(RunFailedError) as caught:
            rlm(q="?")
        dumped = json.loads(json.dumps(caught.value.run.dump()))

        assert [call["kind"] for call in dumped["sub_calls"]] == ["sub_llm"]
        assert {usage["model"] for usage in dumped["usage"]} == {"openai/root", "openai/sub"}
        assert dumped["cost"] is None
        assert dumped["started_at"].startswith("20")

    def test_tokens_are_those_that_the_lm_reports(self, play):
        """Token counts are those that the LMs report, by model and depth."""
        rlm, server = play(
            "q -> answer: str", "SUBMIT(sub_llm('12345678'))", sub=rules([], default="1234")
        )
        usage = {u.model: u for u in rlm(q="?").run.usage}

        assert (usage["openai/sub"].input_tokens, usage["openai/sub"].output_tokens) == (2, 1)
        assert usage["openai/root"].calls == len(server.requests_to("root"))
