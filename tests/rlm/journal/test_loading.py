"""Loading a journal: damaged, incomplete, hostile or large."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dspy_rlm.journal import JournalError, MissingValueError, RunRecord, load
from dspy_rlm.journal.file import JournalFile
from dspy_rlm.journal.places import Place, new_journal

HEAD = {"e": "journal", "format": "dspy-rlm.journal", "version": 1, "run": "r"}
RUN = {"e": "run", "run": "r", "depth": 0, "signature": {"instructions": "Do it."}, "inputs": {}}


def call(call_id: str, iteration: int | None, kind: str = "sub_llm", **more: Any) -> dict[str, Any]:
    """Returns the event of a call."""
    start = {
        "e": "call",
        "run": "r",
        "call": call_id,
        "kind": kind,
        "model": "m",
        "digest": call_id,
    }
    at = {} if iteration is None else {"it": iteration}
    return {**start, **at, "prompt": [{"role": "user", "content": "?"}], **more}


def answer(call_id: str, *outputs: Any, **more: Any) -> dict[str, Any]:
    """Returns the event of an attempt that was answered."""
    return {
        "e": "attempt",
        "run": "r",
        "call": call_id,
        "in": 3,
        "out": 1,
        "outputs": list(outputs),
        **more,
    }


def step(number: int, *calls: dict[str, Any], shown: str = "seen") -> list[dict[str, Any]]:
    """Returns the events of a complete step."""
    at = {"run": "r", "it": number}
    return [
        {"e": "iteration", **at},
        *calls,
        {"e": "action", **at, "reasoning": "why", "code": f"print({number})"},
        {"e": "cell", **at, "code": f"print({number})", "outcome": "completed", "output": "seen"},
        {"e": "step", **at, "number": number, "shown": shown},
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def written(path: Path, *events: Any) -> RunRecord:
    """Writes events as a journal, and loads it."""
    path.write_text(
        "".join(json.dumps({"seq": n, "t": 5.0, **event}) + "\n" for n, event in enumerate(events))
    )
    return load(path)


class TestIncomplete:
    def test_a_crashed_run_has_its_answers(self, path):
        """A journal without an end has the complete steps, and what was answered in the step under way."""
        at = {"run": "r", "it": 2}
        record = written(
            path, HEAD, RUN, *step(1), {"e": "iteration", **at}, call("a", 2, "action"), answer("a", "code"),
            {"e": "action", **at, "reasoning": "", "code": "f()"}, call("b", 2), call("c", 2), answer("c", "yes"),
        )  # fmt: skip

        assert record.ended is None
        assert [one.number for one in record.steps] == [1]
        assert record.unfinished.code == "f()"
        assert [one.answered for one in record.unfinished.calls] == [True, False, True]
        assert record.unfinished.calls[2].reply == ["yes"]

    def test_calls_before_and_after_the_steps_have_their_places(self, path):
        """Those of a setup come before the first step, those of an extraction after the last."""
        record = written(path, HEAD, RUN, call("s", None), *step(1), call("e", None, "extract"))

        assert [one.call_id for one in record.setup] == ["s"]
        assert [one.call_id for one in record.extraction] == ["e"]
        assert len(list(record.calls())) == 2

    def test_an_empty_run_is_one(self, path):
        """A run that was killed after its first line has no steps, and its journal says what is missing."""
        record = written(path, HEAD)

        assert (record.run_id, record.steps) == ("r", ())
        assert "beginning" in record.notes[0]


class TestResumed:
    def test_the_calls_of_all_lives_belong_to_their_step(self, path):
        """A run that goes on writes nothing again: a step has the calls from before the kill and those from after."""
        record = written(
            path, HEAD, RUN, {"e": "iteration", "run": "r", "it": 1}, call("a", 1), answer("a", "1"),
            call("b", 1), {"e": "resumed", "run": "r"}, *step(1, call("r:r1.1", 1), answer("r:r1.1", "2")),
        )  # fmt: skip

        assert [(one.call_id, one.answered) for one in record.steps[0].calls] == [
            ("a", True), ("b", False), ("r:r1.1", True),
        ]  # fmt: skip
        assert (record.resumes, record.events) == (1, 13)

    def test_a_resumed_run_has_not_ended(self, path):
        """The end of a run that was resumed afterwards is that of the last time."""
        end = {"e": "end", "run": "r", "report": {"status": "failed"}}
        record = written(path, HEAD, RUN, *step(1), end, {"e": "resumed", "run": "r"})

        assert record.ended is None
        assert len(record.steps) == 1


class TestDamaged:
    @pytest.mark.parametrize("seed", range(30))
    def test_torn_lines_cost_themselves_only(self, path, seed):
        """A file with bytes missing or changed anywhere loads, and says how many lines are damaged."""
        chance = random.Random(seed)
        events = [
            HEAD,
            RUN,
            *(
                event
                for n in range(1, 9)
                for event in step(n, call(f"c{n}", n), answer(f"c{n}", "x"))
            ),
        ]
        written(path, *events)
        data = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(data))
            if chance.random() < 0.5:
                del data[at : at + chance.randint(1, 200)]
            else:
                data[at : at + 3] = chance.randbytes(3)
        path.write_bytes(data)

        record = load(path)

        assert len(record.steps) >= 1
        assert all("damaged" in note or "missing" in note for note in record.notes)

    def test_a_torn_end_is_not_read(self, path):
        """The last line counts only if it has its end."""
        written(path, HEAD, RUN, *step(1))
        path.write_text(path.read_text().rstrip("\n"))

        record = load(path)

        assert record.steps == ()
        assert record.unfinished.cell.outcome == "completed"

    def test_events_go_on_after_a_torn_line(self, path):
        """A process that was killed in the middle of a line is followed by one that resumes the run."""
        written(path, HEAD, RUN, *step(1))
        path.write_text(path.read_text() + '{"seq": 9, "e": "ite')
        again = JournalFile(lambda: (path, _appending(path)), seq=load(path).events)
        again.begin("r")
        for event in step(2):
            again.append(event)

        record = load(path)

        assert [one.number for one in record.steps] == [1, 2]

    def test_a_prompt_without_its_predecessor_says_so(self, path):
        """A prompt that is a change of a lost one cannot be read; the rest of the run can."""
        change = [{"role": "user", "content": {"$from": [300, 0], "new": "x"}}]
        record = written(
            path,
            HEAD,
            RUN,
            *step(1, call("b", 1, "action", prompt=change, after="a"), answer("b", "r")),
        )

        with pytest.raises(MissingValueError, match="before this one"):
            record.steps[0].calls[0].prompt.messages()
        assert record.steps[0].calls[0].reply == ["r"]

    def test_a_gap_is_noted(self, path):
        """Events that could not be written are in the record's notes."""
        record = written(path, HEAD, RUN, {"e": "gap", "lost": 3, "error": "disk full"}, *step(1))

        assert record.notes == ("3 events could not be written: disk full",)


