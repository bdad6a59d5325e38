"""The whole module: RLM through `dspy.LM` and HTTP, with a real sandbox. Scripted policies play LMs."""

from __future__ import annotations

import asyncio
import datetime
import enum
import functools
import json
import re
from typing import Literal

import dspy
import pydantic
import pytest

from dspy_rlm import RLM, InputError, Limits, RunFailedError, SignatureError
from dspy_rlm.testing import Action, Fault, PolicyServer, Raw, policy, rules, scripted

PythonCode = dspy.Code["python"]


class Severity(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Finding(pydantic.BaseModel):
    path: str
    line: int = pydantic.Field(ge=1)
    severity: Severity = Severity.LOW


class Review(dspy.Signature):
    """Find what is wrong in the files."""

    files: dict[str, str] = dspy.InputField(desc="source by path")
    since: datetime.date = dspy.InputField(default=datetime.date(2026, 1, 2))
    findings: list[Finding] = dspy.OutputField(desc="worst first")
    verdict: Literal["ok", "bad"] = dspy.OutputField()


def steps(prediction: dspy.Prediction) -> list[str]:
    return [step["output"] for step in prediction.trajectory]


class TestAnswers:
    def test_an_answer_is_found_in_a_text_far_larger_than_any_prompt(self, play):
        """The input stays out of the prompt: 20 MB go in, a few kB reach the LM."""
        text = "".join(f"line {n}\n" for n in range(2_000_000)) + "the build was broken by eve\n"

        @policy
        def find(task):
            seen = yield Action("How long is it?", "print(len(logs), logs[:20])")
            assert str(len(text)) in seen.output
            seen = yield Action(
                "Search.", "i = logs.index('broken by')\nprint(logs[i - 10:i + 20])"
            )
            yield Action(
                "There.", "SUBMIT(logs[i + 10:].split()[0], [logs.count('\\n', 0, i) + 1])"
            )

        rlm, server = play("logs, question -> answer: str, lines: list[int]", find)
        result = rlm(logs=text, question="Who broke the build?")

        assert (result.answer, result.lines) == ("eve", [2_000_001])
        assert result.run.status == "submitted"
        assert max(len(exchange.prompt) for exchange in server.requests) < 20_000

    def test_class_signatures_give_typed_outputs(self, play):
        """Pydantic models, enums and literals come back as themselves."""
        rlm, _ = play(
            Review,
            "print(sorted(files), since.year)",
            "SUBMIT(findings=[{'path': p, 'line': 1, 'severity': 'high'} for p in files], verdict='bad')",
        )
        result = rlm(files={"a.py": "x"})

        assert result.findings == [Finding(path="a.py", line=1, severity=Severity.HIGH)]
        assert result.verdict == "bad"
        assert steps(result)[0] == "['a.py'] 2026"

    def test_records_keep_their_attributes(self, play):
        """A Pydantic input has its fields as attributes in the REPL, and validates from a dict."""
        rlm, _ = play(
            "finding: Finding -> answer: str",
            "print(finding.path, finding.line, finding.severity.value)\nSUBMIT(finding.path)",
        )
        result = rlm(finding={"path": "b.py", "line": 3})

        assert result.answer == "b.py"
        assert steps(result)[0].startswith("b.py 3 low")

    def test_state_stays_from_step_to_step(self, play):
        """Variables, functions, classes and imports of a cell are there in the next."""
        rlm, _ = play(
            "x: int -> y: int",
            "import math\ndef f(n): return math.isqrt(n) + k\nclass C: pass",
            "k = 1; C.v = f(x)",
            "SUBMIT(C.v)",
        )

        assert rlm(x=16).y == 5

    def test_an_input_is_assigned_once(self, play):
        """A cell's changes to an input persist in later cells, and not on the host."""
        rlm, _ = play("rows: list[int] -> n: int", "rows.append(4)", "SUBMIT(len(rows))")
        rows = [1, 2, 3]

        assert rlm(rows=rows).n == 4
        assert rows == [1, 2, 3]


class TestSlips:
    @pytest.mark.parametrize(
        ("move", "observation"),
        [
            (Action("hm", ""), "your reply has no code"),
            (
                Raw("[[ ## reasoning ## ]]\nhm\n[[ ## code ## ]]\n```bash\nls\n```\n"),
                "no ```python block, only ```bash",
            ),
            (Action("", "x = (1,"), "SyntaxError: '(' was never closed"),
            (Action("", "1/0"), "ZeroDivisionError: division by zero"),
            (Action("", "SUBMIT()"), "SUBMIT() is missing 'answer', is missing 'n'"),
            (Action("", "SUBMIT('a', 'b')"), "n: expected int"),
            (Action("", "SUBMIT('a', lambda: 0)"), "SUBMIT['n'] is of type function"),
            (Action("", "SUBMIT(answer='a', n=1, m=2)"), "has no field 'm'"),
            (Action("", "import sys; sys.exit(1)"), "call SUBMIT(...) to finish"),
            (
                Action("", "raise Exception({1}, b'\\xff', float('nan'), object())"),
                "Exception: ({1}",
            ),
            (Action("", "class E(BaseException): pass\nraise E"), "E"),
            (Action("", "print(input())"), "nobody sits at this REPL"),
            (Action("", "open('/etc/hostname')"), "FileNotFoundError"),
        ],
    )
    def test_a_slip_is_an_observation(self, play, move, observation):
        """After any mistake of the LM the run continues, and the next prompt explains it."""
        rlm, server = play("q -> answer, n: int", move, "SUBMIT('fine', 3)")
        result = rlm(q="?")

        assert (result.answer, result.n) == ("fine", 3)
        assert observation in steps(result)[0]
        assert observation in server.requests_to("root")[1].prompt

    def test_a_reply_without_fields_is_an_observation(self, play):
        """Prose instead of the two fields is shown back to the LM, and costs one turn."""

        @policy
        def ramble(task):
            yield Raw("Let me think about it for a while.")
            yield Action("", "SUBMIT('fine')")

        rlm, _ = play("q -> answer", ramble)
        result = rlm(q="?")

        assert result.answer == "fine"
        assert "no code that could be recognized" in steps(result)[0]
        assert "Let me think about it for a while." in steps(result)[0]

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        ("code", "observation", "seconds"),
        [
            ("while True: pass", "CellTimeoutError", 0.3),
            ("kept = []\nwhile True: kept.append(bytearray(10**7))", "MemoryError", 60),
            ("while True: print('spam' * 100)", "CellTimeoutError", 0.3),
        ],
    )
    def test_a_runaway_cell_is_stopped_and_the_state_stays(self, play, code, observation, seconds):
        """Endless loops, memory and output end at their limits; variables are still there."""
        limits = Limits(cell_seconds=seconds, memory_bytes=256 * 2**20)
        rlm, _ = play("q -> answer", "x = 'still here'", code, "kept = 0\nSUBMIT(x)", limits=limits)
        result = rlm(q="?")

        assert result.answer == "still here"
        assert observation in steps(result)[1]
        assert len(steps(result)[1]) < 25_000

    def test_a_cell_that_cannot_be_stopped_costs_its_own_work_only(self, play):
        """The process is ended and replaced; the state is that before the cell, and the LM gets the reason."""
        limits = Limits(cell_seconds=0.3, grace_seconds=0.3)
        rlm, _ = play("q -> answer", "x = 1", "sum(range(10**12))", "SUBMIT(q * x)", limits=limits)
        result = rlm(q="the input")

        assert result.answer == "the input"
        assert "Limits.cell_seconds" in steps(result)[1]
        assert "everything as it was before this cell" in steps(result)[1]


