"""Logs of `rlms` and `fast-rlm` as records. `logs/rlms-0.1.3.jsonl` is one that `rlms` 0.1.3 wrote, against a scripted server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dspy_rlm.journal import JournalError, MissingValueError
from dspy_rlm.journal.imports import from_fast_rlm, from_rlms

RLMS = Path(__file__).with_name("logs") / "rlms-0.1.3.jsonl"

Event = dict[str, object]


def event(run: str, kind: str, *, parent: str = "", second: int = 0, **fields: object) -> Event:
    """An event as fast-rlm's logger writes it."""
    time = f"2026-02-22T14:56:{second:02}.866Z"
    above = {"parent_run_id": parent} if parent else {}
    return {
        "level": 30,
        "time": time,
        "run_id": run,
        **above,
        "depth": 0,
        "event_type": kind,
        **fields,
    }


def usage(tokens: int) -> Event:
    """The usage of a step."""
    return {
        "prompt_tokens": tokens,
        "completion_tokens": 7,
        "total_tokens": tokens + 7,
        "cost": 0.25,
    }


LOOK = {
    "step": 0,
    "code": "print(context)",
    "output": "Context: it",
    "hasError": False,
    "usage": usage(0),
}
AGENTS = [
    event("r", "agent_start"),
    event("r", "execution_result", second=1, **LOOK),
    event("c", "agent_start", parent="r", second=2),
    event("c", "execution_result", parent="r", second=3, **LOOK),
    event("c", "code_generated", parent="r", second=4, step=1, code="FINAL(2)", usage=usage(20)),
    event("c", "final_result", parent="r", second=4, result=2),
    event("c", "agent_end", parent="r", second=4),
    event(
        "r",
        "execution_result",
        second=5,
        step=1,
        code="x = await llm_query('?')\nprint(x)\n1/0",
        output="2\nError: division by zero",
        hasError=True,
        reasoning="Ask.",
        usage=usage(10),
        timestamps={
            "llm_call_start": "2026-02-22T14:56:01.000Z",
            "llm_call_end": "2026-02-22T14:56:01.500Z",
            "execution_start": "2026-02-22T14:56:01.500Z",
            "execution_end": "2026-02-22T14:56:05.000Z",
        },
    ),
    event("r", "code_generated", second=6, step=2, code="", usage=usage(11)),
    event("r", "code_generated", second=7, step=3, code="FINAL({'n': x})", usage=usage(12)),
    event("r", "final_result", second=8, result={"n": 2}),
    event("r", "agent_end", second=8),
]  # fmt: skip


def written(path: Path, lines: list[Event]) -> Path:
    """The file with these lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


class TestRlms:
    def test_a_log_is_a_run_with_steps_calls_and_sub_runs(self):
        """Blocks of one iteration are one cell; a plain call is a sub-call, a recursive one a sub-run."""
        run = from_rlms(RLMS)
        first, second, third = run.steps

        assert (
            first.code
            == "print(context[:20])\n\nx = llm_query('Is it red? ' + context[:10])\nprint(x)"
        )
        assert first.reasoning.split() == ["I", "look", "first.", "Then", "I", "ask."]
        assert first.root_calls[0].prompt.messages()[0]["role"] == "system"
        (call,) = first.sub_calls
        assert (call.model, call.prompt.text(), call.reply) == (
            "sub", "[user]\nIs it red? The apple ", ["yes"]
        )  # fmt: skip
        assert (call.input_tokens, call.output_tokens, call.cost) == (6, 1, None)
        assert second.cell is not None
        assert (second.cell.outcome, second.cell.error_type) == ("failed", "NameError")
        (sub_run,) = second.sub_runs
        assert sub_run.parent_call == second.tools[0].call_id
        assert run.value(sub_run.outputs["answer"]) == "two"
        assert third.cell is not None
        assert third.cell.outcome == "submitted"

    def test_the_whole_is_there_as_far_as_the_log_has_it(self):
        """Answer, context and settings are read; tokens of the root's calls are not in such a log."""
        run = from_rlms(RLMS)

        assert run.value(run.outputs["answer"]) == "red"
        assert run.value(run.inputs["context"]) == "The apple is red and round."
        assert run.ended == {"status": "submitted", "stopped_by": "SUBMIT"}
        assert run.config["budget"] == {"max_iterations": 6, "max_depth": 2}
        assert run.steps[0].root_calls[0].input_tokens is None
        assert len(list(run.calls())) == 5

    def test_of_several_runs_one_is_chosen(self, tmp_path):
        """A logger that is used again writes to the same file, and counts iterations from 1."""
        metadata, *iterations = RLMS.read_text("utf-8").splitlines(keepends=True)
        path = tmp_path / "two.jsonl"
        path.write_text(metadata + "".join(iterations) + iterations[0], "utf-8")

        with pytest.raises(JournalError, match=r"has 2 runs\. Choose one: number=1 to 2"):
            from_rlms(path)
        assert [len(from_rlms(path, number=n).steps) for n in (1, 2)] == [3, 1]
        assert from_rlms(path, number=2).ended is None
        with pytest.raises(JournalError, match="no number 3"):
            from_rlms(path, number=3)

    @pytest.mark.parametrize(
        ("number", "line", "problem"),
        [
            (2, '{"type": "iterat', "line 2 is not JSON.*it is torn"),
            (3, "[1]", "line 3 is not a JSON object"),
            (2, '{"type": "iteration", "response": 7}', "line 2: response is not a text"),
            (2, '{"type": "iteration", "timestamp": "noon", "response": ""}', "line 2: timestamp is not a time"),
            (2, '{"type": "step"}', "line 2: 'step' is not a type"),
            (2, '{"type": "iteration", "response": "", "iteration_time": -1}', "line 2: iteration_time is not a number"),
            (
                2,
                '{"type": "iteration", "response": "", "code_blocks": [{"result": {"rlm_calls": [3]}}]}',
                r"line 2, code_blocks\[0\], result, rlm_calls\[0\] is not a JSON object",
            ),
            (2, '{"type": ' + "[" * 5_000 + "]" * 5_000 + "}", "line 2 is not JSON"),
            (2, '{"type": "iteration", "iteration": NaN}', "line 2: iteration is not a number"),
        ],
    )  # fmt: skip
    def test_a_damaged_line_is_named(self, tmp_path, number, line, problem):
        """An error has the file, the line and what is wrong with it."""
        lines = RLMS.read_text("utf-8").splitlines(keepends=True)[: number - 1]
        path = tmp_path / "damaged.jsonl"
        path.write_text("".join(lines) + line, "utf-8")

        with pytest.raises(JournalError, match=problem):
            from_rlms(path)

    def test_another_file_is_no_log(self, tmp_path):
        """An empty file, a log of another system and a folder are refused."""
        (tmp_path / "empty.jsonl").touch()

        with pytest.raises(JournalError, match="no line of metadata"):
            from_rlms(tmp_path / "empty.jsonl")
        with pytest.raises(JournalError, match="line 1: '' is not a type"):
            from_rlms(written(tmp_path / "other.jsonl", AGENTS))
        with pytest.raises(JournalError, match="is a folder"):
            from_rlms(tmp_path)


