"""`replay`, `fork`, `branches`, `open_repl` and `compare`: one recorded run, used again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from dspy_rlm import RLM, InputError, TextFile, branches, compare, fork, open_repl, replay
from dspy_rlm.journal import load
from dspy_rlm.testing import Action, PolicyServer, asks_for, policy, route, scripted

TEXT = "\n".join(f"line {number}" for number in range(4))

MOVES = (
    "lines = text.splitlines()\nfound = sub_llm_batched([f'Rate {line}' for line in lines])\nprint(found)",
    "size = len(''.join(found))\nprint(size)",
    "SUBMIT(answer=str(size))",
)


class Item(pydantic.BaseModel):
    """A class of the program."""

    size: int


class Largest(dspy.Signature):
    """Find the largest item."""

    items: list[Item] = dspy.InputField()
    best: Item = dspy.OutputField()


def echo(request: Any) -> str:
    """A sub-LM whose answer depends on the prompt alone."""
    return request.prompt.upper()


def script(*codes: str) -> Any:
    """A root LM that writes these cells."""
    return scripted(*(Action("", code) for code in codes))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


@pytest.fixture
def recorded(play, journal):
    """A run with a batch, and the RLM and the server that it ran with."""
    rlm, server = play("text -> answer: str", *MOVES, sub=echo, journal=journal)
    return rlm(text=TEXT), rlm, server


class TestReplay:
    def test_needs_nothing_but_the_journal(self, recorded, journal):
        """No LM is configured, and nothing is sent: the prompts, the cells and the outputs are the recorded ones."""
        whole, _, server = recorded
        sent = len(server.requests)

        with dspy.context(lm=None):
            again = replay(journal)

        assert again.same, again
        assert again.first is None
        assert again.outputs == {"answer": whole.answer}
        assert again.run.usage == whole.run.usage
        assert (again.steps, again.reused, again.sent) == (3, 7, 0)
        assert len(server.requests) == sent

    def test_tools_and_sub_runs_are_not_needed(self, play, journal):
        """Their results are in the journal, and prompts document them as they were."""

        def look(key: str, times: int = 2) -> list[str]:
            """Looks a key up.

            Args:
                key: The key.
            """
            return [key] * times

        def part(_task):
            yield Action("", "SUBMIT(total=len(part))")

        sub = route((asks_for("code"), policy(part)), otherwise=echo)
        moves = (
            "print(look('a'), look(key='b', times=3))",
            "r = sub_rlm('part -> total: int', part=text)\nprint(r.total)",
            "SUBMIT(answer=str(r.total))",
        )
        rlm, _ = play("text -> answer: str", *moves, sub=sub, tools=[look], journal=journal)
        rlm(text=TEXT)

        again = replay(journal)

        assert again.same, again

    def test_classes_of_the_program_are_not_needed(self, play, journal):
        """Cells use their fields; the prompts, which document more of them, are not compared."""

        moves = "print(max(item.size for item in items))", "SUBMIT(best=Item(size=3))"
        rlm, _ = play(Largest, *moves, journal=journal)
        rlm(items=[Item(size=1), Item(size=3)])

        again = replay(journal)

        assert again.same, again
        assert again.outputs["best"].size == 3
        assert "items, best" in again.notes[0]

    def test_packages_need_the_rlm(self, recorded, journal):
        """A journal names what can be imported, which is not what a package index calls it."""
        text = journal.read_text().replace('"packages":[]', '"packages":["networkx"]')
        journal.write_text(text)

        with pytest.raises(InputError, match="networkx"):
            replay(journal)

    def test_a_run_that_crashed_is_repeated_as_far_as_it_went(self, recorded, journal, tmp_path):
        """The end of its record is no difference."""
        part = tmp_path / "part.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        part.write_bytes(b"".join(lines[: int(0.8 * len(lines))]))

        again = replay(part)

        assert again.same, again
        assert again.run is None
        assert again.steps == len(load(part).steps) < 3

    def test_another_output_is_the_first_difference(self, play, journal):
        """A cell that depends on the time prints something else."""
        moves = (
            "print(1)",
            "import time\nnow = time.time_ns()\nprint(now)",
            "SUBMIT(answer=str(now))",
        )
        rlm, _ = play("text -> answer: str", *moves, journal=journal)
        whole = rlm(text=TEXT)

        again = replay(journal)

        assert not again.same
        assert (again.first.kind, again.first.step) == ("output", 2)
        assert again.first.recorded.strip() == whole.answer
        assert "Another result of the cell in step 2" in str(again)

    def test_the_program_of_today_is_compared(self, recorded, journal):
        """With `rlm=`, its prompts and tools are those of the program as it is now."""
        _, rlm, _ = recorded
        other = RLM(
            "text -> answer: str", sub_lm=rlm.sub_lm, pool=rlm._config.pool, max_iterations=5
        )

        again = replay(journal, rlm=other)

        assert again.first.kind == "prompt"
        assert "Turn 1 of 5" in again.first.now
        assert replay(journal, rlm=other, prompts=False).same

    def test_other_prices(self, play, journal):
        """The cost of the same calls with another list of prices."""
        prices = {"openai/root": (10.0, 20.0), "openai/sub": (1.0, 2.0)}
        rlm, _ = play("text -> answer: str", *MOVES, sub=echo, journal=journal, prices=prices)
        whole = rlm(text=TEXT)
        dearer = {model: (2 * one, 2 * other) for model, (one, other) in prices.items()}

        again = replay(journal, prices=dearer)

        assert again.same, again
        assert again.recorded_cost == pytest.approx(whole.run.cost)
        assert again.cost == pytest.approx(2 * whole.run.cost)

    def test_another_root_lm_has_the_recorded_sub_answers(self, recorded, journal):
        """Only the root LM is called: its code asks the same, and gets the same answers."""
        _, rlm, server = recorded
        codes = MOVES[0], "SUBMIT(answer=found[-1])"
        at = len(server.requests_to("sub"))

        with PolicyServer({"other": script(*codes)}) as other:
            again = replay(journal, rlm=rlm, lm=other.lm("other"))

        assert again.outputs == {"answer": "RATE LINE 3"}
        assert (again.reused, again.sent) == (4, 2)
        assert len(server.requests_to("sub")) == at
        assert (again.first.kind, again.first.step) == ("code", 2)


class TestFork:
    def test_goes_on_with_another_lm(self, recorded, journal, tmp_path):
        """The steps before have their recorded answers, and the variables are there."""
        _, rlm, server = recorded
        at = len(server.requests)

        with PolicyServer({"other": script(*MOVES[:1], "SUBMIT(answer=found[0])")}) as other:
            prediction = fork(
                journal, step=1, rlm=rlm, lm=other.lm("other"), to=tmp_path / "fork.jsonl"
            )
            assert len(other.requests) == 1

        assert prediction.answer == "RATE LINE 0"
        assert len(server.requests) == at
        record = load(tmp_path / "fork.jsonl")
        assert record.config["forked_from"]["step"] == 1
        assert [step.number for step in record.steps] == [1, 2]
        assert replay(tmp_path / "fork.jsonl").same

    def test_an_edited_step(self, recorded, journal):
        """The code of the step is run instead of the recorded one, and the run goes on from there."""
        _, rlm, server = recorded

        prediction = fork(journal, step=2, rlm=rlm, edit="size = 4711\nprint(size)")

        assert prediction.answer == "4711"
        assert "size = 4711" in server.requests[-1].prompt

    def test_an_edited_observation(self, recorded, journal):
        """The root LM sees another output than the cell printed."""
        _, rlm, server = recorded

        prediction = fork(journal, step=2, rlm=rlm, edit={"output": "Nothing was found."})

        assert prediction.trajectory[1]["output"] == "Nothing was found."
        assert "Nothing was found." in server.requests[-1].prompt

    def test_other_instructions(self, recorded, journal):
        """They are in the prompts after the step."""
        _, rlm, server = recorded

        fork(journal, step=1, rlm=rlm, instructions="Answer in one word.")

        assert "Answer in one word." in server.requests[-1].messages[0].text

    def test_without_an_rlm(self, recorded, journal):
        """The configured LM goes on with a module that is built from the journal."""
        assert fork(journal, step=2).answer == recorded[0].answer

    @pytest.mark.parametrize("step", [-1, 4, "1", True])
    def test_a_step_that_does_not_exist(self, recorded, journal, step):
        """The message has the steps that there are."""
        with pytest.raises(InputError, match="from 0 to 3"):
            fork(journal, step=step)


class TestBranches:
    @pytest.mark.nightly  # five runs; the other tests of branches have fewer
    def test_the_most_votes_win(self, recorded, journal):
        """The shared steps are paid once, and not run again; each way has its own end."""
        _, rlm, server = recorded
        ends = iter(["one", "two", "two", "one", "two"])

        def root(_request: Any) -> str:
            return f"```python\nSUBMIT(answer={next(ends)!r} + str(len(found)))\n```"

        at = len(server.requests)
        with PolicyServer({"other": root}) as other:
            result = branches(journal, step=1, k=5, rlm=rlm, lm=other.lm("other"))

        assert result.prediction.answer == "two4"
        assert (result.votes, len(result.predictions)) == (3, 5)
        assert len(server.requests) == at

    @pytest.mark.nightly
    def test_a_function_chooses(self, recorded, journal):
        """It gets the predictions of all ways."""
        _, rlm, _ = recorded

        result = branches(journal, step=2, k=2, rlm=rlm, choose=lambda found: found[-1])

        assert result.prediction is result.predictions[-1]


class TestOpenRepl:
    def test_the_variables_of_a_step(self, recorded, journal):
        """They are those after the step, and cells can use them; nothing is sent."""
        _, _, server = recorded
        at = len(server.requests)

        with open_repl(journal, step=1) as repl:
            variables = repl.variables()
            result = repl.run("print(found[0], 'size' in globals())")

        assert set(variables) == {"text", "lines", "found"}
        assert variables["lines"].startswith("list: ['line 0'")
        assert result.output == "RATE LINE 0 False\n"
        assert len(server.requests) == at

    def test_the_length_of_lazy_texts(self, play, journal, tmp_path):
        """The `len` that the sandbox binds for lazy texts is none of the run's variables."""
        (tmp_path / "a.log").write_text("one two")
        rlm, _ = play("text -> n: int", "size = len(text)", "SUBMIT(size)", journal=journal)
        assert rlm(text=TextFile(tmp_path / "a.log")).n == 7

        with open_repl(journal, step=1) as repl:
            assert set(repl.variables()) == {"text", "size"}

    def test_the_history_of_the_run(self, play, journal):
        """Cells that read `history` find the steps before them, and so does a new cell."""
        first = [f"print({n}, '{'word ' * 400}')" for n in range(8)]
        last = "known = [h['step'] for h in history]\nprint(known)"
        rlm, _ = play(
            "text -> n: int",
            *first,
            last,
            "SUBMIT(len(known))",
            journal=journal,
            history_tokens=6_000,
        )
        assert rlm(text=TEXT).n == 8

        with open_repl(journal, step=9) as repl:
            variables = repl.variables()
            result = repl.run("print(len(history), history[0]['output'][:6])")

        assert repl.changed_steps == []
        assert variables["known"] == "list: [1, 2, 3, 4, 5, 6, 7, 8]"
        assert result.output == "9 0 word\n"

    def test_nothing_is_asked(self, recorded, journal):
        """A sub-LM has no answers to new prompts."""
        with open_repl(journal, step=1) as repl:
            result = repl.run("sub_llm('something new')")

        assert "NotRecordedError" in result.error_type


class TestCompare:
    def test_equal_runs(self, recorded, journal, tmp_path):
        """They part nowhere."""
        _, rlm, _ = recorded
        rlm.journal = str(tmp_path / "other.jsonl")
        rlm(text=TEXT)

        both = compare(journal, tmp_path / "other.jsonl")

        assert both.same
        assert both.a.llm_calls == both.b.llm_calls == 7
        assert "The runs are the same in 3 steps." in str(both)

    def test_the_place_where_they_part(self, recorded, journal, tmp_path):
        """The first step that differs, with what differs in it."""
        _, rlm, _ = recorded
        fork(journal, step=2, rlm=rlm, edit="size = 1\nprint(size)", to=tmp_path / "other.jsonl")

        both = compare(journal, tmp_path / "other.jsonl")

        assert (both.parted_at, both.part, both.same_steps) == (2, "code", 1)
        assert "size = 1" in both.of_b
        assert "They part at step 2" in str(both)

    def test_other_inputs(self, recorded, journal, tmp_path):
        """Runs over other inputs part before their first step."""
        _, rlm, _ = recorded
        rlm.journal = str(tmp_path / "other.jsonl")
        rlm(text=TEXT + "!")

        assert compare(journal, tmp_path / "other.jsonl").part == "inputs"
