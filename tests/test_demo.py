"""`dspy-rlm demo`: the policies find the answers, the reference answers are correct, and the demo runs offline."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import dspy
import pytest
from thrifty_pool import ThriftyPool

from dspy_rlm import RLM
from dspy_rlm.cli.demo.policies import play_root, play_sub, speaks_of
from dspy_rlm.cli.demo.questions import (
    QUESTIONS,
    class_places,
    modules_about,
    undocumented_functions,
)
from dspy_rlm.cli.demo.run import SUB_MODEL, DemoLMs, PlayerEngine, cast, run_demo, summary
from dspy_rlm.cli.main import main
from dspy_rlm.inputs.loading import Texts
from dspy_rlm.testing import Fault, PolicyServer
from sandbox_runtime import default_pool

WHERE, WHICH_FUNCTIONS, WHICH_MODULES = (question.signature for question in QUESTIONS)

SOURCES = {
    "socketserver.py": '"""Servers.\n\nclass Server: pass\n"""\n\nclass Server:\n    pass\n',
    "test/test_server.py": "class Server:\n    pass\n",
    "bad.py": "class Broken Server:\n",
    "pack/__init__.py": "def f(): pass\ndef g():\n    'Said.'\ndef _h(): pass\n",
    "pack/sub.py": "async def k(): pass\nclass C:\n    def method(self): pass\n",
    "pack/_private.py": "def f(): pass\n",
    "package.py": "def f(): pass\n",
    "gzip.py": '# A comment.\n\n"""Functions that read\nand write gzipped files."""\n',
    "zipfile/__init__.py": "r'''\nRead and write ZIP files.\n\nMore.'''\nx = 1\n",
    "wave.py": '"""Stuff to parse WAVE files.\n\nOnly without compression."""\n',
    "tarlike.py": "x = 1\n'''An archive, but no docstring.'''\n",
    "_zlib.py": "'''Compression, but private.'''\n",
    "test/test_gzip.py": "'''Compression, but a test.'''\n",
}


@pytest.fixture(scope="module")
def lms():
    """The scripted LMs of the demo."""
    with cast() as lms:
        yield lms


Answer = Callable[..., dspy.Prediction]


@pytest.fixture(scope="module")
def answer() -> Iterator[Answer]:
    """Returns `answer(lms, signature, **inputs)`, which runs an RLM on the sources."""
    pool = ThriftyPool()

    def answer(lms: DemoLMs, signature: str, **inputs: object) -> dspy.Prediction:
        with dspy.context(lm=lms.root):
            return RLM(signature, sub_lm=lms.sub, pool=pool)(sources=SOURCES, **inputs)

    yield answer
    pool.close()


class TestTruth:
    def test_a_class_is_where_its_statement_is(self):
        """A class quoted in a docstring is not a definition; every real one counts."""
        assert class_places(SOURCES, "Server") == [
            {"path": "socketserver.py", "line": 6},
            {"path": "test/test_server.py", "line": 1},
        ]

    def test_public_functions_of_public_modules_count(self):
        """Only public functions of public modules count: no methods, private names or other packages."""
        assert undocumented_functions(SOURCES, "pack") == ["pack.f", "pack.sub.k"]

    def test_docstrings_say_what_a_module_deals_with(self):
        """The subject is judged by the docstring's first paragraph, in public modules that are not tests."""
        assert modules_about(SOURCES, "data compression and archives") == ["gzip", "zipfile"]


class TestPolicies:
    """Policies do not know the answers: other files and questions give other answers."""

    def test_the_class_is_found(self, lms, answer):
        """A definition outside of tests comes first, and quoted code does not count."""
        found = answer(lms, WHERE, class_name="Server")

        assert (found.path, found.line) == ("socketserver.py", 6)

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("name", ["Nowhere", "Broken"])
    def test_a_class_that_is_not_there_is_not_found(self, lms, answer, name):
        """No match, or only one in a file that is not Python, gives an empty path."""
        found = answer(lms, WHERE, class_name=name)

        assert (found.path, found.line) == ("", 0)

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize(
        ("package", "functions"),
        [
            ("pack", ["pack.f", "pack.sub.k"]),
            ("package", ["package.f"]),
            ("gzip", []),
            ("nowhere", []),
        ],
    )
    def test_the_functions_are_listed(self, lms, answer, package, functions):
        """Functions are listed from the package's own files only, and the list may be empty."""
        assert answer(lms, WHICH_FUNCTIONS, package=package).functions == functions

    def test_the_modules_are_chosen(self, lms, answer):
        """Modules are selected by their docstrings, which the sub-LM judges in batches."""
        found = answer(lms, WHICH_MODULES, subject="data compression and archives")

        assert found.modules == ["gzip", "zipfile"]
        assert found.run.llm_calls == 1

    def test_failed_prompts_are_asked_again(self, answer):
        """A sub-LM that fails once costs a call, not the answer."""
        failing = {SUB_MODEL: Fault(status=500)}
        with PolicyServer({"root": play_root, SUB_MODEL: play_sub}, faults=failing) as server:
            lms = DemoLMs(server.lm("root"), server.lm(SUB_MODEL), over_http=True)
            found = answer(lms, WHICH_MODULES, subject="archives")

        assert found.modules == ["zipfile"]
        assert found.run.llm_calls == 2

    def test_they_can_be_asked_without_a_socket(self, answer):
        """If no server can listen on 127.0.0.1, the players answer within the process."""
        root, sub = (
            dspy.LM("policy/played", engine=PlayerEngine(player), cache=False)
            for player in (play_root, play_sub)
        )
        found = answer(DemoLMs(root, sub, over_http=False), WHICH_MODULES, subject="archives")

        assert found.modules == ["zipfile"]


