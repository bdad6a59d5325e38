"""No text from outside makes the next prompt longer than `max_output_chars` and a little allow.

Each program tries to get 3 MB into the prompt that really arrives at the policy server.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import dspy
import pydantic
import pytest

from dspy_rlm import RLM
from dspy_rlm.prompts.history import SHOWN_ACTION_CHARS, cut_output, render_step
from dspy_rlm.reports.report import Step
from dspy_rlm.testing import Action, Raw
from sandbox_runtime import Failed, Limits
from sandbox_runtime.guest.output import abridge
from sandbox_runtime.helpers import MAX_MARK_CHARS, abridged, abridged_again, omission_at

CHARS = 3_000_000
LIMIT = 3_000

# The text around an output in a prompt: the heading of its step, and the code, which is short here.
AROUND = 1_500

CELLS = {
    "printed": f"print('x' * {CHARS})",
    "the value of the last expression": f"'x' * {CHARS}",
    "in many lines": f"print('x\\n' * {CHARS // 2})",
    "in lines that are escaped": f"print('```\\n' * {CHARS // 4})",
    "in marks that are escaped": f"print('<<SYS>>' * {CHARS // 7})",
    "escaped, and an exception": f"print('```\\n' * {CHARS // 4})\nraise ValueError('Code:\\n' * {CHARS // 6})",
    "to stderr": f"import sys\nsys.stderr.write('x' * {CHARS})",
    "an exception": f"raise ValueError('x' * {CHARS})",
    "the name of an exception": f"raise type('E' * {CHARS}, (Exception,), {{}})",
    "a chain of exceptions": (
        f"try:\n    raise ValueError('x' * {CHARS})\nexcept ValueError:\n    raise KeyError('y' * {CHARS})"
    ),
    "notes of an exception": f"e = ValueError()\ne.add_note('x' * {CHARS})\nraise e",
    "a syntax error": f"exec('(' + 'x ' * {CHARS // 2})",
    "printed, and an exception": f"print('x' * {CHARS})\nraise ValueError('y' * {CHARS})",
    "printed, then the end of the process": (
        f"import ctypes\nprint('x' * {CHARS})\nctypes.string_at(1 << 31)"
    ),
    "the driver's own limit is raised": (
        "import gc\nfrom sandbox_runtime.guest.output import Output\n"
        "for thing in gc.get_objects():\n"
        "    if type(thing) is Output:\n"
        "        thing._half = thing._head_room = 10**9\n"
        f"print('x' * {CHARS})"
    ),
    "long keys in a submission": (
        f"SUBMIT(answer={{'K' * {CHARS // 5} + str(i): 'x' for i in range(5)}}, when='')"
    ),
    "an unknown name in a submission": f"SUBMIT(**{{'n' * {CHARS}: 1}})",
    "many unknown names in a submission": f"SUBMIT(**{{f'n{{i}}': 1 for i in range({CHARS // 20})}})",
    "many wrong values": f"SUBMIT(answer={{str(i): 'x' for i in range({CHARS // 20})}}, when='')",
    "a long wrong value": f"SUBMIT(answer='x' * {CHARS}, when='')",
    "a text of another type": f"SUBMIT(answer={{}}, when='9' * {CHARS})",
    "a deep wrong value": (
        f"v = 'x' * {CHARS}\nfor _ in range(100):\n    v = [v]\nSUBMIT(answer=v, when='')"
    ),
    "a tool's exception": "fail()",
    "a tool's exception in a batch": "raise fail.batched([()] * 3)[0]",
    "a wrong argument of a tool": f"typed(n='x' * {CHARS})",
    "a wrong list for a tool": f"typed(n=['x' * {CHARS}])",
    "an unknown argument of a tool": f"typed(**{{'n' * {CHARS}: 1}})",
    "an error of a sub-call": f"predict('n: int -> b', n='x' * {CHARS})",
    "an unknown input of a sub-call": f"predict('n: int -> b', **{{'m' * {CHARS}: 1, 'n': 1}})",
    "a signature": f"predict('x' * {CHARS})",
    "a type in a signature": f"predict('a: {'x' * 10}' + 'y' * {CHARS} + ' -> b', a=1)",
    "a model's name": f"sub_llm('hello', model='m' * {CHARS})",
    "the name of a module of DSPy's": f"import dspy\ndspy.Predict('q -> a', **{{'o' * {CHARS}: 1}})(q='')",
    "the setup of a sub-run": f"sub_rlm('q -> a', q='', setup=\"raise ValueError('x' * {CHARS})\")",
    "a list of tools of a sub-run": f"sub_rlm('q -> a', q='', tools=['x' * {CHARS}])",
}


def fail() -> None:
    """Always fails, with a long message."""
    raise RuntimeError("x" * CHARS)


def typed(n: list[int]) -> int:
    """Sums a list of numbers."""
    return sum(n)


def is_lasting(code: str) -> bool:
    """True if a cell changes the driver, so that no other test may use its session."""
    return "gc.get_objects" in code


def growth(server: Any) -> int:
    """Returns the growth of the prompt from the first to the second turn."""
    first, second = (exchange.prompt for exchange in server.requests_to("root")[:2])
    return len(second) - len(first)


def shown_chars(server: Any) -> int:
    """Returns the length of the first step's output, as the prompt states it."""
    stated = re.findall(
        r"\n```\nOutput \(([\d,]+) chars\):\n", server.requests_to("root")[1].prompt
    )
    return int(stated[-1].replace(",", ""))


