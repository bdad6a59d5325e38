"""A recorded run, through a real sandbox and a real HTTP server: all of it is in its journal."""

from __future__ import annotations

import asyncio
import base64
import datetime
import logging
import os
from pathlib import Path
from typing import Any

import dspy
import pytest

import dspy_rlm
from dspy_rlm.errors import RunFailedError
from dspy_rlm.journal import RunRecord, load
from dspy_rlm.testing import Action, Fault, PolicyServer, asks_for, fields, route, rules, scripted

SECRET = "sk-Zx81PqLmWv93RtYn55Kd"


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


def lookup(key: str, more: int = 1) -> dict:
    """Looks a key up."""
    if key == "none":
        raise KeyError(key)
    return {"key": key, "more": more}


CELLS = (
    "x = sub_llm('one') + str(sub_llm_batched(['two', 'three']))\nprint(x)",
    "print('seen', 'y' * 3000, 'unseen', 'z' * 20000)\nprint(lookup('k', more=2))",
    "predict_batched('q -> n: int', ['four', 'five'])",
    "lookup('none')",
    "SUBMIT(sub_rlm('q -> a: str', q='inner').a)",
)


class Recorded:
    """A recorded run whose code calls everything."""

    def __init__(self, how: str, folder: Path, pool: Any) -> None:
        root = route((asks_for("code"), scripted(*(Action("", cell) for cell in CELLS))))
        with PolicyServer({"root": root, "sub": replies()}) as server:
            rlm = dspy_rlm.RLM(
                "q -> answer: str", sub_lm=server.lm("sub"), tools=[lookup], max_output_chars=2000,
                journal=folder / "run.jsonl", pool=pool,
            )  # fmt: skip
            with dspy.context(lm=server.lm("root"), adapter=dspy.ChatAdapter()):
                self.prediction = run_once(rlm, how, q="?")
            self.requests = server.requests
        self.record = load(self.prediction.run.journal)

    def sent(self, model: str) -> list[list[dict[str, str]]]:
        """Returns the messages that the server got for a model."""
        return [
            [{"role": message.role, "content": message.text} for message in exchange.messages]
            for exchange in self.requests
            if exchange.model == model
        ]


@pytest.fixture(scope="module", params=["sync", "async"])
def run(request, tmp_path_factory, kept) -> Recorded:
    """A run by `forward` and one by `aforward`."""
    return Recorded(request.param, tmp_path_factory.mktemp("recorded"), kept)