class TestTools:
    def test_tools_are_called_by_position_and_keyword(self, play):
        """Functions and dspy.Tool, sync and async, from any Python context."""

        def double(x: int, times: int = 1) -> int:
            return x * 2**times

        async def later(text: str) -> str:
            await asyncio.sleep(0)
            return text.upper()

        tools = [double, dspy.Tool(later, name="shout")]
        rlm, _ = play(
            "q -> answer: list",
            "SUBMIT([double(1), double(1, 2), double(x=3, times=1), shout('a'), "
            "sorted([3, 1], key=double), [double(n) for n in range(3)]])",
            tools=tools,
        )

        assert rlm(q="").answer == [2, 4, 6, "A", [1, 3], [0, 2, 4]]

    def test_tools_that_wrap_functions_of_the_other_kind(self, play):
        """The outer function decides whether a tool is async, not the one that it wraps."""

        async def later(text: str) -> str:
            return text * 2

        def now(text: str) -> str:
            return text * 3

        @functools.wraps(later)
        def waiting(text: str) -> str:
            return asyncio.run(later(text))

        @functools.wraps(now)
        async def deferred(text: str) -> str:
            return await asyncio.to_thread(now, text)

        rlm, _ = play(
            "q -> a", "SUBMIT(later(q) + now(q) + await now.aio(q))", tools=[waiting, deferred]
        )

        assert rlm(q="x").a == "x" * 8
        assert asyncio.run(rlm.acall(q="x")).a == "x" * 8

    def test_what_a_tool_raises_is_raised_in_the_cell(self, play):
        """A tool's exception is raised in the cell under its own name, catchable as its builtin base."""

        class NotThereError(LookupError):
            pass

        def fetch(key: str) -> str:
            raise NotThereError(f"nothing under {key}")

        code = "try:\n    fetch('k')\nexcept LookupError as error:\n    SUBMIT(repr(error))"
        rlm, _ = play("q -> answer", code, tools=[fetch])

        assert rlm(q="").answer == "NotThereError('nothing under k')"

    def test_a_tool_sees_the_callers_context(self, play):
        """`dspy.context` around the call holds inside of tools too."""

        def which() -> str:
            return str(dspy.settings.rlm_test_marker)

        rlm, _ = play("q -> answer", "SUBMIT(which())", tools=[which])

        with dspy.context(rlm_test_marker="mine"):
            assert rlm(q="").answer == "mine"
            assert asyncio.run(rlm.acall(q="")).answer == "mine"

    def test_the_lm_is_told_what_tools_take(self, play):
        """The prompt has the tools' full documentation, once."""

        def search(query: str, limit: int = 10) -> list[str]:
            """Looks the query up.

            Args:
                query: Words to look for.
            """
            return [query] * limit

        rlm, server = play("q -> answer", "SUBMIT('')", tools=[search])
        rlm(q="")
        system = server.requests[0].messages[0].text

        assert system.count("search(query: str, limit: int = 10) -> list[str]") == 1
        assert "query: Words to look for." in system


