"""`dspy-rlm run program.py:rlm`: inputs from the shell, and the object, events, limits and exit codes of `ask`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import dspy
import pydantic
import pytest
from command_line import Run, Server

import dspy_rlm
from dspy_rlm import Directory, TextFile
from dspy_rlm.cli.asking.recorded_lms import asked_again, sub_options
from dspy_rlm.cli.exit_codes import CommandError
from dspy_rlm.cli.programs.command import split_name
from dspy_rlm.cli.programs.inputs import inputs_of
from dspy_rlm.errors import InputError
from dspy_rlm.journal import load
from dspy_rlm.testing import Fault

PROGRAM = """\
import dspy
import dspy_rlm

print("this is printed while the program is imported")
rlm = dspy.RLM("text: str, question: str -> answer: str, lines: list[int]", max_iterations=7)
number = 3


def build():
    return dspy_rlm.RLM("text, question -> answer", sub_lm=dspy.LM({sub!r}, api_base={address!r}, api_key="x", temperature=0.3))


def own():
    found = build()
    found.set_lm(dspy.LM("openai/root", api_base={address!r}, api_key="x", temperature=0.7))
    return found


if __name__ == "__main__":
    raise SystemExit("not imported")
"""


@pytest.fixture
def program(server: Server) -> Server:
    """A server, and a program in the folder that uses it."""
    text = PROGRAM.replace("{address!r}", repr(server.policies.base_url))
    (server.folder / "program.py").write_text(text.replace("{sub!r}", "'openai/sub'"))
    return server


INPUTS = ["--text", "@log.txt", "--question", "ERROR"]


class Lazy(dspy.Signature):
    """A signature with a file."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    a: TextFile = dspy.InputField()
    b: str = dspy.OutputField()


