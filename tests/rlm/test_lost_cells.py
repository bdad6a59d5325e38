"""Cells whose process dies: the answers that they had received are not paid again."""

from __future__ import annotations

from typing import Any

import pytest

from dspy_rlm import RLM
from dspy_rlm.testing import Action, PolicyServer, asks_for, policy, route

DIES = "import ctypes; ctypes.string_at(1 << 31)"


def uncached(rlm: RLM, server: PolicyServer) -> RLM:
    """Returns the RLM with a sub-LM that DSPy's cache does not answer for."""
    rlm.sub_lm = server.lm("sub", cache=False)
    return rlm


def echo(request: Any) -> str:
    """A sub-LM whose answer depends on the prompt alone."""
    return request.prompt.upper()


class TestAnswersOfLostCells:
    def test_the_same_calls_of_a_later_cell_are_not_sent(self, play):
        """Each of the lost cell's answers is used once, in the order of equal calls."""
        calls = "answers = [*sub_llm_batched(['a', 'b']), sub_llm('c')]"
        rlm, server = play(
            "q -> answer: list[str]",
            f"{calls}\n{DIES}",
            f"print('again')\n{calls}\nmore = sub_llm('a')",
            "SUBMIT([*answers, more])",
            sub=echo,
        )

        run = uncached(rlm, server)(q="x")

        assert run.answer == ["A", "B", "C", "A"]
        assert sorted(e.prompt for e in server.requests if e.model == "sub") == list("aabc")
        [usage] = [usage for usage in run.run.usage if usage.model == "openai/sub"]
        assert (usage.calls, usage.cached) == (4, 3)
        assert run.run.llm_calls == 4

    def test_a_cell_that_ends_by_itself_leaves_none(self, play):
        """The second of two equal questions is another one, also after a failure."""
        rlm, server = play(
            "q -> answer: str", "sub_llm('a')\n1 / 0", "SUBMIT(sub_llm('a'))", sub=echo
        )

        assert uncached(rlm, server)(q="x").answer == "A"
        assert [e.prompt for e in server.requests if e.model == "sub"] == ["a", "a"]

    @pytest.mark.nightly  # `test_those_of_its_sub_runs_are_kept_too` has one death
    def test_they_outlast_several_deaths(self, play):
        """Answers that a cell had from a lost one are kept again if it is lost too."""
        rlm, server = play(
            "q -> answer: str",
            f"sub_llm('a')\n{DIES}",
            f"sub_llm('a'), sub_llm('b')\n{DIES}",
            "SUBMIT(sub_llm('a') + sub_llm('b'))",
            sub=echo,
        )

        assert uncached(rlm, server)(q="x").answer == "AB"
        assert [e.prompt for e in server.requests if e.model == "sub"] == ["a", "b"]

    def test_those_of_its_sub_runs_are_kept_too(self, play):
        """A repeated sub-run asks its own LM anew, whose prompt shows other calls left; its code has its answers again."""

        def part(_task: Any):
            yield Action("", "SUBMIT(total=len(sub_llm(f'Part {text}')))")

        sub = route((asks_for("code"), policy(part)), otherwise=echo)
        call = "total = sub_rlm('text -> total: int', text='abc').total"
        rlm, server = play("q -> answer: int", f"{call}\n{DIES}", call, "SUBMIT(total)", sub=sub)

        assert uncached(rlm, server)(q="x").answer == 8
        assert [e.prompt for e in server.requests if e.prompt.startswith("Part")] == ["Part abc"]