class TestSubCalls:
    def test_sub_llm_asks_the_sub_lm(self, play):
        """`sub_llm` and `sub_llm_batched` go to `sub_lm`; answers come in order."""
        sub = rules([(r"number (\d+)", lambda match: f"<{match[1]}>")], default="?")
        rlm, server = play(
            "q -> answer: list[str]",
            "SUBMIT([sub_llm('hello'), *sub_llm_batched([f'number {n}' for n in range(20)])])",
            sub=sub,
        )
        result = rlm(q="")

        assert result.answer == ["?", *(f"<{n}>" for n in range(20))]
        assert result.run.llm_calls == len(server.requests_to("sub")) == 21

    def test_the_budget_is_counted_on_the_host(self, play):
        """A batch over the budget is refused whole, before any of it is sent."""
        rlm, server = play(
            "q -> answer: list[str]",
            "sub_llm_batched(['a', 'b', 'c', 'd'])",
            "SUBMIT(sub_llm_batched(['a', 'b', 'a']))",
            sub=rules([], default="yes"),
            max_llm_calls=3,
        )
        result = rlm(q="")

        assert "BudgetExceededError" in steps(result)[0]
        assert "3 of 3 left (max_llm_calls)" in steps(result)[0]
        assert result.answer == ["yes"] * 3
        assert len(server.requests_to("sub")) == 2  # equal prompts are asked once

    def test_a_failing_sub_lm_does_not_lose_the_batch(self, play):
        """A prompt that fails gives a marked string in its place; the others keep their answers."""
        rlm, server = play(
            "q -> answer: list[str]",
            "SUBMIT(sub_llm_batched(['a', 'b']))",
            sub=rules([], default="yes"),
        )
        server.fail("sub", Fault(status=400, message="no b", only=lambda r: r.prompt == "b"))
        answer = rlm(q="").answer

        assert answer[0] == "yes"
        assert answer[1].startswith("[ERROR]")

    def test_without_sub_lm_the_modules_own_lm_is_asked(self, play, kept):
        """Without `sub_lm`, sub-calls use the module's own LM, also after `set_lm`."""
        _, server = play("q -> answer")
        with PolicyServer({"both": scripted(Action("", "SUBMIT('x')"))}) as other:
            rlm = RLM("q -> answer", pool=kept)
            rlm.set_lm(other.lm("both"))
            rlm(q="")

            assert len(other.requests) == 1
        assert not server.requests


