"""`dspy-rlm ask`: dry runs, events, journals, the JSON object, several sub-models, tools, the file of the answer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import dspy
import pytest
from command_line import Server

from dspy_rlm.cli.asking.request import named_models, prices, request_of
from dspy_rlm.cli.main import command_parser
from dspy_rlm.events import ActionChosen
from dspy_rlm.journal import load
from dspy_rlm.terminal.progress import Progress
from dspy_rlm.testing import Action, PolicyServer, rules, scripted


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        """Says so."""
        return True


def envelope(done):
    """Returns the JSON object that a command has printed."""
    return json.loads(done.stdout)


@pytest.fixture
def ask(folder, run_here):
    """Runs `ask` on log.txt with cells as the root LM, and a sub-LM that names itself."""

    def ask(*cells, arguments=(), names=()):
        models = {"root": scripted(*(Action("", cell) for cell in cells))}
        models |= {name: rules([], f"I am {name}") for name in ("sub", *names)}
        with PolicyServer(models) as policies:
            options = ["--api-base", policies.base_url, "--model", "openai/root"]
            return run_here("ask", "log.txt", "-q", "ERROR", *options, *arguments)

    return ask


class TestDryRun:
    """A dry run sends nothing, and says what a run would send and cost."""

    def test_it_has_the_exact_first_prompt(self, server: Server):
        """The first prompt is that of the run itself, message by message; no request is sent, no journal written."""
        dry = server.ask("log.txt", "-q", "ERROR", "--dry-run", "--json", "--journal", "runs")
        assert server.policies.requests == []
        assert list(Path("runs").glob("*")) == []
        server.ask("log.txt", "-q", "ERROR")

        first = server.policies.requests[0]
        sent = [(message.role, message.text) for message in first.messages]
        planned = [(message["role"], message["content"]) for message in envelope(dry)["prompt"]]
        assert planned == sent

    def test_it_needs_no_key(self, run_here):
        """Without a key and without a server there is a dry run, with the prices of DSPy's table."""
        done = run_here(
            "ask", "log.txt", "-q", "ERROR", "--model", "openai/gpt-4o-mini", "--dry-run"
        )

        assert done.returncode == 0, done.stderr
        assert "text: str, 1 text, 31 characters, about 8 tokens" in done.stdout
        assert "LM calls: 23 of the root (with the extraction), 50 of the code" in done.stdout
        assert "cost:     $" in done.stdout
        assert "Not known" not in done.stdout
        assert "Turn 1 of 20; 50 sub-LM prompts left" in done.stdout

    def test_budgets_bound_the_bill_of_an_unknown_model(self, run_here):
        """A model without a price has a bill if `--max-cost` is set; a price of the user's counts as one."""
        options = ["--model", "openai/mine", "--dry-run", "--json"]
        bounds = ["--max-cost", "0.5", "--max-tokens", "10000", "--price", "openai/mine=1,2"]
        bare = envelope(run_here("ask", "log.txt", "-q", "E", *options))["worst_case"]
        bound = envelope(run_here("ask", "log.txt", "-q", "E", *options, *bounds))["worst_case"]

        assert (bare["tokens"], bare["cost"]) == (None, None)
        assert "the price of openai/mine" in bare["unknown"]
        assert (bound["tokens"], bound["bounded_by"]) == (10_000, "max_tokens")
        assert bound["cost"] == pytest.approx(0.02)


