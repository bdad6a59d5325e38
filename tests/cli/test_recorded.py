"""The commands on recorded runs: `runs`, `replay`, `compare`, `fork`, `open`."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import Server

from dspy_rlm.cli.recorded.console import Console
from dspy_rlm.cli.recorded.summaries import RunSummary, statistics
from dspy_rlm.journal import load
from sandbox_runtime import Completed, Failed


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Keeps the journal of one recorded run for all tests of the module."""
    return tmp_path_factory.mktemp("recording")


@pytest.fixture
def runs(server: Server, recording) -> Path:
    """A folder with two journals of the same run, of different ages, and a file that is none."""
    if not (recording / "runs").exists():
        done = server.ask("log.txt", "-q", "ERROR", "--journal", str(recording / "runs"))
        assert done.returncode == 0, done.stderr
    folder = server.folder / "runs"
    shutil.copytree(recording / "runs", folder)
    (journal,) = folder.glob("*.jsonl")
    for name, age in (("old", 10 * 86_400), ("new", 0)):
        shutil.copy(journal, folder / f"{name}.jsonl")
        shutil.copytree(journal.with_suffix(".values"), folder / f"{name}.values")
        when = journal.stat().st_mtime - age
        os.utime(folder / f"{name}.jsonl", (when, when))
    journal.unlink()
    shutil.rmtree(journal.with_suffix(".values"))
    (folder / "none.jsonl").write_text("no journal\n")
    os.utime(folder / "none.jsonl", (0, 0))
    return folder


@pytest.fixture
def command(run_here, runs):
    """Runs a command on that folder."""
    return lambda *arguments: run_here(*arguments, "--journals", str(runs))


class TestRuns:
    """`runs` needs no DSPy and no model."""

    def test_the_list_has_the_newest_first(self, command, runs):
        """Each run is a line with its end and its cost; a file that is no journal says so."""
        listed = json.loads(command("runs", "list", "--json").stdout)
        table = command("runs")

        assert [Path(run["path"]).stem for run in listed] == ["new", "old", "none"]
        assert [run["status"] for run in listed] == ["submitted", "submitted", "unreadable"]
        assert (listed[0]["steps"], listed[0]["llm_calls"], listed[0]["cost"]) == (3, 4, None)
        lines = table.stdout.splitlines()
        assert lines[0].split()[:3] == ["run", "started", "status"]
        assert lines[1].endswith("text: str, question: str -> answer: str")
        assert "is not a journal" in lines[3]
        assert len(command("runs", "list", "-n", "1").stdout.splitlines()) == 2
        assert json.loads(command("runs", "--json").stdout) == listed

    def test_a_run_is_shown_with_its_steps(self, command):
        """A run is shown with inputs, code, what the LM saw, and outputs; a step as a whole."""
        whole = command("runs", "show", "last").stdout
        step = command("runs", "show", "new", "--step", "1").stdout
        facts = json.loads(command("runs", "show", "new", "--json").stdout)

        assert "submitted (SUBMIT), 3 steps, 4 LM calls" in whole
        assert "input question = 'ERROR'" in whole
        assert "--- 1 LM call of the code" in whole
        assert "output answer = 'It is bad: 2'" in whole
        assert step == "[1] How much is there?\nprint(len(text))\n--- output\n31\n"
        assert [one["outcome"] for one in facts["trajectory"]] == ["completed"] * 2 + ["submitted"]

    def test_totals(self, command):
        """The totals count the runs by status and model."""
        facts = json.loads(command("runs", "stats", "--json").stdout)
        text = command("runs", "stats").stdout

        assert (facts["runs"], facts["unreadable"]) == (2, 1)
        assert facts["by_status"] == {"submitted": 2}
        assert facts["llm_calls"] == {"total": 8, "median": 4.0, "most": 4}
        assert "models:    openai/root 2, openai/sub 2" in text

    def test_old_runs_are_deleted_with_their_values(self, command, runs):
        """Only what all criteria name is deleted, never what is no journal; a dry run deletes nothing."""
        dry = command("runs", "prune", "--older-than", "5", "--dry-run")
        assert dry.stdout == f"would delete {runs / 'old.jsonl'}\n"
        assert (runs / "old.jsonl").exists()
        assert command("runs", "prune", "--older-than", "5", "--status", "failed").stdout == ""
        command("runs", "prune", "--older-than", "5")

        left = sorted(path.name for path in runs.iterdir())
        assert left == ["new.jsonl", "new.values", "none.jsonl"]

    def test_a_run_that_goes_on_is_kept(self, command, runs):
        """A journal that a process writes is `running`, and not deleted."""
        fcntl = pytest.importorskip("fcntl")
        journal = runs / "new.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:-1]))
        with journal.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            listed = json.loads(command("runs", "list", "--json").stdout)
            command("runs", "prune", "--keep", "0")
        after = json.loads(command("runs", "list", "--json").stdout)

        assert listed[0]["status"] == "running"
        assert [run["status"] for run in after] == ["crashed", "unreadable"]

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["prune"], 2, "--older-than DAYS"),
            (["show", "nothing"], 10, "No run in "),
            (["show", ".jsonl"], 10, "No run in "),
            (["show", "n"], 10, "2 runs match 'n': new, none"),
            (["show", "none"], 10, "is not a journal"),
            (["show", "new", "--step", "9"], 10, "Its steps are 1 to 3"),
        ],
    )
    def test_mistakes(self, command, arguments, code, message):
        """A mistake has its exit code, and says what there is instead."""
        done = command("runs", *arguments)

        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert message in done.stderr

    def test_totals_of_unknown_costs(self):
        """A run whose price is unknown is counted, and its cost is not guessed."""
        one = RunSummary("a", "a", "", "submitted", cost=0.5, tokens=10)
        facts = statistics([one, RunSummary("b", "b", "", "failed", cost=None, tokens=None)])

        assert (facts["cost"], facts["cost_unknown"], facts["tokens"]) == (0.5, 1, 10)


