"""`dspy-rlm ask` and the common parts of all commands: messages, exit codes, the ends of a run.

The LM behind `ask` is a policy server in this process. Where the subject is no process, terminal or pipe, the
command runs in this process too: a new one needs two seconds to import DSPy.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command_line import COMMAND, Server, environment, run

from dspy_rlm.cli.ask import answer_text, how_to_configure
from dspy_rlm.cli.main import main
from dspy_rlm.testing import (
    Action,
    Fault,
    PolicyServer,
    Task,
    asks_for,
    fields,
    policy,
    route,
    rules,
    scripted,
)

HOSTILE = "\x1b]0;pwned\x07\x1b[2J\u202eevil\u2066 \x9b1m\x08\r\u200bend"

# Characters that control a terminal, or hide other text.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


@policy
def tell_all(task: Task):
    """Prints the text, fails with it, and submits it."""
    yield Action(f"It says {HOSTILE}", "print(text)")
    yield Action("", "raise ValueError(text)")
    yield Action("", "SUBMIT(text)")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
class TestTerminal:
    """Control characters are spelled out on a terminal; a file or a pipe gets the answer unchanged."""

    @pytest.fixture
    def hostile(self, folder, run_here):
        (folder / "hostile.txt").write_text(HOSTILE, newline="")
        server = Server(folder, run_here)
        server.policies = PolicyServer({"root": tell_all, "sub": rules([])})
        server.arguments[1] = server.policies.base_url
        with server.policies:
            yield server

    @staticmethod
    def on_terminal(*arguments, folder):
        """Returns the output of a command whose stdout and stderr are a terminal."""
        ours, theirs = os.openpty()
        command = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        output = b""
        try:
            while part := os.read(ours, 65536):
                output += part
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(ours)
        command.wait(60)
        return output.decode().replace("\r\n", "\n")

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("more", [["--plain"], ["--quiet"], ["--json", "--plain"]])
    def test_an_answer_on_a_terminal(self, hostile, more):
        """Control characters in the answer and in every step before it are spelled out on a terminal."""
        output = self.on_terminal(
            "ask", *hostile.arguments, "hostile.txt", "-q", "Why?", *more, folder=hostile.folder
        )

        assert "end" in output
        assert "x1b]0;pwned" in output or "u001b]0;pwned" in output
        assert OBEYED.findall(output) == []

    def test_an_answer_in_a_pipe(self, hostile):
        """An answer in a pipe is unchanged byte for byte; stderr is escaped."""
        done = subprocess.run(
            [*COMMAND, "ask", *hostile.arguments, "hostile.txt", "-q", "Why?"],
            cwd=hostile.folder,
            env={**environment(hostile.folder), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        )

        assert done.stdout.decode() == f"{HOSTILE.replace(chr(13), chr(10))}\n"
        assert OBEYED.findall(done.stderr.decode()) == []

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize(
        "arguments",
        [
            ["ask", "evil\x1b[2J.txt", "-q", "Why?", "--model", "openai/x"],
            ["ask", "log.txt", "-q", "Why?", "--model", "openai/x", "--sig", "\x1b[2J -> \u202e"],
            ["ask", "log.txt", "-q", "Why?", "--\x1b]0;pwned\x07"],
            ["run", "evil\x1b[2J.py"],
            ["run", "fails.py"],
            ["\x1b[2J"],
        ],
    )
    def test_errors(self, folder, arguments):
        """Control characters in errors are spelled out: in file names, arguments and messages of programs."""
        (folder / "fails.py").write_text("raise ValueError('\\x1b[2J\\u202e')")
        output = self.on_terminal(*arguments, folder=folder)

        assert "x1b" in output
        assert OBEYED.findall(output) == []


class TestAsk:
    def test_a_file_is_a_text(self, server):
        """Only the answer goes to stdout; loaded files, steps and the spending go to stderr."""
        done = server.ask("log.txt", "-q", "ERROR", "--plain")

        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n"), done.stderr
        assert "Loaded 1 file, 31 bytes. Asking openai/root and openai/sub.\n" in done.stderr
        assert "    >>> print(len(text))\n    31\n" in done.stderr
        assert "Submitted, 3 iterations, 1 sub-LM call, " in done.stderr

    def test_a_folder_is_a_dict_of_texts(self, server):
        """A folder is a dict of texts by relative path; typed outputs are shown as JSON after their names."""
        signature = "files, question -> answer: str, lines: list[int]"
        done = server.ask("logs", "-q", "ERROR", "--sig", signature, "--plain")

        assert done.stdout == "answer: It is bad: 2\nlines: [3, 5]\n", done.stderr
        assert "['a.txt', 'b.txt']" in done.stderr
        assert "Loaded 2 files, 36 bytes; skipped 1 binary (2 bytes)." in done.stderr

    def test_json_is_one_object(self, server):
        """`--json` prints one object with outputs and spending; with `--quiet` stderr is empty."""
        signature = "text, question -> answer: str, lines: list[int]"
        done = server.ask("log.txt", "-q", "ERROR", "--sig", signature, "--json", "--quiet")
        result = json.loads(done.stdout)

        assert result["outputs"] == {"answer": "It is bad: 2", "lines": [2, 4]}
        assert (result["status"], result["iterations"], result["llm_calls"]) == ("submitted", 3, 1)
        assert done.stderr == ""

    def test_a_quiet_run_of_the_models_that_the_environment_names(self, server):
        """Environment variables replace the options; a quiet run prints one line to stderr instead of all steps."""
        server.arguments = ["--api-base", server.policies.base_url]
        names = {"DSPY_RLM_MODEL": "openai/root", "DSPY_RLM_SUB_MODEL": "openai/sub"}
        done = server.ask("log.txt", "-q", "ERROR", "--quiet", **names)

        assert done.stdout == "It is bad: 2\n", done.stderr
        assert done.stderr.startswith("(3 iterations, 1 sub-LM call, ")
        assert done.stderr.count("\n") == 1

    def test_a_failing_model_is_a_message(self, server):
        """A failing model gives a message with the error and the spending, without a traceback."""
        server.policies.fail("root", Fault(status=500, after=1, times=None))
        done = server.ask("log.txt", "-q", "ERROR")

        assert (done.returncode, done.stdout) == (20, "")
        assert (
            "dspy-rlm: no answer. LMServerError: [openai/root] The server was told" in done.stderr
        )
        assert "\nSpent: 1 iteration (3 retries), 0 sub-LM calls, " in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_failing_model_is_json_too(self, server):
        """With `--json`, the error and the spending are JSON too."""
        server.policies.fail("root", Fault(status=400, after=2, times=None))
        done = server.ask("log.txt", "-q", "ERROR", "--json", "--quiet")
        result = json.loads(done.stdout)

        assert done.returncode == 20
        assert result["error"].startswith("LMInvalidRequestError: ")
        assert (result["status"], result["iterations"], result["llm_calls"]) == ("failed", 2, 1)

    def test_a_missing_key_tells_how_to_give_one(self, run_here):
        """The model is named but cannot be used: the message says how to configure it."""
        done = run_here("ask", "log.txt", "-q", "ERROR", "--model", "openai/gpt-5-mini")

        assert done.returncode == 21
        assert done.stderr.count("no API key found") == 1
        assert "export OPENAI_API_KEY=" in done.stderr
        assert "To fix" not in done.stderr

    def test_a_missing_key_of_the_sub_model_is_found_first(self, run_here, server):
        """No request is sent and no sandbox starts; with `--json`, the error is JSON."""
        options = ["--model", "openai/root", "--sub-model", "anthropic/claude-x", "--json"]
        address = ["--api-base", server.policies.base_url]
        done = run_here("ask", "log.txt", "-q", "ERROR", *options, *address)

        assert done.returncode == 21
        assert json.loads(done.stdout)["error"].startswith("LMNotConfiguredError: ")
        assert "export ANTHROPIC_API_KEY=" in done.stderr
        assert server.policies.requests == []

    @pytest.mark.parametrize("quiet", [["--quiet"], ["--plain"]])
    def test_an_extracted_answer_is_no_submitted_one(self, run_here, quiet):
        """A line says that the turns were used up; the JSON has the status."""
        root = route(
            (asks_for("code"), scripted(Action("", "print(1)"))),
            otherwise=fields(lambda _: {"answer": "a guess"}),
        )
        with PolicyServer({"root": root}) as policies:
            options = ["--model", "openai/root", "--api-base", policies.base_url]
            options += ["--max-iterations", "1", *quiet]
            done = run_here("ask", "log.txt", "-q", "ERROR", *options)
            as_json = run_here("ask", "log.txt", "-q", "ERROR", "--json", *options)

        assert (done.returncode, done.stdout) == (3, "a guess\n")
        assert (
            "dspy-rlm: The turns were used up. This answer was extracted from the steps, not submitted."
        ) in done.stderr
        result = json.loads(as_json.stdout)
        assert (result["status"], result["stopped_by"]) == ("extracted", "max_iterations")
        assert result["outputs"] == {"answer": "a guess"}

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child")
    def test_ctrl_c_ends_everything(self, folder, deno_children):
        """Ctrl-C gives exit code 130, in the object too, and the spending, and leaves no process."""
        has_begun, answer = threading.Event(), threading.Event()

        def wait_for_ever(request: object) -> str:
            has_begun.set()
            answer.wait(60)
            return "too late"

        with PolicyServer({"root": wait_for_ever}) as policies:
            options = ["--model", "openai/root", "--api-base", policies.base_url]
            child = subprocess.Popen(
                [*COMMAND, "ask", "log.txt", "-q", "ERROR", "--json", *options],
                cwd=folder,
                env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert has_begun.wait(60)
            sandboxes = deno_children(child.pid)
            child.send_signal(signal.SIGINT)
            answered, output = child.communicate(timeout=30)
            answer.set()

        assert child.returncode == json.loads(answered)["exit_code"] == 130
        assert output.endswith("\ndspy-rlm: interrupted after 0 steps.\n")
        assert "Traceback" not in output
        assert sandboxes or sys.platform != "linux"
        assert not any(Path(f"/proc/{pid}").exists() for pid in sandboxes)


class TestMistakes:
    """A usage mistake gives one message with the remedy, and the exit code of its kind."""

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (
                ["logs", "--sig", "text, question -> a"],
                2,
                "calls its input 'text', but the files are a dict. Write --sig \"files, question ->",
            ),
            (
                ["log.txt", "--sig", "text -> a"],
                2,
                "needs the input 'question', and others for the files. It has 'text'.",
            ),
            (["log.txt", "--sig", "text, question"], 2, "is not a signature: "),
            (["logs", "--sig", "files: int, question -> a"], 10, "files: expected int"),
            (["log.txt", "--max-iterations", "0"], 2, "max_iterations must be a whole number"),
            (["log.txt", "--model", "openai/"], 11, "Cannot use the model 'openai/'"),
            (["nothing.txt"], 10, "no such file or folder"),
            (["empty.txt"], 10, "the file is empty"),
            (["/proc/self/mem"], 10, "Cannot read /proc/self/mem: input/output error."),
            (["logs/core"], 10, "core is binary data, not a text"),
        ],
    )
    def test_it_is_told(self, folder, monkeypatch, capsys, arguments, code, message):
        """A mistake is reported before an LM is called or a sandbox started."""
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DSPY_RLM_MODEL", "openai/root")
        (folder / "empty.txt").write_text("")

        assert main(["ask", *arguments, "-q", "Why?"]) == code
        output = capsys.readouterr()
        assert output.out == ""
        assert message in output.err
        assert output.err.count("dspy-rlm: ") == 1

    def test_an_empty_question_is_refused(self, folder, capsys):
        """A question of blanks would cost a run without an answer."""
        assert main(["ask", str(folder / "log.txt"), "-q", "  ", "--model", "openai/root"]) == 10
        assert "The question is empty" in capsys.readouterr().err

    def test_a_mistake_is_json_too(self, capsys):
        """With --json there is one JSON object on stdout for a usage error as well."""
        assert main(["ask", "nothing.txt", "-q", "Why?", "--json"]) == 10
        output = capsys.readouterr()
        assert json.loads(output.out)["error"].startswith("InputError: Cannot read nothing.txt")

    def test_a_missing_file_is_told_before_dspy_is_imported(self, folder):
        """The error takes no import of DSPy, which takes a second."""
        code = (
            "import sys; from dspy_rlm.cli.main import main; code = main(sys.argv[1:]); "
            "sys.exit(9 if 'dspy' in sys.modules else code)"
        )
        command = [
            sys.executable,
            "-c",
            code,
            "ask",
            "nothing.txt",
            "-q",
            "Why?",
            "--model",
            "openai/x",
        ]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )

        assert done.returncode == 10

    @pytest.mark.parametrize(
        ("model", "variable"),
        [
            ("anthropic/claude-x", "ANTHROPIC_API_KEY"),
            ("openrouter/some/model", "OPENROUTER_API_KEY"),
            ("together_ai/x", "TOGETHERAI_API_KEY"),
            ("openai/x", "OPENAI_API_KEY"),
            ("gpt-5", "OPENAI_API_KEY"),
        ],
    )
    def test_the_key_is_that_of_the_models_provider(self, model, variable):
        """The advice for a missing key names the variable of the provider."""
        assert f"export {variable}=..." in how_to_configure(model)
        assert f"--model {model}\n" in how_to_configure(model)

    def test_no_model_is_told_how_to_configure_one(self, folder, monkeypatch, capsys):
        """Without a model, the message names a key, a model, a self-hosted server, and the demo."""
        monkeypatch.delenv("DSPY_RLM_MODEL", raising=False)

        assert main(["ask", str(folder / "log.txt"), "-q", "Why?"]) == 11
        output = capsys.readouterr().err
        assert output.startswith("dspy-rlm: No model is configured")
        for hint in (
            "export OPENAI_API_KEY",
            "--model openai/",
            "DSPY_RLM_MODEL",
            "--api-base",
            "demo",
        ):
            assert hint in output

    @pytest.mark.parametrize("arguments", [[], ["ask", "--nothing"], ["fork"], ["nothing"]])
    def test_incomplete_commands_show_the_usage(self, capsys, arguments):
        """An incomplete command shows its usage."""
        with pytest.raises(SystemExit) as ended:
            main(arguments)

        assert ended.value.code == 2
        assert "usage: dspy-rlm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"answer": "Two\nlines"}, "Two\nlines"),
        ({"lines": [1, 2]}, "[1, 2]"),
        ({"a": "ä", "b": {"ü": None}}, 'a: ä\nb: {"ü": null}'),
        ({"a": "x\ny", "b": 1.5}, "a:\nx\ny\nb: 1.5"),
        ({"a": {1}}, "[1]"),
        ({"a": ["x" * 50, "y" * 50]}, f'[\n  "{"x" * 50}",\n  "{"y" * 50}"\n]'),
    ],
)
def test_answers_read_well(outputs, text):
    """Answers are texts unchanged and other values as JSON, with names only if there are several."""
    assert answer_text(outputs) == text


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise on Windows")
def test_a_reader_may_leave(folder):
    """`dspy-rlm demo | head -1` ends without an error message."""
    child = subprocess.Popen(
        [*COMMAND, "demo"],
        env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child, child.stdout, child.stderr:
        assert child.stdout.readline().startswith(b"dspy-rlm demo: ")
        child.stdout.close()
        output = child.stderr.read()

    assert child.returncode == 1
    assert b"Traceback" not in output
    assert b"BrokenPipe" not in output


def test_the_package_is_a_command(folder):
    """`python -m dspy_rlm` is the command line too, and `doctor` is one of its commands."""
    done = subprocess.run(
        [sys.executable, "-m", "dspy_rlm", "--help"],
        cwd=folder,
        env={**environment(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    assert "doctor" in done.stdout


def test_doctor_checks_the_sandbox(folder):
    """`dspy-rlm doctor` runs the sandbox's own check and passes on its exit code."""
    done = run("doctor", "--json", folder=folder)

    assert done.returncode == 0
    assert json.loads(done.stdout)
