"""`rlm.resume`: a run that was cut off goes on from its journal, and nothing that was answered is paid again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dspy_rlm import RLM, InputError, RunFailedError, TextFile
from dspy_rlm.journal import JournalError, load
from dspy_rlm.journal.stored_values import MAX_HASHED_AT_ONCE
from dspy_rlm.testing import Action, Fault, asks_for, policy, route, scripted

TEXT = "\n".join(f"line {number}" for number in range(6))

BATCH = (
    "lines = text.splitlines()\nfound = sub_llm_batched([f'Rate {line}' for line in lines])\nprint(found)",
    "import random\nlast = sub_llm(f'Last {random.random()}')\nprint(last)",
    "SUBMIT(answer=','.join([*found, last]))",
)


def echo(request: Any) -> str:
    """A sub-LM whose answer depends on the prompt alone."""
    return request.prompt.upper()


def cut(journal: Path, lines: int, folder: Path) -> Path:
    """Returns a copy of a journal with its first lines: that of a process that was killed there."""
    copy = folder / f"cut-{lines}.jsonl"
    copy.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    values = journal.with_name(f"{journal.stem}.values")
    if values.exists():
        copy.with_name(f"{copy.stem}.values").symlink_to(values)
    return copy


def lines_of(journal: Path) -> int:
    return len(journal.read_bytes().splitlines())


def answered(journal: Path) -> int:
    return sum(call.answered for call in load(journal).calls())


def totals(run: Any) -> Any:
    """The figures of a report that must not depend on interruptions."""
    return (
        run.llm_calls,
        run.status,
        [(u.model, u.depth, u.calls, u.input_tokens) for u in run.usage],
    )


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


class TestAnswersAreNotPaidTwice:
    @pytest.mark.parametrize(
        "share", [0.4, 0.8, *(pytest.param(n, marks=pytest.mark.nightly) for n in (0.1, 0.6, 0.97))]
    )
    def test_a_run_goes_on_from_any_line(self, play, journal, tmp_path, share):
        """Whatever was answered before is not sent again, and the outputs are those of the undisturbed run."""
        rlm, server = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
        whole = rlm(text=TEXT)
        sent = len(server.requests)
        part = cut(journal, int(share * lines_of(journal)), tmp_path)
        paid = answered(part)

        again = rlm.resume(part)

        assert again.answer == whole.answer
        assert len(server.requests) - sent == sent - paid
        assert again.run.llm_calls == whole.run.llm_calls
        assert [step.code for step in again.run.steps] == [step.code for step in whole.run.steps]
        assert load(part).resumes == 1

    def test_the_figures_are_those_of_the_whole_run(self, play, journal, tmp_path):
        """Calls, tokens and cost of both processes are in one report, as if there had been one."""
        rlm, _ = play(
            "text -> answer: str", *BATCH, sub=echo, journal=journal, prices={"openai/sub": (1, 2), "openai/root": (3, 4)},
        )  # fmt: skip
        whole = rlm(text=TEXT)
        complete = next(  # the line after the second step
            number + 1
            for number, line in enumerate(journal.read_bytes().splitlines())
            if b'"e":"step"' in line and b'"number":2' in line
        )

        again = rlm.resume(cut(journal, complete, tmp_path))

        assert totals(again.run) == totals(whole.run)
        assert again.run.cost == pytest.approx(whole.run.cost)

    def test_a_resumed_run_can_be_resumed(self, play, journal, tmp_path):
        """The answers to each of several processes are kept."""
        rlm, server = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
        whole = rlm(text=TEXT)
        sent = len(server.requests)
        first = cut(journal, int(0.4 * lines_of(journal)), tmp_path)
        before = lines_of(first)
        rlm.resume(first)
        second = cut(first, (before + lines_of(first)) // 2, tmp_path)
        paid, at = answered(second), len(server.requests)

        again = rlm.resume(second)

        assert again.answer == whole.answer
        assert len(server.requests) - at == sent - paid
        assert load(second).resumes == 2

    def test_sub_runs_go_on_too(self, play, journal, tmp_path):
        """A sub-run of a half-finished batch goes on from its own last answer, whichever began first."""

        def part(_task):
            yield Action(
                "", "found = sub_llm_batched([f'Part {line}' for line in part])\nprint(found)"
            )
            yield Action("", "SUBMIT(total=len(''.join(found)))")

        code = (
            "rows = [{'part': text.splitlines()[n:n + 2]} for n in (0, 2, 4)]\n"
            "totals = [r.total for r in sub_rlm_batched('part: list[str] -> total: int', rows)]\nprint(totals)"
        )
        sub = route((asks_for("code"), policy(part)), otherwise=echo)
        rlm, server = play(
            "text -> answer: str", code, "SUBMIT(answer=str(totals))", sub=sub, journal=journal
        )
        whole = rlm(text=TEXT)
        sent = len(server.requests)
        inside = [
            number
            for number, line in enumerate(journal.read_bytes().splitlines())
            if b'"attempt"' in line and b'"parent"' in line
        ]
        part_of = cut(journal, inside[len(inside) // 2], tmp_path)
        paid = answered(part_of)

        again = rlm.resume(part_of)

        assert again.answer == whole.answer
        assert len(server.requests) - sent == sent - paid
        assert again.run.llm_calls == whole.run.llm_calls

    def test_tools_are_not_called_again(self, play, journal, tmp_path):
        """A tool may have side effects: its results are repeated, and its errors."""
        called = []

        def charge(amount: int) -> int:
            """Charges an account."""
            called.append(amount)
            if amount > 2:
                raise ValueError(f"{amount} is too much")
            return amount * 10

        code = (
            "done = []\nfor n in (1, 2, 3):\n    try:\n        done.append(charge(n))\n"
            "    except ValueError as error:\n        done.append(str(error))\nprint(done)"
        )
        moves = code, "SUBMIT(answer=str(done))"
        rlm, _ = play("text -> answer: str", *moves, tools=[charge], journal=journal)
        whole = rlm(text=TEXT)

        again = rlm.resume(cut(journal, lines_of(journal) - 6, tmp_path))

        assert again.answer == whole.answer
        assert called == [1, 2, 3]

    def test_a_run_that_ended_is_not_repeated(self, play, journal):
        """Its prediction is in the journal, so nothing is sent, and no sandbox is opened."""
        rlm, server = play(
            "text -> count: int, names: list[str]",
            "SUBMIT(count=2, names=['a', 'b'])",
            journal=journal,
        )
        whole = rlm(text=TEXT)
        sent = len(server.requests)

        again = rlm.resume(journal)

        assert (again.count, again.names) == (2, ["a", "b"])
        assert again.trajectory == whole.trajectory
        assert again.run.usage == whole.run.usage
        assert len(server.requests) == sent

    def test_calls_in_flight_are_in_the_figures(self, play, journal, tmp_path):
        """A request whose answer was lost with the process may have been paid: its amounts are unknown."""
        rlm, _ = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
        rlm(text=TEXT)
        begun = [
            n for n, line in enumerate(journal.read_bytes().splitlines()) if b'"e":"sent"' in line
        ]

        again = rlm.resume(cut(journal, begun[1] + 1, tmp_path))

        lost = [call for call in again.run.sub_calls if call.error]
        assert len(lost) == 1
        assert lost[0].input_tokens is None

    def test_paid_calls_count_if_the_run_ends_before_them(self, play, journal, tmp_path):
        """A resumed run that ends earlier than its record has the calls of the later turns in its figures too."""
        part = "found = sub_llm(f'Part {text}')\nSUBMIT(total=len(found))"
        sub = route((asks_for("code"), scripted(Action("", part))), otherwise=echo)
        moves = (
            "print(1)",
            "print(sub_llm('second'), sub_rlm('text -> total: int', text=text).total)",
            "print(sub_llm('third'))",
        )
        rlm, server = play(
            "text -> answer: str", *moves, sub=sub, extracted={"answer": "x"}, journal=journal
        )
        server.fail("root", Fault(after=3, status=400, times=20))
        with pytest.raises(RunFailedError):
            rlm(text=TEXT)
        server._plan = type(server._plan)()
        shorter = RLM("text -> answer: str", sub_lm=rlm.sub_lm, max_iterations=1)

        again = shorter.resume(journal)

        assert again.run.status == "extracted"
        calls: Counter[str] = Counter()
        for usage in again.run.usage:
            calls[usage.model.removeprefix("openai/")] += usage.calls
        assert calls == Counter(one.model for one in server.requests)
        assert calls["sub"] == 4

    def test_summaries_are_not_paid_twice(self, play, journal, tmp_path):
        """A summary of old steps is one of the run's own calls, with its place between them."""
        rounds = [f"print({n}, '{'word ' * 400}')" for n in range(12)]
        summaries = {"summary": "Words were printed."}
        rlm, server = play(
            "text -> answer: str", *rounds, "SUBMIT(answer='x')", extracted=summaries, journal=journal,
            history_tokens=6_000, compaction="summary", max_iterations=20,
        )  # fmt: skip
        whole = rlm(text=TEXT)
        assert "compact" in {call.kind for call in load(journal).calls()}
        sent = len(server.requests)
        step = [
            n for n, line in enumerate(journal.read_bytes().splitlines()) if b'"e":"step"' in line
        ][-2]
        part = cut(journal, step + 1, tmp_path)
        paid = answered(part)

        again = rlm.resume(part)

        assert len(server.requests) - sent == sent - paid
        assert totals(again.run) == totals(whole.run)