class TestFastRlm:
    def test_sub_agents_belong_to_the_step_that_started_them(self, tmp_path):
        """It is the step of the agent above whose result comes next."""
        run = from_fast_rlm(written(tmp_path / "run.jsonl", AGENTS))

        assert [len(step.sub_runs) for step in run.steps] == [0, 1, 0, 0]
        (child,) = run.steps[1].sub_runs
        assert (child.parent_run, child.parent_call) == ("r", run.steps[1].tools[0].call_id)
        assert child.value(child.outputs["answer"]) == 2
        assert run.value(run.outputs["answer"]) == {"n": 2}

    def test_steps_have_calls_outcomes_and_times(self, tmp_path):
        """The look at the context has no call; a reply without code has no cell; the last cell submits."""
        run = from_fast_rlm(written(tmp_path / "run.jsonl", AGENTS))
        look, asks, empty, last = run.steps

        assert (look.calls, empty.cell) == ((), None)
        assert [step.cell and step.cell.outcome for step in (look, asks, last)] == [
            "completed", "failed", "submitted"
        ]  # fmt: skip
        assert (asks.reasoning, asks.cell.message, asks.cell.seconds) == (
            "Ask.",
            "division by zero",
            3.5,
        )
        assert [call.input_tokens for call in run.calls()] == [10, 11, 12, 20]
        assert sum(call.cost for call in run.calls()) == 1.0
        assert asks.calls[0].attempts[0].seconds == 0.5

    def test_a_run_that_crashed_is_read_up_to_its_end(self, tmp_path):
        """Without an end it has no report, and the agents of its last step are in the unfinished one."""
        run = from_fast_rlm(written(tmp_path / "run.jsonl", AGENTS[:5]))

        assert (run.ended, run.outputs) == (None, None)
        assert run.unfinished is not None
        assert [one.run_id for one in run.unfinished.sub_runs] == ["c"]

    def test_of_several_runs_one_is_chosen(self, tmp_path):
        """A file may have the runs of a whole benchmark."""
        path = written(tmp_path / "runs.jsonl", [*AGENTS, event("s", "execution_result", **LOOK)])

        with pytest.raises(JournalError, match=r"has 2 runs\. Choose one with run_id: r, s"):
            from_fast_rlm(path)
        assert from_fast_rlm(path, run_id="s").run_id == "s"
        with pytest.raises(JournalError, match="has no run x"):
            from_fast_rlm(path, run_id="x")

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            (event("r", "boom"), "line 2: 'boom' is not an event"),
            (event("c", "agent_start", parent="nobody"), "line 2: the run above it, nobody, is not in the log"),
            (event("r", "execution_result", code=1), "line 2: code is not a text"),
            (event("r", "code_generated", code="", usage={"prompt_tokens": 1.5}), "line 2, usage: prompt_tokens is not a whole number"),
        ],
    )  # fmt: skip
    def test_a_damaged_line_is_named(self, tmp_path, line, problem):
        """An error has the line and what is wrong with it."""
        path = written(tmp_path / "run.jsonl", [event("r", "agent_start"), line])

        with pytest.raises(JournalError, match=problem):
            from_fast_rlm(path)

    def test_what_a_log_does_not_have_is_said(self, tmp_path):
        """The context of an agent is not in its log."""
        run = from_fast_rlm(written(tmp_path / "run.jsonl", AGENTS))

        with pytest.raises(MissingValueError, match="does not have it"):
            run.value(run.inputs["context"])