class TestRun:
    def test_every_call_is_recorded(self, run):
        """Each LM call of the run and its sub-run has the prompt, the reply and the tokens that the server saw."""
        calls = list(run.record.calls())

        assert run.prediction.run.journal_problem == ""
        assert all(call.answered and call.finish_reason == "stop" for call in calls)
        assert sorted(call.prompt.text() for call in calls) == sorted(
            "\n\n".join(f"[{message.role}]\n{message.text}" for message in exchange.messages)
            for exchange in run.requests
        )
        assert sorted(call.reply[0] for call in calls) == sorted(
            exchange.reply for exchange in run.requests
        )
        assert sum(call.input_tokens + call.output_tokens for call in calls) == sum(
            usage.input_tokens + usage.output_tokens for usage in run.prediction.run.usage
        )

    def test_steps_have_what_was_printed_and_what_was_seen(self, run):
        """The whole output of a cell is recorded, also the part that the root LM did not see."""
        record = run.record

        assert [step.number for step in record.steps] == [1, 2, 3, 4, 5]
        assert [record.value(step.shown) for step in record.steps] == [
            step.output for step in run.prediction.run.steps
        ]
        assert [step.code for step in record.steps] == list(CELLS)
        output = record.value(record.steps[1].cell.output)
        assert "unseen " + "z" * 20000 in output
        assert "unseen" not in record.value(record.steps[1].shown)
        assert [step.cell.outcome for step in record.steps] == [
            *["completed"] * 3, "failed", "submitted",
        ]  # fmt: skip
        assert record.steps[3].cell.error_type == "KeyError"
        assert "KeyError" in record.value(record.steps[3].cell.traceback)

    def test_calls_name_the_function_that_made_them(self, run):
        """A sub-call has the REPL's function above it, a sub-run too, in threads and on event loops."""
        record = run.record

        names = {
            tool.call_id: tool.name
            for one in record.walk()
            for step in one.steps
            for tool in step.tools
        }
        (inner,) = record.steps[4].sub_runs
        assert [names[call.parent_call] for call in record.steps[0].sub_calls] == [
            "sub_llm", "sub_llm_batched", "sub_llm_batched",
        ]  # fmt: skip
        assert {names[call.parent_call] for call in record.steps[2].sub_calls} == {
            "predict_batched"
        }
        assert (names[inner.parent_call], inner.parent_run) == ("sub_rlm", record.run_id)
        assert [names[call.parent_call] for call in inner.steps[0].sub_calls] == ["sub_llm"]
        assert (inner.depth, inner.ended["status"]) == (1, "submitted")

    def test_tools_have_their_arguments_and_results(self, run):
        """A call of a tool is recorded with what went in and what came out, or the error."""
        record = run.record

        (found,) = [tool for tool in record.steps[1].tools if tool.is_tool]
        (missed,) = [tool for tool in record.steps[3].tools if tool.is_tool]
        assert record.value(found.arguments) == [["k"], {"more": 2}]
        assert record.value(found.result) == {"key": "k", "more": 2}
        assert missed.result is None
        assert missed.error.type == "KeyError"

    def test_the_end_has_the_report_and_the_outputs(self, run):
        """The last event has the figures of the report, and the outputs."""
        record, report = run.record, run.prediction.run

        assert (record.ended["status"], record.notes) == ("submitted", ())
        assert record.ended["llm_calls"] == report.llm_calls
        assert record.value(record.outputs["answer"]) == run.prediction.answer
        assert record.value(record.inputs["q"]) == "?"
        assert [field.name for field in record.signature.outputs] == ["answer"]
        assert record.config["models"] == {"root": "openai/root", "sub": {"": "openai/sub"}}

    def test_the_prompts_of_the_root_are_those_that_were_sent(self, run):
        """A prompt is stored as a change of the one before, and read as it was sent."""
        read = [call.prompt.messages() for step in run.record.steps for call in step.root_calls]

        assert read == run.sent("root")

    def test_reading_from_the_end_is_the_same(self, run):
        """The prompt of a step can be read without those before it."""
        record = load(run.record.path)

        assert record.steps[-1].root_calls[0].prompt.messages() == run.sent("root")[-1]


def test_the_root_sees_the_same_with_and_without(play, tmp_path):
    """A journal changes no prompt."""
    prompts = []
    for journal in (False, tmp_path / "run.jsonl"):
        rlm, server = play(
            "q -> answer: str", "print('a' * 30000)", "'b' * 30000", "SUBMIT('x')",
            journal=journal, max_output_chars=3000,
        )  # fmt: skip
        rlm(q="?")
        prompts.append([exchange.messages for exchange in server.requests_to("root")])

    assert prompts[0] == prompts[1]


def test_typed_outputs_are_recorded(play, tmp_path):
    """An output of a declared type is stored in a form that this type reads back."""
    signature = dspy.Signature("q -> day: datetime.date", custom_types={"datetime": datetime})
    rlm, _ = play(
        signature,
        "import datetime\nSUBMIT(datetime.date(2026, 1, 2))",
        journal=tmp_path / "run.jsonl",
    )

    record = load(rlm(q="?").run.journal)

    stored = record.outputs["day"]
    assert (stored.kind, record.value(stored)) == ("json", "2026-01-02")