class TestTheReplIsAsItWas:
    def test_random_numbers_repeat(self, play, journal, tmp_path):
        """The numbers of a cell that runs again are those that it had drawn."""
        moves = (
            "import random\nnumber = random.random()\nprint(number)",
            "print(sub_llm('go on'))",
            "SUBMIT(answer=str(number))",
        )
        rlm, _ = play("text -> answer: str", *moves, sub=echo, journal=journal)
        whole = rlm(text=TEXT)

        again = rlm.resume(cut(journal, int(0.6 * lines_of(journal)), tmp_path))

        assert again.answer == whole.answer == whole.trajectory[0]["output"].strip()

    def test_another_output_is_said(self, play, journal, tmp_path):
        """The LM sees the first output still, and a note that the variables may not be those that printed it."""
        moves = (
            "import time\nnow = time.time_ns()\nprint(now)",
            "print(1)",
            "SUBMIT(answer=str(now))",
        )
        rlm, server = play("text -> answer: str", *moves, journal=journal)
        whole = rlm(text=TEXT)
        step = next(
            n for n, line in enumerate(journal.read_bytes().splitlines()) if b'"e":"step"' in line
        )

        again = rlm.resume(cut(journal, step + 1, tmp_path))

        assert again.trajectory[0] == whole.trajectory[0]
        assert again.trajectory[1]["output"].startswith("1\n[Note] The REPL was lost")
        assert (
            "these turns printed something else than what you see above: 1."
            in server.requests[-1].prompt
        )

    @pytest.mark.nightly
    def test_a_saved_state_is_not_run_again(self, play, journal, tmp_path):
        """With checkpoints, the REPL is what it was, whatever its cells depended on."""
        moves = (
            "import time\nnow = time.time_ns()\nprint(now)",
            "print(1)",
            "SUBMIT(answer=str(now))",
        )
        rlm, _ = play("text -> answer: str", *moves, journal=journal, checkpoints="every")
        whole = rlm(text=TEXT)

        again = rlm.resume(cut(journal, lines_of(journal) - 4, tmp_path))

        assert again.answer == whole.answer
        assert again.trajectory == whole.trajectory