class TestRun:
    def test_inputs_are_flags(self, program: Server):
        """Inputs come from flags, models from flags too; stdout has the answer and nothing else."""
        done = program.run("run", "program.py:rlm", *INPUTS, *program.arguments)

        assert (done.returncode, done.stdout) == (0, "answer: It is bad: 2\nlines: [2, 4]\n"), (
            done.stderr
        )
        assert "printed while the program is imported" in done.stderr

    def test_a_program_with_models_of_its_own_needs_none(self, program: Server):
        """A function that returns an RLM is called; its LMs are used unless a flag names others."""
        done = program.run(
            "run", "program.py:own", *INPUTS, variables={"DSPY_RLM_MODEL": "openai/x"}
        )

        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n"), done.stderr
        assert program.policies.requests[0].request.raw["temperature"] == 0.7

    def test_the_object_the_events_and_the_journal(self, program: Server):
        """`--json`, `--events` and `--journal` are those of `ask`, before or after the program."""
        options = ["--json", "--events", "events.jsonl"]
        done = program.run("run", "--journal", "runs", "program.py:own", *INPUTS, *options)
        facts = json.loads(done.stdout)
        events = [json.loads(line) for line in Path("events.jsonl").read_text().splitlines()]

        assert (facts["format"], facts["exit_code"], facts["status"]) == (
            "dspy-rlm/answer",
            0,
            "submitted",
        )
        assert facts["outputs"] == {"answer": "It is bad: 2"}
        assert facts["coverage"]["text"]["chars"] == 31
        assert Path(facts["journal"]).parent == Path("runs").absolute()
        assert (events[0]["event"], events[-1]) == (
            "start",
            {**events[-1], "event": "exit", "exit_code": 0},
        )

    def test_limits_and_exit_codes(self, program: Server):
        """A flag replaces the program's limit; ends have the codes of `ask`."""
        limited = program.run(
            "run", "program.py:own", *INPUTS, "--max-iterations", "1", "--on-exhausted", "raise"
        )
        wrong = program.run("run", "program.py:own", *INPUTS, "--max-cost", "-1")

        assert (limited.returncode, limited.stdout) == (4, "")
        assert wrong.returncode == 2
        assert "max_cost" in wrong.stderr

    def test_dry_run(self, program: Server):
        """`--dry-run` prints the bill and the first prompt of the program's RLM, and sends nothing."""
        done = program.run(
            "run",
            "program.py:own",
            *INPUTS,
            "--dry-run",
            "--price",
            "openai/root=1,2",
            "--price",
            "openai/sub=1,2",
            "--max-cost",
            "0.1",
        )

        assert done.returncode == 0, done.stderr
        assert "cost:     $0.10 (by max_cost)" in done.stdout
        assert "first prompt:" in done.stdout
        assert program.policies.requests == []

    def test_resume(self, program: Server):
        """A run that failed goes on with the program's own LMs, and pays nothing twice."""
        program.policies.fail("root", Fault(after=2, status=400))
        failed = program.run("run", "program.py:own", *INPUTS, "--journal", "run.jsonl")
        asked = len(program.policies.requests_to("sub"))
        done = program.run("run", "program.py:own", "--resume", "run.jsonl")

        assert failed.returncode == 20
        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n"), done.stderr
        assert len(program.policies.requests_to("sub")) == asked == 1

    def test_ask_goes_on_with_the_options_of_a_program(self, program: Server):
        """`ask --resume` restores the options of the program's LMs from the record, so that answers are not paid twice."""
        program.policies.fail("root", Fault(after=2, status=400))
        program.run("run", "program.py:own", *INPUTS, "--journal", "run.jsonl")
        done = program.run("ask", "--resume", "run.jsonl", "--api-base", program.policies.base_url)

        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n"), done.stderr
        assert len(program.policies.requests_to("sub")) == 1
        assert program.policies.requests_to("root")[-1].request.raw["temperature"] == 0.7

    def test_what_is_asked_again_is_announced(self, program: Server):
        """With another sub-model, a warning says how many recorded answers do not count, before anything is sent."""
        program.run("run", "program.py:own", *INPUTS, "--journal", "run.jsonl")
        record = load("run.jsonl")
        (other,) = asked_again(record, "openai/root", {"": "openai/other"})

        assert other.startswith("1 answer of openai/sub is in the journal, and is asked again of")
        assert "openai/other" in other
        assert asked_again(record, "openai/root", {"": "openai/sub"}) == []
        assert sub_options(record, "openai/sub") == {"temperature": 0.3}

    def test_a_whole_program_may_record(self, server: Server):
        """`run --journal DIR program.py` records the runs of the program; its own arguments stay its own."""
        Path("whole.py").write_text(
            "import sys, dspy\n"
            f"dspy.configure(lm=dspy.LM('openai/root', api_base={server.policies.base_url!r}, api_key='x'))\n"
            f"SUB = dspy.LM('openai/sub', api_base={server.policies.base_url!r}, api_key='x')\n"
            "print(dspy.RLM('text: str, question -> answer', sub_lm=SUB)(text=sys.argv[2], question='ERROR').answer)\n"
        )
        before = dict(dspy.settings.config)
        try:
            done = server.run("run", "--journal", "runs", "whole.py", "--json", "an ERROR")
        finally:
            dspy_rlm.configure(journal=None)
            dspy_rlm.drop_in.uninstall()
            dspy.settings.configure(lm=before.get("lm"))

        assert done.returncode == 0, done.stderr
        assert len(list(Path("runs").glob("*.jsonl"))) == 1


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["program.py:rml"], 11, "has no 'rml'. Did you mean 'rlm'?"),
            (
                ["program.py:number"],
                11,
                "number of program.py is not an RLM but an object of type int",
            ),
            (["nothing.py:rlm"], 10, "There is no file 'nothing.py' to run."),
            (["leaving.py:rlm"], 11, "leaving.py cannot be imported: SystemExit"),
            (["whole.py:pipeline"], 11, "It has the RLM pipeline.search."),
            (["broken.py:rlm"], 11, "broken.py cannot be imported: ZeroDivisionError"),
            (["program.py:rlm", "--qestion", "x"], 2, "Did you mean --question?"),
            (
                ["program.py:rlm", "--text", "a", "--text", "b"],
                2,
                "The input 'text' has two values",
            ),
            (
                ["program.py:rlm", "--text", "a"],
                10,
                "An input is missing: question. Add --question ...",
            ),
            (["program.py:rlm", "--text"], 2, "--text has no value"),
            (["program.py:rlm", "stray"], 2, "'stray' is not a flag"),
            (["program.py:rlm", "--inputs", "[1]"], 10, "must be a JSON object"),
            (["program.py:rlm", "--text", "@none.txt"], 10, "Cannot read none.txt"),
            (["program.py:rlm", "--text", "a", "--question", "b"], 11, "No model is configured"),
            (["--json", "program.py"], 2, "--json applies to one RLM"),
        ],
    )
    def test_before_anything_is_sent(self, program: Server, arguments, code, message):
        """A mistake has its exit code, and says what to do."""
        Path("broken.py").write_text("1 / 0\n")
        Path("leaving.py").write_text("raise SystemExit(3)\n")
        Path("whole.py").write_text(
            "import dspy\nclass Pipeline(dspy.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.search = dspy.RLM('a -> b')\npipeline = Pipeline()\n"
        )
        done = program.run("run", *arguments)

        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
        assert program.policies.requests == []

    def test_a_mistake_is_an_object_too(self, program: Server):
        """With `--json`, there is one object on stdout for a mistake."""
        done = program.run("run", "program.py:rlm", "--json")

        assert json.loads(done.stdout)["exit_code"] == done.returncode == 10