class TestAgain:
    """A run again: repeated, compared, forked."""

    def test_a_replay_is_the_same(self, command, server):
        """A run is repeated without a model; one whose record was changed differs, with exit code 1."""
        same = command("replay", "new", "--json")
        before = len(server.policies.requests)

        assert (same.returncode, json.loads(same.stdout)["same"]) == (0, True), same.stdout
        assert json.loads(same.stdout)["steps"] == 3
        assert len(server.policies.requests) == before

    def test_two_runs_are_compared(self, command, runs):
        """Equal runs are 0; runs that part are 1, with the step."""
        assert command("compare", "old", "new").returncode == 0
        journal = runs / "new.jsonl"
        journal.write_text(journal.read_text().replace("print(len(text))", "print(len(text) )"))
        done = command("compare", "old", "new")

        assert done.returncode == 1
        assert "They part at step 1" in done.stdout

    def test_a_fork_goes_on_live(self, command, server, runs):
        """The steps up to `--step` are recorded ones, the rest is asked; the fork has a journal of its own."""
        before = len(server.policies.requests)
        journal = server.folder / "fork.jsonl"
        done = command("fork", "new", "--step", "2", *server.arguments, "--journal", str(journal))

        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n"), done.stderr
        assert len(server.policies.requests) <= before + 1
        assert len(load(journal).steps) == 3

    def test_the_repl_of_a_step(self, command, monkeypatch):
        """Code from `-c` or stdin runs in the REPL as it was after the step; a failure is 1."""
        first = command("open", "new", "--step", "2", "-c", "print(lines, meaning)")
        failing = command("open", "new", "--step", "1", "-c", "lines")
        monkeypatch.setattr("sys.stdin", io.StringIO("for n in lines:\n    print(n)\n"))
        piped = command("open", "new")

        assert (first.returncode, first.stdout) == (0, "[2, 4] It is bad: 2\n"), first.stderr
        assert (failing.returncode, failing.stdout) == (1, "")
        assert "NameError" in failing.stderr
        assert piped.stdout == "2\n4\n"


class Listed:
    """A REPL that notes the code that it is asked to run."""

    def __init__(self) -> None:
        self.code: list[str] = []

    def run(self, code):
        """Notes the code; `fail` fails."""
        self.code.append(code)
        return Failed("E", "no") if code == "fail" else Completed("yes")

    def variables(self):
        """Has one variable."""
        return {"n": "int: 1"}


def test_the_prompt_of_a_live_repl(capsys):
    """A statement of several lines is one cell; commands begin with a colon; an error leaves the prompt open."""
    repl = Listed()
    console = Console(repl)
    more = [
        console.push(line) for line in ("for n in x:", "    n", "", "await f()", "fail", ":vars")
    ]
    output = capsys.readouterr()

    assert more == [True, True, False, False, False, False]
    assert repl.code == ["for n in x:\n    n\n", "await f()", "fail"]
    assert output.out == "yes\nyes\nn: int: 1\n"
    assert output.err == "E: no\n"
    with pytest.raises(SystemExit):
        console.push(":quit")