class TestFailures:
    def test_each_attempt_is_recorded(self, play, tmp_path):
        """A call that is answered at the second attempt has both, the first with its error."""
        rlm, server = play(
            "q -> answer: str", "SUBMIT(sub_llm('x'))", sub=rules([], "yes"),
            journal=tmp_path / "run.jsonl",
        )  # fmt: skip
        rlm.sub_lm = server.lm("sub", num_retries=2)
        server.fail("sub", Fault(status=503))

        record = load(rlm(q="?").run.journal)

        (call,) = record.steps[0].sub_calls
        assert [bool(attempt.error) for attempt in call.attempts] == [True, False]
        assert call.attempts[0].error.startswith("LMServerError")
        assert call.reply == ["yes"]

    def test_a_run_that_fails_has_its_end(self, play, tmp_path):
        """The report of a failed run is the last event, and its exception names the journal."""
        rlm, server = play("q -> answer: str", "SUBMIT('x')", journal=tmp_path / "run.jsonl")
        server.fail("root", Fault(status=401))

        with pytest.raises(RunFailedError) as failed:
            rlm(q="?")
        record = load(failed.value.run.journal)

        assert (record.ended["status"], record.outputs) == ("failed", None)
        assert record.unfinished.root_calls[0].error.type == "LMAuthError"

    def test_a_folder_that_is_deleted_in_the_middle_ends_no_run(self, play, tmp_path, caplog):
        """A failed write is reported once, in the log and in the report."""
        folder = tmp_path / "gone"
        rlm, _ = play(
            "q -> answer: str", "remove()", "print('x' * 5000)", "SUBMIT('x')",
            tools=[_remover(folder)], journal=folder / "run.jsonl",
        )  # fmt: skip

        with caplog.at_level(logging.WARNING, "dspy_rlm"):
            prediction = rlm(q="?")

        assert prediction.answer == "x"
        assert "FileNotFoundError" in prediction.run.journal_problem
        assert len([record for record in caplog.records if "journal" in record.message]) == 1


def _remover(folder: Path) -> Any:
    def remove() -> str:
        """Removes the folder of the journal."""
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        return "done"

    return remove


class TestSecrets:
    def test_no_key_is_in_any_file(self, play, tmp_path):
        """The key of an LM and the secret of a tool are nowhere, whatever prints or returns them."""
        api_token = SECRET + "Tool"

        def peek() -> str:
            """Returns more than it should."""
            return f"{api_token} and {SECRET}"

        rlm, server = play(
            "q -> answer: str", "print(peek())", "raise ValueError(peek())",
            "SUBMIT(sub_llm(peek()))", sub=lambda request: request.messages[-1].text * 100,
            tools=[peek], journal=tmp_path / "run.jsonl",
        )  # fmt: skip
        rlm.sub_lm = server.lm("sub", api_key=SECRET)

        prediction = rlm(q=f"my key is {SECRET}")

        assert SECRET in prediction.answer
        written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
        assert "my key is [secret]" in written
        for secret in (
            SECRET,
            SECRET.lower(),
            api_token,
            base64.b64encode(SECRET.encode()).decode(),
        ):
            assert secret not in written


class TestSettings:
    def test_the_environment_names_a_folder(self, play, tmp_path, monkeypatch):
        """`DSPY_RLM_JOURNAL` holds for all RLMs that have no journal of their own; False is one."""
        monkeypatch.setenv("DSPY_RLM_JOURNAL", str(tmp_path / "all"))
        rlm, _ = play("q -> answer: str", "SUBMIT('x')")
        off, _ = play("q -> answer: str", "SUBMIT('x')", journal=False)

        journal = Path(rlm(q="?").run.journal)

        assert off(q="?").run.journal is None
        assert journal.parent == tmp_path / "all"
        assert load(journal).run_id in journal.name

    def test_configure_precedes_the_environment(self, play, tmp_path, monkeypatch):
        """`dspy_rlm.configure(journal=...)` holds for the process; None undoes it."""
        monkeypatch.setenv("DSPY_RLM_JOURNAL", str(tmp_path / "environment"))
        rlm, _ = play("q -> answer: str", "SUBMIT('x')")
        dspy_rlm.configure(journal=tmp_path / "configured")
        try:
            journal = Path(rlm(q="?").run.journal)
        finally:
            dspy_rlm.configure(journal=None)

        assert journal.parent == tmp_path / "configured"

    @pytest.mark.parametrize("place", ["file/run.jsonl", "file", "folder.jsonl"])
    def test_a_place_that_cannot_be_written_is_refused_by_the_constructor(self, place, tmp_path):
        """Not by the first run, hours later."""
        (tmp_path / "file").write_text("a file")
        (tmp_path / "folder.jsonl").mkdir()

        with pytest.raises(dspy_rlm.SignatureError, match="No journal can be written to"):
            dspy_rlm.RLM("q -> a", journal=tmp_path / place)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_permission_is_refused(self, tmp_path):
        """The error names the folder and the setting."""
        (tmp_path / "closed").mkdir(mode=0o500)

        with pytest.raises(dspy_rlm.SignatureError, match=r"closed.*journal"):
            dspy_rlm.RLM("q -> a", journal=tmp_path / "closed")

    def test_the_environment_is_checked_too(self, tmp_path, monkeypatch):
        """An error in `DSPY_RLM_JOURNAL` names the variable."""
        (tmp_path / "file").write_text("a file")
        monkeypatch.setenv("DSPY_RLM_JOURNAL", str(tmp_path / "file"))

        with pytest.raises(dspy_rlm.SignatureError, match="DSPY_RLM_JOURNAL"):
            dspy_rlm.RLM("q -> a")

    @pytest.mark.parametrize("value", [7, ["run.jsonl"], 1.5])
    def test_a_journal_that_is_no_path_is_refused(self, value):
        """The error says what to write."""
        with pytest.raises(dspy_rlm.SignatureError, match=r"\.jsonl file, a folder, True or False"):
            dspy_rlm.RLM("q -> a", journal=value)

    def test_an_unknown_setting_is_an_error(self):
        """`configure` takes the names that it knows."""
        with pytest.raises(TypeError, match="journals"):
            dspy_rlm.configure(journals="x")  # type: ignore[call-arg]

    def test_an_unknown_policy_is_refused(self):
        """The error names the policies."""
        with pytest.raises(dspy_rlm.SignatureError, match='"auto", "every" or "never"'):
            dspy_rlm.RLM("q -> a", checkpoints="always")