class TestWhatFailedIsTriedAgain:
    def test_a_run_that_its_lm_has_ended(self, play, journal):
        """A server that was down is asked again; what was answered before is not."""
        rlm, server = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
        server.fail("root", Fault(after=1, status=500, times=20))
        with pytest.raises(RunFailedError):
            rlm(text=TEXT)
        paid = answered(journal)
        server._plan = type(server._plan)()
        at = len(server.requests)

        again = rlm.resume(journal)

        assert again.run.status == "submitted"
        assert len(server.requests) - at == 2 + 1  # two turns and one sub-call are left
        assert paid == 1 + 6

    def test_limits_hold_over_the_whole(self, play, journal, tmp_path):
        """Calls that an earlier process made count towards `max_llm_calls`."""
        more = "for n in range(4):\n    print(sub_llm(f'More {n}'))"
        moves = BATCH[0], more, "SUBMIT(answer=str(BUDGET()['llm_calls']))"
        rlm, _ = play("text -> answer: str", *moves, sub=echo, journal=journal, max_llm_calls=8)
        whole = rlm(text=TEXT)
        part = cut(journal, int(0.7 * lines_of(journal)), tmp_path)

        again = rlm.resume(part)

        assert "BudgetExceededError" in again.trajectory[1]["output"]
        assert (again.answer, again.run.llm_calls) == (whole.answer, 8) == ("0", 8)

    def test_a_lower_limit_counts_what_was_called_before(self, play, journal, tmp_path):
        """The calls of the earlier process are booked, though they are more than the limit now allows."""
        more = "for n in range(4):\n    print(sub_llm(f'More {n}'))"
        moves = BATCH[0], more, "SUBMIT(answer=str(BUDGET()['llm_calls']))"
        rlm, _ = play("text -> answer: str", *moves, sub=echo, journal=journal)
        rlm(text=TEXT)
        part = cut(journal, int(0.7 * lines_of(journal)), tmp_path)
        rlm, server = play(
            "text -> answer: str", *moves, sub=echo, journal=journal, max_llm_calls=3
        )

        again = rlm.resume(part)

        assert "BudgetExceededError" in again.trajectory[1]["output"]
        assert again.answer == "0"
        assert again.run.llm_calls >= 6
        assert not server.requests_to("sub")

    @pytest.mark.nightly
    def test_time_before_counts(self, play, journal, tmp_path):
        """The seconds of earlier processes count towards `max_seconds`, those between them do not."""
        rlm, _ = play(
            "text -> answer: str",
            *BATCH,
            sub=echo,
            extracted={"answer": "late"},
            journal=journal,
            max_seconds=100,
        )
        rlm(text=TEXT)
        part = cut(journal, int(0.7 * lines_of(journal)), tmp_path)
        # Three years before, and the process of that time worked for 98 seconds more.
        lines = [line.replace('"t":17', '"t":16', 1) for line in part.read_text().splitlines()]
        head, _, rest = lines[-1].partition('"t":')
        seconds, comma, end = rest.partition(",")
        lines[-1] = f'{head}"t":{float(seconds) + 98}{comma}{end}'
        part.write_text("\n".join(lines) + "\n")

        again = rlm.resume(part)

        assert again.run.status == "extracted"
        assert again.run.stopped_by == "max_seconds"


