"""The exit code of each kind of end, and what its message says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dspy
import pytest
from command_line import Server, run

from dspy_rlm.cli.exit_codes import code_of, code_of_answer
from dspy_rlm.errors import (
    BudgetExceededError,
    InputError,
    PriceUnknownError,
    RunFailedError,
    SignatureError,
)
from dspy_rlm.journal import JournalError
from dspy_rlm.reports.report import RunReport
from dspy_rlm.testing import Action, Fault, PolicyServer, asks_for, fields, route, scripted
from sandbox_runtime import PackageError, SandboxDiedError, SandboxStartError

REPORT = RunReport("failed", "a limit", (), 0, 0.0)


def failed(cause):
    """Returns the error of a run that a cause has ended."""
    error = RunFailedError("The run failed.", run=REPORT)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SignatureError("x"), 2),
        (InputError("x"), 10),
        (JournalError("x"), 10),
        (PriceUnknownError("x", limit="max_cost"), 11),
        (dspy.LMServerError("x"), 20),
        (dspy.LMRateLimitError("x"), 20),
        (dspy.LMAuthError("x"), 21),
        (dspy.LMNotConfiguredError("x"), 21),
        (SandboxStartError("x"), 30),
        (SandboxDiedError("x"), 30),
        (PackageError("x"), 30),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), None),
        (failed(BudgetExceededError("x", limit="max_cost")), 4),
        (failed(dspy.LMServerError("x")), 20),
        (failed(dspy.LMAuthError("x")), 21),
        (failed(SandboxDiedError("x")), 30),
        (failed(dspy.AdapterParseError("ChatAdapter", dspy.Signature("a -> b"), "?")), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_have_codes(error, code):
    """The code of an error is that of its class; that of a failed run, of its cause."""
    assert code_of(error) == code


@pytest.mark.parametrize("status", ["submitted", "extracted", "partial"])
@pytest.mark.parametrize("allow_partial", [True, False])
def test_answers_have_codes(status, allow_partial):
    """Only a submitted answer is complete; Ctrl-C shows whatever there is."""
    complete = status == "submitted" or allow_partial

    assert code_of_answer(status, "?", allow_partial=allow_partial) == (0 if complete else 3)
    assert code_of_answer(status, "interrupted", allow_partial=allow_partial) == 130


@pytest.fixture
def endless(run_here):
    """Runs `ask` with a root LM that never submits, and can extract."""

    def endless(*arguments):
        root = route(
            (asks_for("code"), scripted(Action("", "answer = 'half'"))),
            otherwise=fields(lambda _: {"answer": "a guess"}),
        )
        with PolicyServer({"root": root}) as policies:
            options = ["--model", "openai/root", "--api-base", policies.base_url]
            options += ["--max-iterations", "1", *arguments]
            return run_here("ask", "log.txt", "-q", "ERROR", *options)

    return endless


class TestEnds:
    """Runs that end in each way."""

    def test_a_partial_answer(self, endless):
        """A partial answer is printed, and its exit code is 3; the message says why."""
        done = endless("--on-exhausted", "partial")

        assert (done.returncode, done.stdout) == (3, "half\n")
        assert "dspy-rlm: The turns were used up. Not found: nothing." in done.stderr

    def test_allow_partial(self, endless):
        """With `--allow-partial` an extracted answer ends with 0, and the object has the warning."""
        done = endless("--allow-partial", "--json")
        result = json.loads(done.stdout)

        assert (done.returncode, result["exit_code"], result["status"]) == (0, 0, "extracted")
        assert result["warnings"][0].startswith("The turns were used up.")

    def test_no_turn_left(self, endless):
        """A limit without an answer is 4, and the message names the flags that raise it."""
        done = endless("--on-exhausted", "raise")

        assert (done.returncode, done.stdout) == (4, "")
        assert "--max-iterations" in done.stderr

    def test_a_wrong_key(self, server: Server):
        """A server that refuses the key is 21, and the message names the variable of the key."""
        server.policies.fail("root", Fault(status=401, times=None))
        done = server.ask("log.txt", "-q", "ERROR")

        assert (done.returncode, done.stdout) == (21, "")
        assert "export OPENAI_API_KEY=" in done.stderr

    def test_a_failing_server_of_a_recorded_run(self, server: Server):
        """A server that fails is 20; with a journal, the message says how the run goes on."""
        server.policies.fail("root", Fault(status=500, after=1, times=None))
        done = server.ask("log.txt", "-q", "ERROR", "--journal", "run.jsonl")

        assert done.returncode == 20
        assert f"dspy-rlm ask --resume {Path('run.jsonl').absolute()}" in done.stderr

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody can write to")
    def test_no_engine(self, server: Server):
        """A sandbox that cannot be started is 30, no request is sent, and the message names the doctor."""
        arguments = ["ask", *server.arguments, "log.txt", "-q", "ERROR"]
        done = run(*arguments, folder=server.folder, variables={"XDG_CACHE_HOME": "/proc/nothing"})

        assert done.returncode == 30, done.stderr
        assert "dspy-rlm doctor" in done.stderr
        assert server.policies.requests == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-q", "Why?"], 2, "Name a file, a folder or an address, or - for stdin."),
        (["log.txt"], 2, "Write it after -q."),
        (["log.txt", "-q", "?", "--max-cost", "-1"], 2, "max_cost must be a positive number"),
        (["log.txt", "-q", "?", "--price", "cheap"], 2, "must be MODEL=PROMPT,REPLY"),
        (["log.txt", "-q", "?", "--sub-model", "a=x/b", "--sub-model", "a=x/c"], 2, "NAME=MODEL"),
        (["log.txt", "-q", "?", "--tools", "json"], 2, "must be MODULE:FUNCTION"),
        (["log.txt", "-q", "?", "--tools", "nothing_here:f"], 11, "cannot be imported"),
        (["log.txt", "-q", "?", "--tools", "json:nothing"], 11, "json has no 'nothing'"),
        (["log.txt", "-q", "?", "--journal", "log.txt/x"], 11, "No journal can be written"),
        (["log.txt", "-q", "?", "--output", "nowhere/x"], 11, "its folder does not exist"),
        (["log.txt", "-q", "?", "--events", "nowhere/x"], 11, "The events cannot be written"),
        (["log.txt", "-q", "?", "--events", "logs/b.txt"], 11, "is not replaced"),
        (["log.txt", "-q", "?", "--max-cost", "1"], 11, "price"),
        (["--resume", "nothing.jsonl"], 10, "runs list"),
        (["--resume", "log.txt"], 10, "is not a journal"),
        (["--resume", "log.txt", "--sig", "a -> b"], 2, "Leave out --sig"),
    ],
)
def test_mistakes(run_here, arguments, code, message):
    """Each mistake has the exit code of its kind, and one message with what to do."""
    done = run_here(
        "ask", *arguments, variables={"DSPY_RLM_MODEL": "openai/root", "OPENAI_API_KEY": "none"}
    )

    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