class TestOutput:
    """The answer, and what is written beside it."""

    def test_quiet_where_stderr_is_no_terminal(self, server):
        """Without a terminal and without `--plain`, one line says what was spent, and no step is shown."""
        done = server.ask("log.txt", "-q", "ERROR")

        assert done.stdout == "It is bad: 2\n"
        assert done.stderr.startswith("(3 iterations, 1 sub-LM call, ")
        assert done.stderr.count("\n") == 1

    def test_the_json_object_is_versioned(self, server):
        """The object has status, outputs, usage by model and depth, cost, coverage, warnings, and the journal.

        A program finds the same fields where there is no answer.
        """
        done = server.ask("log.txt", "-q", "ERROR", "--json", "--journal", "runs")
        result = envelope(done)

        assert (result["format"], result["version"], result["exit_code"]) == (
            "dspy-rlm/answer",
            1,
            0,
        )
        assert (result["status"], result["error"], result["warnings"]) == ("submitted", None, [])
        usage = {(one["model"], one["depth"]): one["calls"] for one in result["usage"]}
        assert usage == {("openai/root", 0): 3, ("openai/sub", 0): 1}
        assert result["cost"] is None
        assert result["coverage"]["text"]["chars"] == 31
        assert load(result["journal"]).ended["status"] == "submitted"
        early = envelope(server.run("ask", "nothing.txt", "-q", "Why?", "--json"))
        documented = (
            "status stopped_by outputs usage cost coverage warnings journal error exit_code"
        )
        assert set(documented.split()) <= set(result) & set(early)
        assert (early["outputs"], early["exit_code"], early["version"]) == (None, 10, 1)

    def test_events_go_to_a_file_or_to_stderr(self, server):
        """The events are lines of JSON, the first with the version, the last with the exit code; stderr has only them."""
        done = server.ask("log.txt", "-q", "ERROR", "--events", "--plain")
        to_file = server.ask("log.txt", "-q", "ERROR", "--events", "events.jsonl")
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        filed = [json.loads(line) for line in Path("events.jsonl").read_text().splitlines()]
        names = [line["event"] for line in lines]

        assert done.stdout == to_file.stdout == "It is bad: 2\n"
        assert (lines[0]["format"], lines[0]["version"]) == ("dspy-rlm/events", 1)
        assert [name for name in names if name in ("action", "step")] == ["action", "step"] * 3
        assert lines[-1] == {**lines[-1], "event": "exit", "exit_code": 0}
        assert [line["event"] for line in filed] == names
        assert lines[names.index("step")]["output"] == "31"

    def test_an_error_among_events_is_a_line_too(self, run_here):
        """With events on stderr an error is an event, so that each line can be parsed."""
        done = run_here("ask", "log.txt", "-q", "E", "--events")

        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert done.returncode == 11
        assert lines[-1]["event"] == "message"
        assert "No model is configured" in lines[-1]["text"]

    @pytest.mark.parametrize(
        ("flags", "shown"), [([], True), (["--plain"], True), (["--quiet"], False)]
    )
    def test_a_terminal_shows_the_steps(self, monkeypatch, flags, shown):
        """On a terminal the steps are shown, in colour unless they are to be plain."""
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        request = request_of(command_parser().parse_args(["ask", "log.txt", "-q", "?", *flags]))
        Progress(plain=request.plain)(ActionChosen(1, "Look.", "print(1)"))

        assert request.shows_steps is shown
        assert ("\x1b[1m" in terminal.getvalue()) is ("--plain" not in flags)

    def test_the_answer_goes_to_a_file(self, ask):
        """`--output` replaces a file as a whole, and stdout is empty."""
        Path("answer.txt").write_text("an old one, and longer than the new one")
        done = ask("SUBMIT('new')", arguments=["--output", "answer.txt"])

        assert done.stdout == ""
        assert Path("answer.txt").read_text() == "new\n"
        assert [path.name for path in Path().glob(".answer*")] == []


class TestParts:
    """Sub-models by name, tools, signatures with names of their own."""

    def test_several_sub_models_by_name(self, ask):
        """Code picks a sub-model by the name before `=`, or by that of the model."""
        done = ask(
            "SUBMIT(sub_llm('?', model='cheap') + ', ' + sub_llm('?', model='large'))",
            arguments=["--sub-model", "cheap=openai/small", "--sub-model", "openai/large"],
            names=("small", "large"),
        )

        assert done.stdout == "I am small, I am large\n", done.stderr

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("place", ["lookups:look", "lookups.py:look", "lookups.py:both"])
    def test_tools_are_functions_of_modules(self, ask, monkeypatch, place):
        """A tool is named by a module in the current folder or by a file; a list of tools is all of them."""
        Path("lookups.py").write_text(
            "def look(word: str) -> str:\n    return word[::-1]\n\nboth = [look]\n"
        )
        monkeypatch.syspath_prepend(str(Path.cwd()))
        monkeypatch.delitem(__import__("sys").modules, "lookups", raising=False)
        done = ask("SUBMIT(look('abc'))", arguments=["--tools", place])

        assert done.stdout == "cba\n", done.stderr

    def test_the_source_may_have_a_name_of_its_own(self, ask):
        """A signature may name its source otherwise, and have `Quote` as a type, which is found in it."""
        done = ask(
            "SUBMIT(answer='two', sources=[Quote(text='two ERROR')])",
            arguments=["--sig", "docs, question -> answer: str, sources: list[Quote]", "--json"],
        )

        assert done.returncode == 0, done.stderr + done.stdout
        (source,) = envelope(done)["outputs"]["sources"]
        assert source["text"] == "two ERROR"

    def test_a_killed_run_goes_on(self, server):
        """`--resume` goes on with a journal without its end: what was answered is not asked again."""
        server.ask("log.txt", "-q", "ERROR", "--journal", "run.jsonl")
        requests_ = len(server.policies.requests)
        journal = Path("run.jsonl")
        lines = journal.read_text().splitlines(keepends=True)
        second = next(
            n for n, line in enumerate(lines) if '"step"' in line and '"number":2' in line
        )
        journal.write_text("".join(lines[: second + 1]))
        dspy.configure_cache(enable_disk_cache=False)  # the cache of the first run has the answer
        done = server.run("ask", "--resume", "run.jsonl", *server.arguments)

        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n"), done.stderr
        assert len(server.policies.requests) == requests_ + 1
        assert load(journal).resumes == 1

    def test_models_by_name(self):
        """A single model has no name of its own; several have theirs, or that of the model."""
        assert named_models(["openai/a"]) == {"": "openai/a"}
        assert named_models(["x=openai/a"]) == {"x": "openai/a"}
        assert named_models(["x=openai/a", "openai/org/b"]) == {
            "x": "openai/a",
            "b": "openai/org/b",
        }

    def test_prices_by_model(self):
        """A price is two numbers after the last `=`."""
        assert prices(["openai/a=b=1,2.5"]) == {"openai/a=b": (1.0, 2.5)}