class TestEnds:
    def test_outputs_are_extracted_when_the_turns_are_used_up(self, play):
        """The last turn is announced; the fallback sees the trajectory and gives typed outputs."""
        rlm, server = play(
            "q -> answer, n: int",
            "print('clue 7')",
            "print('more')",
            extracted={"answer": "from the clues", "n": 7},
            max_iterations=2,
        )
        result = rlm(q="?")

        assert (result.answer, result.n) == ("from the clues", 7)
        assert (result.run.status, result.run.stopped_by) == ("extracted", "max_iterations")
        assert "This is the last turn" in server.requests[1].prompt
        assert "clue 7" in server.requests[2].prompt

    def test_a_failing_lm_loses_nothing(self, play):
        """The error carries the trajectory and the spending; the cause is chained."""
        rlm, server = play(
            "q -> answer", "print(sub_llm('?'))", "SUBMIT(1)", sub=rules([], default="found it")
        )
        server.fail("root", Fault(status=400, message="context too long", after=1, times=None))

        with pytest.raises(RunFailedError) as caught:
            rlm(q="?")

        assert caught.value.run.status == "failed"
        assert caught.value.run.trajectory[0]["output"] == "found it"
        assert caught.value.run.llm_calls == 1
        assert "context too long" in str(caught.value)
        assert isinstance(caught.value.__cause__, dspy.utils.exceptions.LMError)

    def test_the_report_is_plain_data(self, play):
        """`run.dump()` can be written as JSON and says its format version."""
        rlm, _ = play("q -> answer", "SUBMIT('x')")
        dumped = json.loads(json.dumps(rlm(q="").run.dump()))

        assert dumped["format"] == 1
        assert dumped["trajectory"][0]["code"] == "SUBMIT('x')"

    def test_verbose_shows_each_step(self, play, capsys):
        """The terminal shows code and output as they come, on stderr."""
        rlm, _ = play("q -> answer", "print(6 * 7)", "SUBMIT('x')", verbose=True)
        rlm(q="")
        captured = capsys.readouterr()

        assert "print(6 * 7)" in captured.err
        assert "42" in captured.err
        assert captured.out == ""


class TestBadInput:
    @pytest.mark.parametrize(
        ("build", "error_text"),
        [
            (lambda: RLM("q ->"), "no output"),
            (lambda: RLM("SUBMIT -> answer"), "cannot be called 'SUBMIT'"),
            (lambda: RLM("q -> trajectory"), "every result has that field"),
            (lambda: RLM("q -> a", max_iterations=0), "max_iterations must be a whole number"),
            (lambda: RLM("q -> a", max_llm_calls=-1), "max_llm_calls must be a whole number"),
            (
                lambda: RLM("q -> a", max_output_chars=0),
                "max_output_chars must be a whole number, 1 or more",
            ),
            (lambda: RLM("q -> a", tools=[len, len]), "Two tools are called 'len'"),
            (lambda: RLM("q -> a", tools=["no"]), "must be a function"),
            (lambda: RLM("f -> a", tools={"f": print}), "a tool has the same name"),
            (lambda: RLM("q -> a", tools={"sub_llm": print}), "the REPL has that name"),
        ],
    )
    def test_the_constructor_refuses_what_cannot_work(self, build, error_text):
        """The constructor refuses invalid arguments with an error that names them."""
        with pytest.raises(ValueError, match=re.escape(error_text)):
            build()

    def test_errors_of_the_constructor_are_one_kind(self):
        """A wrong signature, tool or budget raises a SignatureError."""
        with pytest.raises(SignatureError):
            RLM("q -> a", tools={"1x": print})

    @pytest.mark.parametrize(
        ("inputs", "error_text"),
        [
            ({}, "'text' is missing; 'rows' is missing"),
            ({"text": "", "rows": [], "more": 1}, "'more' is not an input"),
            ({"text": "", "rows": ["x"]}, "rows[0]: expected list[int]"),
            ({"text": 5, "rows": []}, "text: expected str"),
        ],
    )
    def test_wrong_inputs_cost_nothing(self, play, inputs, error_text):
        """Wrong inputs are refused before a sandbox is opened or an LM is called."""
        rlm, server = play("text: str, rows: list[int] -> answer")

        with pytest.raises(InputError) as caught:
            rlm(**inputs)

        assert error_text in str(caught.value)
        assert not server.requests

    def test_an_input_outside_of_its_constraints(self, play):
        """An input that violates a constraint is refused like one of the wrong type; defaults are not checked."""

        class Top(dspy.Signature):
            """Takes the first."""

            program: PythonCode = dspy.InputField()
            names: list[str] = dspy.InputField(default=[], min_length=1)
            count: int = dspy.InputField(ge=1)
            answer: PythonCode = dspy.OutputField()

        rlm, server = play(Top, "SUBMIT(program.code * count)")

        with pytest.raises(InputError, match=r"count: expected int: .* greater than or equal to 1"):
            rlm(program="x = 1", count=0)
        assert not server.requests
        assert rlm(program="x = 1;", count=2).answer.code == "x = 1;x = 1;"
        prompt = server.requests[0].messages[0].text
        assert prompt.count("`Code_python(code: str)`") == 1

    def test_a_constraint_that_is_none_for_the_value(self, play):
        """A constraint that does not apply to the value's type is not checked."""

        class Odd(dspy.Signature):
            """Takes either."""

            x: int | str = dspy.InputField(gt=3)
            a: str = dspy.OutputField()

        rlm, _ = play(Odd, "SUBMIT('')")
        with pytest.raises(InputError, match="x: "):
            rlm(x="abc")

    def test_a_value_that_cannot_cross_costs_no_lm_call(self, play):
        """A value that cannot cross is refused before an LM call, with the place of the element."""
        rlm, server = play("rows -> answer")

        with pytest.raises(InputError, match=r"rows\[1\]\['when'\] is of type function"):
            rlm(rows=[{}, {"when": lambda: 0}])
        assert not server.requests

    def test_a_missing_lm_is_told_before_the_sandbox_opens(self):
        """A missing LM is reported before the sandbox opens, with advice on how to configure one."""
        with (
            dspy.context(lm=None),
            pytest.raises(dspy.LMNotConfiguredError, match=r"dspy\.configure"),
        ):
            RLM("q -> answer")(q="")