class TestWhatIsRefused:
    def test_another_signature(self, play, journal, tmp_path):
        """The recorded answers would not fit it."""
        rlm, _ = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
        rlm(text=TEXT)
        part = cut(journal, 12, tmp_path)
        other, _ = play("text -> answer: int", *BATCH, sub=echo)

        with pytest.raises(JournalError, match="another signature"):
            other.resume(part)

    def test_another_style(self, play, journal, tmp_path):
        """The REPL of another style has other names."""
        rlm, _ = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
        rlm(text=TEXT)
        part = cut(journal, 12, tmp_path)
        other, _ = play("text -> answer: str", *BATCH, sub=echo, style="paper")

        with pytest.raises(JournalError, match="style='default'"):
            other.resume(part)

    @pytest.mark.nightly  # waits for a process of its own
    def test_a_run_that_goes_on(self, play, journal):
        """A journal that a living process writes is not resumed, also from inside the run itself."""
        errors = []

        def meddle() -> str:
            """Resumes the run that calls it."""
            with pytest.raises(JournalError) as caught:
                rlm.resume(journal)
            errors.append(str(caught.value))
            return "refused"

        rlm, _ = play(
            "text -> answer: str",
            "print(meddle())",
            "SUBMIT(answer='x')",
            tools=[meddle],
            journal=journal,
        )

        rlm(text=TEXT)

        assert "goes on" in errors[0]

    def test_another_input(self, play, journal, tmp_path):
        """An input that is passed again must be the same one."""
        rlm, _ = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
        rlm(text=TEXT)
        part = cut(journal, 12, tmp_path)

        with pytest.raises(InputError, match="not the one"):
            rlm.resume(part, text="other")

    def test_a_large_file_that_has_changed(self, play, journal, tmp_path):
        """A file whose digest is computed in the background is the same until its content changes."""
        large = tmp_path / "large.log"
        large.write_bytes(b"a line of some thirty characters\n" * 1_020_000)
        assert large.stat().st_size > MAX_HASHED_AT_ONCE

        def wait() -> None:
            for _ in range(1000):
                if '"e":"digest"' in Path(journal).read_text("utf-8").replace(": ", ":"):
                    return
                time.sleep(0.01)

        rlm, _ = play(
            "log -> n: int",
            "wait()\nprint(log[:6])",
            "SUBMIT(n=len(log[:6]))",
            journal=journal,
            tools=[wait],
        )
        rlm(log=TextFile(large))
        assert load(journal).inputs["log"].digest
        part = cut(journal, lines_of(journal) - 2, tmp_path)

        assert rlm.resume(part).n == 6

        again = cut(journal, lines_of(journal) - 3, tmp_path)
        with large.open("r+b") as file:
            file.write(b"A")
        with pytest.raises(InputError, match=r"large\.log has changed"):
            rlm.resume(again)

    def test_an_input_that_the_journal_does_not_hold(self, play, journal, tmp_path):
        """It is named, and passed again."""
        rlm, _ = play(
            "thing, text -> answer: str", "print(1)", "SUBMIT(answer='x')", journal=journal
        )
        rlm(thing={(1, 2): 3}, text=TEXT)  # no JSON has such a key
        part = cut(journal, 12, tmp_path)

        with pytest.raises(InputError, match="thing"):
            rlm.resume(part)
        assert rlm.resume(part, thing={(1, 2): 3}).answer == "x"

    def test_a_file_that_is_no_journal(self, play, tmp_path):
        """It is refused with its name."""
        rlm, _ = play("text -> answer: str", "SUBMIT(answer='x')")
        (tmp_path / "other.jsonl").write_text("hello\n")

        with pytest.raises(JournalError, match="not a journal"):
            rlm.resume(tmp_path / "other.jsonl")


def test_an_event_loop_can_resume(play, journal, tmp_path):
    """`aresume` is `resume` for coroutines."""
    rlm, _ = play("text -> answer: str", *BATCH, sub=echo, journal=journal)
    whole = rlm(text=TEXT)
    part = cut(journal, int(0.6 * lines_of(journal)), tmp_path)

    again = asyncio.run(rlm.aresume(part))

    assert again.answer == whole.answer