@pytest.mark.sampled(8)
@pytest.mark.parametrize("code", CELLS.values(), ids=CELLS.keys())
def test_a_cell_cannot_fill_the_next_prompt(play, kept, fresh, code):
    """The output of any cell is cut, and says how much was left out."""
    rlm, server = play(
        "q -> answer: dict[str, int], when: int",
        code,
        "SUBMIT(answer={}, when=1)",
        tools=[fail, typed],
        max_output_chars=LIMIT,
        max_iterations=3,
        pool=fresh if is_lasting(code) else kept,
    )
    result = rlm(q="?")

    assert growth(server) <= LIMIT + AROUND
    assert shown_chars(server) <= LIMIT + MAX_MARK_CHARS
    assert all(len(step.output) <= LIMIT + MAX_MARK_CHARS for step in result.run.steps)
    assert result.run.status == "submitted"


@pytest.mark.parametrize(
    "reply",
    [
        Raw("x" * CHARS),
        Raw(f"[[ ## reasoning ## ]]\n{'x' * CHARS}"),
        Raw(f"[[ ## reasoning ## ]]\nr\n\n[[ ## code ## ]]\n```sql\n{'x' * CHARS}\n```"),
        Action("r" * CHARS, "print(1)"),
        Action("r", "# " + "x" * CHARS),
    ],
    ids=["prose", "a field", "another language", "reasoning", "code"],
)
def test_a_reply_cannot_fill_the_next_prompt(play, reply):
    """The LM's own words are repeated to a bound of their own."""
    rlm, server = play(
        "q -> answer", reply, "SUBMIT('done')", max_output_chars=LIMIT, max_iterations=3
    )
    rlm(q="?")
    prompts = [
        e.prompt for e in server.requests_to("root") if "Respond with a JSON" not in e.prompt
    ]

    assert len(prompts[1]) - len(prompts[0]) <= 2 * SHOWN_ACTION_CHARS + LIMIT + AROUND


def long_class() -> Any:
    return dataclasses.make_dataclass("C" * CHARS, [("a", int)])(1)


def long_fields() -> Any:
    return pydantic.create_model("R", **{"f" * CHARS: (int, 1)})()


def many_fields() -> Any:
    return pydantic.create_model("R", **{f"field_{i}": (int, 1) for i in range(10_000)})()


def table(columns: list[str]) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame([[1] * len(columns)], columns=columns)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * CHARS,
        lambda: b"x" * CHARS,
        lambda: {"k" * CHARS: 1},
        lambda: {str(i): "x" for i in range(100_000)},
        lambda: [["x" * CHARS] * 100] * 100,
        long_class,
        long_fields,
        many_fields,
        lambda: table(["c" * CHARS]),
        lambda: table([f"column {i}" for i in range(10_000)]),
        lambda: dspy.History(messages=[{"q" * CHARS: "x" * CHARS}]),
    ],
    ids=[
        "text", "bytes", "key", "keys", "nested", "class", "field", "fields", "column", "columns", "messages"
    ],
)  # fmt: skip
def test_an_input_cannot_fill_the_prompt(play, make):
    """The description of a variable is bounded, however long the names in it are."""
    rlm, server = play("x: Any -> answer", "SUBMIT('done')")
    rlm(x=make())

    assert len(server.requests_to("root")[0].prompt) < 20_000


class TestSession:
    @pytest.mark.sampled(10)
    @pytest.mark.parametrize(
        "code", [c for c in CELLS.values() if not re.search(r"fail|typed|sub_|predict|dspy", c)]
    )
    def test_what_a_cell_gives_is_bounded(self, code, kept, fresh):
        """Each text of a cell's result is within the limit plus the notice, without an RLM too."""
        pool = fresh if is_lasting(code) else kept
        outputs = {"answer": "", "when": ""}
        with pool.lend(limits=Limits(output_chars=LIMIT), outputs=outputs) as s:
            result = s.run_cell(code)

        texts = [result.output]
        if isinstance(result, Failed):
            texts += [result.message, result.traceback, result.error_type]
        assert max(map(len, texts)) <= LIMIT + MAX_MARK_CHARS

    def test_an_honest_output_is_as_the_sandbox_has_it(self, kept):
        """Output that the sandbox cut is not cut again, and short output is unchanged."""
        with kept.lend(limits=Limits(output_chars=100)) as session:
            short = session.run_cell("print('a' * 99)").output
            long = session.run_cell("print('a' * 60 + 'b' * 60, end='')").output

        assert short == "a" * 99 + "\n"
        assert long == f"{'a' * 50}\n... (20 characters omitted) ...\n{'b' * 50}"