class TestCheckpoints:
    def test_every_cell_can_be_saved(self, play, fresh, tmp_path):
        """With `every` the state after each step is a file beside the journal, which opens as a session."""
        rlm, _ = play(
            "q -> answer: str", "x = 41", "x += 1", "SUBMIT(str(x))",
            journal=tmp_path / "run.jsonl", checkpoints="every", pool=fresh,
        )  # fmt: skip

        record = load(rlm(q="?").run.journal)

        first, second, last = (step.checkpoint for step in record.steps)
        assert last is None
        assert {first.path, second.path} <= {
            path.name for path in (tmp_path / "run.values").iterdir()
        }
        state = dspy_rlm_checkpoint(record, first.path)
        assert state.memory_bytes > 0

    def test_the_latest_two_are_kept(self, play, fresh, tmp_path, monkeypatch):
        """With `auto` the disk does not fill: older states are removed, and their steps no longer name them."""
        monkeypatch.setattr("dspy_rlm.journal.checkpoints.AUTO_SECONDS", 0.0)
        monkeypatch.setattr("dspy_rlm.journal.checkpoints.MAX_SHARE", float("inf"))
        rlm, _ = play(
            "q -> answer: str", "x = 1", "x += 1", "x += 1", "SUBMIT(str(x))", journal=tmp_path / "run.jsonl", pool=fresh,
        )  # fmt: skip

        record = load(rlm(q="?").run.journal)

        saved = [step.checkpoint.path if step.checkpoint else "" for step in record.steps]
        assert saved == ["", f"{record.run_id}-2.checkpoint", f"{record.run_id}-3.checkpoint", ""]
        assert {path.name for path in tmp_path.glob("*/*.checkpoint")} == set(saved[1:3])

    def test_short_cells_are_not_saved(self, play, tmp_path):
        """With `auto`, cells that are run again in no time need no state."""
        rlm, _ = play(
            "q -> answer: str", "x = 41", "SUBMIT(str(x))", journal=tmp_path / "run.jsonl"
        )

        record = load(rlm(q="?").run.journal)

        assert [step.checkpoint for step in record.steps] == [None, None]

    def test_a_state_with_values_of_the_host_is_not_saved(self, play, tmp_path):
        """A file has no handles: the REPL would begin with inputs that it cannot read."""
        (tmp_path / "page.txt").write_text("a page")
        rlm, _ = play(
            "page -> answer: str", "x = len(page)", "SUBMIT(str(x))", journal=tmp_path / "run.jsonl", checkpoints="every",
        )  # fmt: skip

        record = load(rlm(page=dspy_rlm.TextFile(tmp_path / "page.txt")).run.journal)

        assert [step.checkpoint for step in record.steps] == [None, None]
        assert (record.inputs["page"].kind, record.inputs["page"].size) == ("file", 6)


def dspy_rlm_checkpoint(record: RunRecord, name: str) -> Any:
    """Returns a state that was saved with a run."""
    from sandbox_runtime import Checkpoint

    path = Path(record.path)
    return Checkpoint.load(path.with_name(f"{path.stem}.values") / name)
