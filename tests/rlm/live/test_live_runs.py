"""The live view of real runs: what a display is shown of them, and that it never changes or fails one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
import live_events as live
import pytest
from thrifty_pool import ThriftyPool

from dspy_rlm import RLM, configure
from dspy_rlm.errors import RunFailedError, SignatureError
from dspy_rlm.live import words
from dspy_rlm.live.choosing import display_for
from dspy_rlm.live.plain import PlainDisplay
from dspy_rlm.live.state import RunView
from dspy_rlm.live.tree import Tree
from dspy_rlm.runs.observed import viewing
from dspy_rlm.testing import Fault, PolicyServer, asks_for, route, scripted


class Watching(live.Silent):
    """A display that keeps the trees, and looks at them at each change."""

    def __init__(self) -> None:
        super().__init__()
        self.trees: list[Tree] = []
        self.seen: list[str] = []
        self._lock = threading.Lock()

    def begin(self, tree: Tree) -> None:
        """Keeps the tree."""
        self.trees.append(tree)

    def changed(self, tree: Tree) -> None:
        """Notes where the run is, and the line that runs."""
        step = tree.root.step
        line = step.line if step is not None else 0
        with self._lock:
            self.seen.append(f"{words.phase(tree.root)} @{line}")

    def end(self, tree: Tree) -> None:
        """Counts it."""
        self.calls.append("end")


@pytest.fixture
def watching() -> Watching:
    """Returns a display for `live=`."""
    return Watching()


def answered(_request: Any) -> str:
    """The reply of a sub-LM."""
    return "because"


def part_or_answer() -> Any:
    """A sub-LM that plays sub-runs too."""
    part = scripted_code("SUBMIT(n=len(part))")
    return route((asks_for("code"), part), otherwise=answered)


def scripted_code(*codes: str) -> Any:
    """A root LM that writes these cells."""
    from dspy_rlm.testing import Action

    return scripted(*(Action("Because.", code) for code in codes))


def run_of(watching: Watching) -> RunView:
    """Returns the state of the only tree."""
    (tree,) = watching.trees
    return tree.root


class TestRuns:
    def test_a_run_with_all_of_it(self, play, watching):
        """Steps, the line that runs, a batch with failures, a loop, a tool, sub-runs, and figures as in the report."""

        def lookup(name: str) -> str:
            """Looks a name up."""
            return name.upper()

        rlm, server = play(
            "text -> answer",
            "prompts = [f'why {n}' for n in range(4)]\n\nrs = sub_llm_batched(prompts)\nfor n in range(3):\n    lookup('x')",
            "1/0",
            "rs = sub_rlm_batched('part -> n: int', [text, text + 'x'])\nprint(sub_llm('one more'))",
            "SUBMIT(answer='done')",
            sub=part_or_answer(),
            live=watching,
            tools=[lookup],
            prices={"openai/root": (1, 1), "openai/sub": (1, 1)},
        )
        server.fail("sub", Fault(status=400, times=1))
        prediction = rlm(text="abc")
        run, report = run_of(watching), prediction.run

        assert [step.failed for step in run.steps] == [False, True, False, False]
        first, second, third, _ = run.steps
        batch, tool = first.sites
        assert (batch.name, batch.count, batch.done, batch.failed, batch.line) == (
            *("sub_llm_batched", 4, 4, 1),
            3,
        )
        assert (tool.name, tool.done, tool.is_tool, tool.line) == ("lookup", 3, True, 5)
        assert "running code, sub_llm_batched @3" in watching.seen
        assert second.line == 1
        assert (third.runs_done, third.runs_failed) == (2, 0)
        assert run.outputs == {"answer": "done"}
        assert run.totals.llm_calls == report.llm_calls
        assert run.totals.cost == pytest.approx(report.cost)
        assert run.totals.failed == 1
        assert run.totals.in_flight == 0
        assert run.bill is not None
        seconds = run.times.seconds(0.0)
        assert seconds["root"] > 0
        assert seconds["sub-LMs"] > 0
        assert watching.calls == ["end"]

    def test_an_asynchronous_run(self, kept, watching):
        """`acall` is shown in the same way; `await sub_llm.aio()` is a call of its line."""
        root = scripted_code("print(await sub_llm.aio('a'))", "SUBMIT(answer='x')")
        with PolicyServer({"root": root, "sub": answered}) as server:
            rlm = RLM("text -> answer", live=watching, sub_lm=server.lm("sub"), pool=kept)
            with dspy.context(lm=server.lm("root")):
                asyncio.run(rlm.acall(text="abc"))
        run = run_of(watching)

        assert run.steps[0].sites[0].done == 1
        assert run.steps[0].sites[0].line == 1
        assert watching.calls == ["end"]

    def test_a_run_that_fails(self, play, watching):
        """A run that an error ends is shown as failed, and its error is raised as without the view."""
        rlm, server = play("text -> answer", "print(1)", live=watching)
        server.fail("root", Fault(status=401, times=None))
        with pytest.raises(RunFailedError):
            rlm(text="abc")

        assert run_of(watching).failed
        assert watching.calls == ["end"]

    def test_a_view_that_raises(self, play, watching, caplog):
        """A broken view is off, said once, and the run has its answer."""

        def broken(_tree: Tree) -> None:
            raise RuntimeError("no more paint")

        watching.changed = broken  # type: ignore[method-assign]
        rlm, _ = play("text -> answer", "print(1)", "SUBMIT(answer='x')", live=watching)

        assert rlm(text="abc").answer == "x"
        said = [r.message for r in caplog.records if "live view" in r.message]
        assert said == [
            "The live view has failed and is off; the run continues. RuntimeError: no more paint"
        ]

    def test_prompts_are_the_same(self, play, watching):
        """Nothing that an LM reads depends on the view."""
        prompts = []
        for shown in (watching, False):
            rlm, server = play("text -> answer", "print(text)", "SUBMIT(answer='x')", live=shown)
            rlm(text="abc")
            prompts.append([one.request.messages for one in server.requests if one.request])

        assert prompts[0] == prompts[1]

    def test_plain_lines(self, play, capsys):
        """As lines, a run has its steps, the failures of batches, and the times of its parts."""
        rlm, server = play(
            "text -> answer",
            "sub_llm_batched(['a', 'b'])",
            "SUBMIT(answer='x')",
            sub=answered,
            live="plain",
        )
        server.fail("sub", Fault(status=400, message="refused", times=1))
        rlm(text="abc")
        lines = capsys.readouterr().err.split("\n")

        assert "    >>> sub_llm_batched(['a', 'b'])" in lines
        (failed,) = (line for line in lines if "1 failed" in line and "of 2" in line)
        assert failed.startswith("    sub_llm_batched: 2 of 2, 1 failed, ")
        assert "refused" in failed
        assert any(line.startswith("    Time by part: root ") for line in lines)
        assert "\x1b" not in "".join(lines)

    def test_a_sandbox_that_does_not_open(self, watching):
        """A run that ends before its first turn leaves no view behind."""

        class NoPool(ThriftyPool):
            def lend(self, *_: Any, **__: Any) -> Any:
                raise OSError("no sandbox today")

        rlm = RLM("text -> answer", live=watching, pool=NoPool())
        with (
            PolicyServer({"root": scripted_code("1")}) as server,
            dspy.context(lm=server.lm("root")),
            pytest.raises(OSError, match="no sandbox today"),
        ):
            rlm(text="abc")

        assert words.phase(run_of(watching)) == "did not start: OSError: no sandbox today"
        assert watching.calls == ["end"]


class TestChoosing:
    def test_without_a_terminal(self, capsys):
        """The view consists of lines if stderr is no terminal."""
        assert isinstance(display_for(True), PlainDisplay)

    def test_a_display_of_ones_own(self, watching):
        """Anything with the methods of a display can be one."""
        assert display_for(watching) is watching

    @pytest.mark.parametrize("live", ["rich", 1, "PLAIN"])
    def test_other_values_are_refused(self, live):
        """A word that is not known is an error, not no view."""
        with pytest.raises(SignatureError, match="live must be True, False"):
            RLM("text -> answer", live=live)

    def test_the_whole_process(self):
        """`configure(live=True)` shows all runs; an RLM's own setting goes first."""
        configure(live="plain")
        try:
            assert viewing.is_shown(RLM("text -> answer")._config)
            assert not viewing.is_shown(RLM("text -> answer", live=False)._config)
        finally:
            configure(live=None)
        assert not viewing.is_shown(RLM("text -> answer")._config)
        assert RLM("text -> answer", live=True).live is True