class TestHostile:
    @pytest.mark.parametrize(
        "event",
        [
            {"e": 5},
            {"e": "run", "run": ["r"]},
            {"e": "run", "run": "r", "inputs": {"x": {"kind": "pickle", "digest": "0" * 64}}},
            {"e": "run", "run": "r", "inputs": {"x": {"kind": "file", "path": 7}}},
            {"e": "run", "run": "r", "signature": {"inputs": [5]}},
            {"e": "call", "run": "r", "call": "a"},
            {"e": "call", "run": "r", "it": -1, "call": "a", "kind": "x", "model": "m", "digest": ""},
            {"e": "iteration", "run": "r", "it": "1"},
            {"e": "cell", "run": "r", "it": 1, "code": "", "outcome": "exploded", "output": ""},
            {"e": "cell", "run": "r", "it": 1, "code": {"$value": 5}, "outcome": "failed", "output": ""},
            {"e": "attempt", "call": None},
            {"e": "digest", "run": "r", "input": {}},
            {"e": "end", "run": "r", "report": "x" * 10},
            {"e": "end", "run": "r", "report": json.loads("[" * 900 + "]" * 900)},
            {"e": "end", "run": "r", "report": {"a": json.loads("[" * 900 + "]" * 900)}},
        ],
    )  # fmt: skip
    def test_a_wrong_event_is_skipped(self, path, event):
        """An event with fields of other types is damaged, and harms no other."""
        record = written(path, HEAD, RUN, event, *step(1))

        assert "1 lines are damaged, and were skipped." in record.notes
        assert len(record.steps) == 1

    @pytest.mark.parametrize(
        "name", ["../x.checkpoint", "/etc/x.checkpoint", "a/b.checkpoint", "x"]
    )
    def test_a_checkpoint_is_in_the_folder(self, path, name):
        """A journal cannot name a file elsewhere as a state of its REPL."""
        saved = {"e": "checkpoint", "run": "r", "it": 1, "file": name, "bytes": 1, "seconds": 0.1}
        record = written(path, HEAD, RUN, *step(1)[:-1], saved, step(1)[-1])

        assert record.steps[0].checkpoint is None

    def test_runs_below_themselves_end(self, path):
        """Runs that name each other as parents do not nest without end."""
        a, b = {"run": "a", "parent": "b"}, {"run": "b", "parent": "a"}
        events = [{"e": "iteration", **one, "it": 1} for one in (a, b)]

        record = written(path, HEAD, RUN, *step(1), *events)

        assert len(list(record.walk())) < 100

    def test_an_unknown_event_is_of_a_later_version(self, path):
        """Kinds of events can be added without another version of the format."""
        assert (
            written(path, HEAD, RUN, {"e": "something", "run": "r", "x": []}, *step(1)).notes == ()
        )

    @pytest.mark.parametrize("text", ["", "\n\n", "hello\n", "[]\n", '{"a": 1}\n', "\x00" * 5000])
    def test_another_file_is_no_journal(self, path, text):
        """A file without a single event of a journal is refused."""
        path.write_text(text)

        with pytest.raises(JournalError, match="is not a journal"):
            load(path)

    def test_a_later_version_is_refused(self, path):
        """The error says to update."""
        with pytest.raises(JournalError, match=r"version 2.*Update"):
            written(path, {**HEAD, "version": 2}, RUN)

    def test_a_folder_is_refused(self, path):
        """The error says to name a file in it."""
        path.mkdir()

        with pytest.raises(JournalError, match="is a folder"):
            load(path)

    def test_a_large_file_is_refused(self, path):
        """A reader has a bound."""
        written(path, HEAD, RUN, *step(1))

        with pytest.raises(JournalError, match="more than 100"):
            load(path, max_bytes=100)

    def test_a_line_without_end_is_skipped(self, path):
        """A line of any length takes bounded memory."""
        written(path, HEAD, RUN, *step(1))
        with path.open("a") as file:
            file.write(
                "x" * (40 * 1024 * 1024)
                + "\n"
                + json.dumps({"e": "iteration", "run": "r", "it": 2})
                + "\n"
            )

        record = load(path)

        assert record.unfinished.number == 2
        assert record.notes == ("1 lines are damaged, and were skipped.",)


def _appending(path: Path) -> int:
    """Returns a descriptor that appends to a file."""
    import os

    return os.open(path, os.O_WRONLY | os.O_APPEND)


def test_a_new_journal_loads(path):
    """The reader reads all that the writer begins."""
    journal = new_journal(Place(path), "r9")
    journal.begin("r9")

    assert load(journal.path).run_id == "r9"