class TestAbridged:
    @pytest.mark.parametrize("chars", [0, 1, 164, 165, 10_000, 1_234_567])
    @pytest.mark.parametrize("limit", [1, 100, 999])
    def test_the_ends_stay_and_the_count_is_exact(self, chars, limit):
        """Both ends are kept, and the notice has the exact count, in the sandbox's words."""
        text = "".join(chr(97 + i % 26) for i in range(chars))
        excerpt = abridged(text, limit)

        assert len(excerpt) <= limit + MAX_MARK_CHARS
        assert excerpt == text or (limit == 1 or excerpt == abridge(text, limit))
        assert excerpt == text or text.startswith(excerpt[: limit // 2])

    def test_what_was_left_out_before_counts(self):
        """A text that is shortened twice states the characters missing from the original."""
        once = abridged("x" * 10_000, 4_000)

        assert "(9,000 characters omitted)" in abridged(once, 1_000)

    def test_a_forged_count_stays_within_the_bound(self):
        """A forged count that a cell prints does not lengthen the text."""
        forged = "\n... (999,999,999,999,999,999 characters omitted) ...\n" * 1_000

        assert len(abridged(forged, 10)) <= 10 + MAX_MARK_CHARS


class TestEscaped:
    """Marking a text as data makes it longer; the limit is that of what is shown."""

    @pytest.mark.parametrize("limit", [600, 3_000, 10_000])
    @pytest.mark.parametrize("unit", ["```\n", "Code:\n", "<<SYS>>", "x\n```\n" + "y" * 90, "x"])
    @pytest.mark.parametrize("note", ["", "[Error] ValueError: no"])
    def test_an_output_is_shown_within_the_limit(self, limit, unit, note):
        """As much as fits is shown, and the count of what is omitted is exact."""
        printed = unit * (2 * limit // len(unit)) + "."
        output = f"{printed}\n{note}" if note else printed
        step = Step("", "x", *cut_output(output, note, 0, limit))
        shown = render_step(step, 1).partition("chars):\n")[2]

        assert limit - 100 <= len(shown) <= limit + MAX_MARK_CHARS
        mark = omission_at(step.output, step.gap)
        counted = int(re.sub(r"\D", "", mark))
        assert counted == len(output) - len(step.output) + len(mark)
        assert shown.endswith(f".\n{note}" if note else ".")

    def test_what_was_omitted_before_counts_and_a_printed_line_does_not(self):
        """An output that the sandbox has shortened is shortened once more, to one line with the sum."""
        forged = "\n... (7 characters omitted) ...\n"
        half = (forged * 100)[:1_500]
        output = f"{half}\n... (5,000 characters omitted) ...\n{half}"
        step = Step("", "x", *cut_output(output, "", 1_500, 3_000))

        mark = omission_at(step.output, step.gap)
        ends = len(step.output) - len(mark)
        assert mark == f"\n... ({8_000 - ends:,} characters omitted) ...\n"
        assert 2_500 <= ends < 3_000
        assert len(re.findall(r"\n\.\.\. ", render_step(step, 1))) == 1

    @pytest.mark.parametrize("unit", ["```\n", "<<SYS>>", "x"])
    def test_reasoning_is_shown_within_the_limit(self, unit):
        """The bound of a step's reasoning holds for what is shown too."""
        text = render_step(Step(unit * 2_500, "x", "x"), 1, action_chars=2_000)
        shown = text.partition("Reasoning: ")[2].partition("\nCode:\n```python")[0]

        assert 1_900 <= len(shown) <= 2_000 + MAX_MARK_CHARS

    @pytest.mark.parametrize("start", [1, 100, 140, 150, 160, 250])
    def test_the_line_is_never_cut_in_two(self, start):
        """Where the line about omitted characters is at the edge of what stays, all of it goes."""
        text = "a" * start + "\n... (50 characters omitted) ...\n" + "b" * (300 - start)
        again, gap = abridged_again(text, start, 200)

        lines = re.findall(r"\n\.\.\. \((\d+) characters omitted\) \.\.\.\n", again)
        kept = again.count("a") + again.count("b") - len(lines) * "characters omitted".count("a")
        assert sum(map(int, lines)) == 350 - kept
        assert omission_at(again, gap)


def test_a_run_that_fails_says_it_in_bounds(play):
    """The message that callers and optimizers get of a run is bounded; the exception behind it is whole."""
    rlm, _ = play("q -> answer", "print(1)")

    def broken(**_: Any) -> Any:
        raise ValueError("x" * CHARS)

    rlm.generate_action = broken
    with pytest.raises(Exception, match="The run failed") as caught:
        rlm(q="?")

    assert len(str(caught.value)) < 20_000
    assert len(str(caught.value.__cause__)) == CHARS
    assert isinstance(rlm, RLM)
