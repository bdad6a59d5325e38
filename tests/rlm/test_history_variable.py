"""The steps of a run as a variable of its REPL, in runs whose prompts do not hold all of them."""

from __future__ import annotations

import uuid

import dspy
import pytest

from dspy_rlm import SandboxInterpreter
from dspy_rlm.journal import load
from dspy_rlm.repl.past import Past
from dspy_rlm.reports.report import Step
from dspy_rlm.testing import Action, Fault, PolicyServer

PRINTS = [f"x{n} = {n}\nprint('line {n:02} of the output\\n' * 900)" for n in range(1, 9)]
LAST = (
    "found = [s['step'] for s in history if 'line 03' in s['output']]\n"
    "SUBMIT([len(history), *found, history[2]['code'] , len(history[2]['output']), history[-1]['step']])"
)
ANSWER = "[8, 3, \"x3 = 3\\nprint('line 03 of the output\\\\n' * 900)\", 19799, 8]"


class TestHistory:
    @pytest.mark.parametrize("factory", [None, SandboxInterpreter])
    def test_code_can_search_all_of_it(self, play, factory):
        """It has every step with its whole output, also what no prompt ever showed; in other interpreters too."""
        rlm, server = play(
            "q -> a", *PRINTS, LAST, history_tokens=8_000, interpreter_factory=factory
        )
        prediction = rlm(q="x")
        prompts = [exchange.prompt for exchange in server.requests]

        assert eval(prediction.a) == eval(ANSWER)
        assert "the variable `history`" in prompts[-1]
        assert "the variable `history`" not in prompts[1]
        assert prediction.run.compactions > 0
        assert [step.code for step in prediction.run.steps] == [*PRINTS, LAST]

    def test_it_grows_with_the_run(self, play):
        """Each cell that names it sees all steps before it; a copy that it holds is the same list."""
        rlm, _ = play(
            "q -> a: list[int]",
            *PRINTS,
            "mine = history; n = len(history)",
            "n2 = len(history)",
            "SUBMIT([n, n2, len(history), len(mine)])",
            history_tokens=8_000,
        )

        assert rlm(q="x").a == [8, 9, 10, 10]

    @pytest.mark.parametrize(
        ("signature", "inputs", "moves"),
        [
            ("history -> a: list[int]", {"history": "mine"}, []),
            ("q -> a: list[int]", {"q": "x"}, ["history = 'mine'"]),
        ],
    )
    def test_another_variable_of_this_name_stays(self, play, signature, inputs, moves):
        """The user's input and what a cell has bound are not replaced: the steps get another name."""
        rlm, server = play(
            signature,
            *moves,
            *PRINTS,
            "SUBMIT([len(run_history), len(history)])",
            history_tokens=8_000,
        )

        assert rlm(**inputs).a == [8 + len(moves), 4]
        assert "the variable `run_history`" in server.requests[-1].prompt

    def test_a_cell_may_take_the_name(self, play):
        """A cell that binds the name has a variable of its own from there on."""
        rlm, _ = play(
            "q -> a: list[int]",
            *PRINTS,
            "n = len(history)",
            "history = [n]",
            "history.append(7)",
            "SUBMIT(history)",
            history_tokens=8_000,
        )

        assert rlm(q="x").a == [8, 7]


class TestPast:
    STEPS = (Step("r", "x = 1", "1"), Step("r", "def f(): ...", "short", printed="long " * 10))

    def test_it_costs_nothing_before(self):
        """Without a compaction no code of ours runs, and a cell that does not name it needs none."""
        past = Past(self.STEPS, ())

        assert past.refreshing("len(history)") == ""
        assert past.choose() == "history"
        assert past.refreshing("len(x)") == ""
        assert past.refreshing("len(history)") == "history = HISTORY()"
        assert past.refreshing("f()") == "history = HISTORY()"

    def test_names_that_are_taken_are_not_used(self):
        """Inputs, tools and what cells have bound come first; without a free name there is no variable."""
        bound = [Step("", "history, y = 1, 2", "")]

        assert Past(bound, ()).choose() == "run_history"
        assert Past(bound, ("run_history",)).choose() == ""
        assert Past((), ("HISTORY",)).choose() == ""

    def test_outputs_are_whole(self):
        """A record has all that was printed, not only what the LM saw."""
        assert [record["output"] for record in Past(self.STEPS, ()).all()] == ["1", "long " * 10]
        assert Past(self.STEPS, ()).some(1)[0]["step"] == 2
        assert Past(self.STEPS, ()).some(2) == []

    def test_long_histories_cross_in_pieces(self):
        """No call hands over more than a few million characters, but for one step that is longer."""
        past = Past([Step("", "x", "y" * 3_000_000)] * 3, ())

        assert [len(past.some(start)) for start in range(4)] == [1, 1, 1, 0]