class TestSubLM:
    @pytest.mark.parametrize(
        ("text", "subject", "verdict"),
        [
            ("Read and write ZIP\nfiles.", "archives", True),
            ("Iterate like zip().", "archives", False),
            ("Waves.\n\nWithout compression.", "compression", False),
            ("Uncompressed.", "compression", False),
            ("A turtle draws.", "turtles", False),
            ("Turtles draw.", "turtles", True),
        ],
    )
    def test_it_judges_by_words_of_the_first_paragraph(self, text, subject, verdict):
        """The sub-LM judges the first paragraph by the subject's vocabulary, or by its own words."""
        assert speaks_of(text, subject) is verdict


class TestRunDemo:
    def test_a_wrong_answer_fails(self, tmp_path, capsys):
        """The exit code is 0 only if all answers are right; the truth is shown beside a wrong one."""
        # A docstring in two literals is one to `ast`; the policy's expression does not see it.
        (tmp_path / "odd.py").write_text('"Reads " "archives."\n')

        assert run_demo(tmp_path) == 1
        output = capsys.readouterr().out
        assert "WRONG" in output
        assert "Truth: 1 modules: odd" in output
        assert output.splitlines()[-1].startswith("demo FAILED: 2 of 3 answers right, 1 file, ")

    def test_right_answers_pass(self, tmp_path, capsys):
        """With all answers right the exit code is 0, and the last line counts them. Each question has a journal."""
        (tmp_path / "zipped.py").write_text('"""Read and write ZIP archives."""\n')

        assert run_demo(tmp_path, journal=str(tmp_path / "runs")) == 0
        assert len(list((tmp_path / "runs").glob("*.jsonl"))) == 3
        output = capsys.readouterr().out
        assert output.count("\nRight. The truth, computed on the host: ") == 3
        assert output.splitlines()[-1].startswith("demo passed: 3 of 3 answers right, 1 file, ")

    def test_the_summary_is_one_line(self):
        """The summary is one line, even without a question."""
        assert "\n" not in summary([], Texts({}, 0), 1.0)


def demo(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo like a user, with warnings as errors."""
    return subprocess.run(
        [*command, sys.executable, "-W", "error", "-m", "dspy_rlm.cli.main", "demo", "--plain"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.fixture(scope="module")
def run():
    """A complete run, behind a proxy that does not exist."""
    return demo(http_proxy="http://127.0.0.1:9", LITELLM_LOCAL_MODEL_COST_MAP="")


@pytest.mark.nightly  # the questions take eight seconds; `TestRunDemo` asks them about one file
class TestWholeLibrary:
    """The command, on the source of the standard library."""

    def test_it_answers_everything_right(self, run):
        """The exit code, the marks of the answers and the last line agree."""
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.count("\nRight. The truth, computed on the host: ") == 3
        assert run.stdout.splitlines()[-1].startswith("demo passed: 3 of 3 answers right, ")

    def test_it_says_who_played(self, run):
        """The demo states at its start and its end that a script played the language model."""
        assert "No language model takes part. A scripted policy plays" in run.stdout
        assert run.stdout.splitlines()[-1].endswith(" s (scripted policy, no language model)")

    def test_it_loads_the_whole_library(self, run):
        """The demo reads megabytes of source, and reports the bytes."""
        last = run.stdout.splitlines()[-1]
        megabytes = float(last.partition(" MB,")[0].rpartition(" ")[2])

        assert megabytes > 5
        assert "bytes loaded" in run.stdout

    def test_it_asks_the_sub_lm(self, run):
        """The third question costs sub-calls, of which the budget allows 50."""
        rows = [line.split() for line in run.stdout.splitlines() if "  right  " in line]
        calls = [int(row[-3]) for row in rows]

        assert calls[:2] == [0, 0]
        assert 1 < calls[2] <= 50

    def test_it_shows_every_step(self, run):
        """Code and output go to stderr as they arrive, without colours if it is not a terminal."""
        assert "[2] That is far too much to read" in run.stderr
        assert "    >>> import re\n" in run.stderr
        assert "    hits: " in run.stderr
        assert "\x1b" not in run.stderr

    def test_it_makes_no_noise(self, run):
        """The demo prints no log lines, warnings or tracebacks."""
        for noise in ("Traceback", "WARNING", "Warning:", "dspy.clients"):
            assert noise not in run.stderr

    @pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
    def test_it_needs_no_network(self):
        """The demo answers without any network, even without a loopback interface."""
        alone = [shutil.which("unshare") or "unshare", "--net", "--map-root-user"]
        if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this machine does not let us make a network namespace")
        run = demo(*alone)

        assert run.returncode == 0, run.stdout + run.stderr
        assert "called in this process instead of over HTTP" in " ".join(run.stdout.split())


class TestCommand:
    def test_a_missing_engine_is_one_message(self, tmp_path, monkeypatch, capsys):
        """A missing engine gives one message with the remedy, without a traceback."""
        default_pool().close()
        no_deno = "def find_deno_bin():\n    raise FileNotFoundError\n"
        (tmp_path / "deno.py").write_text(no_deno)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.syspath_prepend(tmp_path)
        importlib.import_module("deno")  # so that it is there again after the test
        monkeypatch.delitem(sys.modules, "deno")

        assert main(["demo"]) == 30
        stderr = capsys.readouterr().err
        assert "Traceback" not in stderr
        assert stderr.splitlines()[-2].startswith(
            "dspy-rlm: Cannot start the sandbox: the package deno is installed"
        )