class TestPrompt:
    def test_an_optimizer_may_throw_the_block_away(self, play):
        """The contract is computed at the call and comes after whatever the block now says."""
        rlm, server = play("logs -> answer: list[int]", "SUBMIT([1])")
        rlm.generate_action.signature = rlm.generate_action.signature.with_instructions("Be brief.")
        rlm(logs="")
        system = server.requests[0].messages[0].text

        assert system.index("Be brief.") < system.index("# The REPL")
        assert "`SUBMIT(answer: list[int])`" in system
        assert "list[int]" in system
        assert rlm.generate_action.signature.instructions == "Be brief."

    def test_there_is_one_predictor(self):
        """Optimizers find `generate_action` and nothing else."""
        assert [name for name, _ in RLM("q -> a").named_predictors()] == ["generate_action"]

    def test_the_beginning_of_the_prompt_stays_the_same(self, play):
        """The parts that change per step are input fields, so that an LM's prefix cache works."""
        rlm, server = play("q -> answer", "1", "2", "SUBMIT('x')")
        rlm(q="")
        systems = {exchange.messages[0].text for exchange in server.requests}

        assert len(systems) == 1

    def test_state_survives_saving(self, play, tmp_path):
        """A compiled block is saved and loaded as DSPy does it."""
        rlm, _ = play("q -> answer")
        rlm.generate_action.signature = rlm.generate_action.signature.with_instructions("Compiled.")
        rlm.save(tmp_path / "rlm.json")
        fresh = RLM("q -> answer", max_iterations=3)
        fresh.load(tmp_path / "rlm.json")

        assert fresh.generate_action.signature.instructions == "Compiled."

    def test_state_of_dspys_rlm_loads(self, tmp_path):
        """The predictor has the name and the fields of `dspy.RLM`."""
        dspy.RLM("q -> answer").save(tmp_path / "peer.json")
        rlm = RLM("q -> answer")
        state = json.loads((tmp_path / "peer.json").read_text())
        rlm.generate_action.load_state(state["generate_action"])

        assert "REPL" in rlm.generate_action.signature.instructions

    def test_the_trace_has_one_entry_a_turn(self, play):
        """Sub-calls and the fallback leave no entries that an optimizer could not match."""
        rlm, _ = play(
            "q -> answer",
            "sub_llm('?')",
            "2",
            sub=rules([], default="-"),
            extracted={"answer": "x"},
            max_iterations=2,
        )

        with dspy.context(trace=[]):
            rlm(q="")
            trace = list(dspy.settings.trace)

        assert [entry[0] for entry in trace] == [rlm.generate_action] * 2