class TestInputs:
    """Values by the types of the fields."""

    @staticmethod
    def of(signature: str, *flags: str, **options: object) -> dict[str, object]:
        """Returns the inputs of flags."""
        return inputs_of(dspy.Signature(signature), flags, (), None, **options)  # type: ignore[arg-type]

    def test_types(self):
        """A text is taken as it is; another type is JSON."""
        found = self.of(
            "a: str, b: int, c: list[str], d -> e", "--a", "1", "--b=2", "--c", '["x"]', "--d", "="
        )

        assert found == {"a": "1", "b": 2, "c": ["x"], "d": "="}
        with pytest.raises(InputError, match="'b' is of type int, so its value must be JSON"):
            self.of("b: int -> e", "--b", "two")

    def test_files(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        """`@FILE` is the content, as text or JSON; `@@` is an at sign; a TextFile is opened, not read."""
        monkeypatch.chdir(folder)
        (folder / "numbers.json").write_text("[1, 2]")
        assert self.of("a, b: list[int] -> e", "--a", "@@me", "--b", "@numbers.json") == {
            "a": "@me",
            "b": [1, 2],
        }
        (lazy,) = inputs_of(Lazy, ["--a", "@log.txt"], (), None).values()
        (logs,) = self.of("a -> b", "--a", "@logs").values()

        assert isinstance(lazy, TextFile)
        assert isinstance(logs, Directory)

    def test_one_object(self, monkeypatch: pytest.MonkeyPatch):
        """`--inputs` is one object; `--input` is for names of other flags."""
        signature = dspy.Signature("model, price: int -> e")
        monkeypatch.setattr("sys.stdin", io.StringIO('{"model": "m"}'))

        assert inputs_of(signature, (), ["price=3"], "-") == {"model": "m", "price": 3}
        with pytest.raises(CommandError, match="NAME=VALUE"):
            inputs_of(signature, (), ["json"], None)


@pytest.mark.parametrize(
    ("program", "as_module", "expected"),
    [
        ("a.py:rlm", False, ("a.py", "rlm")),
        ("a.py:x.rlm", False, ("a.py", "x.rlm")),
        ("a.py", False, ("a.py", "")),
        ("C:\\a.py", False, ("C:\\a.py", "")),
        ("pack.mod:rlm", True, ("pack.mod", "rlm")),
        ("pack.mod:rlm", False, ("pack.mod:rlm", "")),
        ("a:b.py", False, ("a:b.py", "")),
    ],
)
def test_names_of_rlms(program: str, as_module: bool, expected: tuple[str, str]):
    """A name follows a Python file, or with `-m` a module; any other colon belongs to the path."""
    assert split_name(program, as_module=as_module) == expected


def test_help_after_the_program(run_here: Run):
    """`run program.py:rlm --help` has the flags of the command."""
    with pytest.raises(SystemExit) as ended:
        run_here("run", "program.py:rlm", "--help")

    assert ended.value.code == 0