def test_equal_runs_compact_alike(kept):
    """The LM's counts of tokens are the same from DSPy's cache, so the second run sends no request."""
    question = uuid.uuid4().hex
    moves = [*PRINTS * 2, "SUBMIT(str(len(history)))"]

    def root(request):
        done = request.prompt.count("\nTurn ") and int(
            request.prompt.split("\nTurn ")[-1].split(" ")[0]
        )
        code = moves[done - 1]
        return f"[[ ## reasoning ## ]]\n.\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"

    with PolicyServer({"root": root}) as server:
        from dspy_rlm import RLM

        with dspy.context(lm=server.lm("root", cache=True), adapter=dspy.ChatAdapter()):
            rlm = RLM("q -> a", pool=kept, history_tokens=8_000)
            first = rlm(q=question)
            sent = len(server.requests)
            second = rlm(q=question)

    assert (first.a, second.a) == ("16", "16")
    assert first.run.compactions == second.run.compactions > 1
    assert len(server.requests) == sent == 17


def test_a_model_of_a_known_window_is_never_sent_too_much(kept):
    """DSPy's table has the window of the model: no prompt is refused, and there is room for the reply."""
    from dspy_rlm import RLM

    def root(request):
        turns.append(request)
        code = PRINTS[len(turns) % 8] if len(turns) < 30 else "SUBMIT(str(len(history)))"
        return f"[[ ## reasoning ## ]]\n.\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"

    turns: list = []
    with PolicyServer({"gpt-3.5-turbo": root}) as server:
        too_long = Fault(
            status=400,
            message="This model's maximum context length is 16385 tokens.",
            times=None,
            only=lambda request: sum(len(m.text) for m in request.messages) / 4 > 16_385 - 4_096,
        )
        server.fail("gpt-3.5-turbo", too_long)
        with dspy.context(lm=server.lm("gpt-3.5-turbo"), adapter=dspy.ChatAdapter()):
            prediction = RLM("q -> a", pool=kept, max_iterations=40)(q="x")

    assert prediction.a == "29"
    assert prediction.run.overflows == 0
    assert prediction.run.compactions > 3


def test_a_summary_is_booked_as_a_call_of_its_own(play):
    """The LM that writes the code is asked, with its own kind on the ledger; nothing counts as a sub-call."""
    from dspy_rlm.testing import asks_for, fields, route, scripted

    moves = scripted(*(Action("", code) for code in [*PRINTS * 4, "SUBMIT('done')"]))
    player = route(
        (asks_for("code"), moves), otherwise=fields(lambda _: {"summary": "Lines were printed."})
    )
    rlm, _ = play("q -> a", "unused", history_tokens=6_000, compaction="summary", max_iterations=40)
    with PolicyServer({"root": player}) as server:
        with dspy.context(lm=server.lm("root"), adapter=dspy.ChatAdapter()):
            prediction = rlm(q="x")
        requests_ = [e for e in server.requests if "Summarize the steps" in e.request.system]

    assert prediction.a == "done"
    assert len(requests_) >= 1
    assert "Lines were printed." in server.requests[-1].prompt
    assert prediction.run.sub_calls == ()
    assert prediction.run.llm_calls == 0
    assert sum(usage.calls for usage in prediction.run.usage) == 33 + len(requests_)


def test_the_journal_has_the_cells_of_the_lm_only(play, tmp_path):
    """The cell that fills the variable is none of the run; a step has what the LM saw, its cell all that was printed."""
    rlm, _ = play("q -> a", *PRINTS, LAST, history_tokens=8_000, journal=str(tmp_path))
    prediction = rlm(q="x")
    record = load(prediction.run.journal)
    first = record.steps[0]

    assert [record.value(step.cell.code) for step in record.steps] == [*PRINTS, LAST]
    assert len(record.value(first.shown)) < 11_000 < len(record.value(first.cell.output))
    assert record.value(first.cell.output).rstrip("\n") == prediction.run.steps[0].whole
