"""Python in hostile texts is parsed in linear time: no runs of combining marks, no literals whose keys collide."""

from __future__ import annotations

import ast
import gc
import sys
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import dspy_rlm
import sandbox_runtime
from dspy_rlm.optimize.digest import digest
from dspy_rlm.replies.fields import parsed_json
from dspy_rlm.replies.final_calls import _is_one_call
from dspy_rlm.replies.python_source import tree_of
from dspy_rlm.runs.overwritten import overwritten_inputs
from dspy_rlm.signatures.cell_types import CellTypes
from dspy_rlm.signatures.json_schemas import python_name
from dspy_rlm.signatures.parser import signature_of
from dspy_rlm.values.bounded_parsing import parsed
from dspy_rlm.values.python_text import (
    MAX_MARKS,
    check_literal,
    check_marks,
    literal,
    syntax_tree,
)
from tests.measuring import Cost

PRIME = 2**61 - 1

# Two marks of different classes alternate, so that sorting them moves each past all others.
MARKS = {
    "marks": "\u0300\u0316",
    "a character that becomes two marks": "\u0f73",
    "one that becomes a mark": "\u0334\uff9e",
    "both": "\uff9f\u0334\u0f81",
}


def marked(kind: str, chars: int = 60_000) -> str:
    """A name with a run of marks, which takes Python 3 s and more to normalize."""
    return "a" + MARKS[kind] * (chars // len(MARKS[kind]))


class TestMarks:
    """A run of marks is refused before anything normalizes it."""

    @pytest.mark.parametrize("kind", MARKS)
    def test_a_long_run(self, kind):
        """Each kind of run is found, wherever it is in the text."""
        for text in (marked(kind), "x = 1\n" + marked(kind, 100) + " = 2"):
            with pytest.raises(SyntaxError, match="combining marks in a row"):
                check_marks(text)

    def test_every_character_that_begins_with_a_mark_counts(self):
        """Of all characters, those whose compatibility form begins with a mark are the ones that are counted."""
        missed = []
        for number in range(0x300, 0x110000):
            char = chr(number)
            first = unicodedata.normalize("NFKD", char)[0]
            if unicodedata.combining(first):
                try:
                    check_marks(char * (MAX_MARKS + 1))
                except SyntaxError:
                    continue
                missed.append(hex(number))

        assert missed == []

    @pytest.mark.parametrize(
        "text",
        [
            "x = 'na\u0308ive'",
            "\u0915\u094d\u0937 = 1",
            "e" + "\u0300" * MAX_MARKS + " = 1",
            "\n".join("e\u0301\u0316" for _ in range(1_000)),
        ],
    )
    def test_honest_texts(self, text):
        """Text of any language is parsed."""
        check_marks(text)


def _signature(text: str) -> object:
    return signature_of(f"{text} -> a", {}, {})


READERS: dict[str, Callable[[str], Any]] = {
    "a submitted text for a number": lambda text: parsed(text, int),
    "a submitted text for a list": lambda text: parsed(text, list[int]),
    "a value of a reply": parsed_json,
    "the code of a reply": tree_of,
    "a final call": lambda text: _is_one_call(f"FINAL({text})", 5),
    "the inputs that a cell overwrites": lambda text: overwritten_inputs(text, ["x"]),
    "the type of a field": lambda text: CellTypes({}, {}).parse(text),
    "the name of an argument": python_name,
    "a signature": _signature,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["marks", "a character that becomes two marks"])
def test_no_reader_normalizes_a_run(reader, kind):
    """Whatever reads a text, it refuses the run or does without, in a fraction of a second."""
    text = marked(kind)
    with Cost() as cost:
        try:
            READERS[reader](text)
        except (ValueError, SyntaxError, TypeError) as error:
            assert error  # noqa: PT017 - a refusal and a result are both fine

    assert cost.cpu_seconds < 1


COLLIDING = [k * PRIME for k in range(9_000)]
LITERALS = {
    "a set": "{" + ",".join(map(str, COLLIDING)) + "}",
    "a dict": "{" + ",".join(f"{k}:1" for k in COLLIDING) + "}",
    "a set in a list": "[{" + ",".join(map(str, COLLIDING)) + "}]",
    "tuples": "{" + ",".join(f"({k},)" for k in COLLIDING) + "}",
}


@pytest.mark.parametrize("kind", LITERALS)
class TestLiterals:
    """The keys of a literal are checked before its set or dict is built."""

    def test_it_is_refused(self, kind):
        """Both the evaluation and the check for DSPy's own one refuse it, quickly."""
        with Cost() as cost:
            for check in (literal, check_literal):
                with pytest.raises(ValueError, match="collide"):
                    check(LITERALS[kind])

        assert cost.cpu_seconds < 3

    def test_in_a_reply_and_in_a_submission(self, kind):
        """A reply with such a literal is no value, and a submission is refused."""
        with Cost() as cost:
            value, complete = parsed_json(LITERALS[kind])
            with pytest.raises((ValueError, TypeError)):
                parsed(LITERALS[kind], set[int])

        assert not complete or value is None
        assert cost.cpu_seconds < 6


@pytest.mark.parametrize(
    "text", ["{1, 2}", "{'a': {(1, 2): [3]}}", " [1, -2, 3.5, None, b'x']", "'text'", "set()"]
)
def test_honest_literals(text):
    """Other literals are evaluated as `ast.literal_eval` does."""
    assert literal(text) == ast.literal_eval(text)


@pytest.mark.parametrize("text", ["f()", "{1: f()}", "{[]}", "1 +", "\0", "{**{}}"])
def test_what_is_no_literal(text):
    """It raises what `ast.literal_eval` raises."""
    with pytest.raises((ValueError, TypeError, SyntaxError)):
        literal(text)


def test_a_digest_of_code_that_python_would_not_finish():
    """The feedback for optimizers reads the code of all steps."""
    assert isinstance(digest([]), str)
    with pytest.raises(SyntaxError):
        syntax_tree(marked("marks"))


# What parses Python only in its own texts, or in texts of the program's author.
OWN_TEXTS = {"cli/demo/questions.py", "cli/demo/policies.py"}
PARSERS = {("ast", "parse"), ("ast", "literal_eval"), ("builtins", "compile"), ("builtins", "eval")}


def test_nothing_else_parses_python():
    """One module calls Python's parser on the host, so that no other text goes round its checks."""
    found = []
    for package in (dspy_rlm, sandbox_runtime):
        folder = Path(package.__file__).parent
        for path in folder.rglob("*.py"):
            name = path.relative_to(folder).as_posix()
            if "guest/" in name or name in OWN_TEXTS or name == "values/python_text.py":
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and _is_parser(node.func):
                    found.append(f"{name}:{node.lineno}")

    assert found == []


def _is_parser(called: ast.expr) -> bool:
    match called:
        case ast.Name(id=name):
            return ("builtins", name) in PARSERS
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return (module, name) in PARSERS
    return False


class Finalized:
    """An object whose finalizer gives other threads a turn, as those of many libraries do."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        for _ in range(50):
            pass


def test_threads_parse_at_once():
    """A parse that another thread or a finalizer interrupts is no error, also where CPython counts depth for all of them."""
    code = f"x = [{'(' * 30}1{')' * 30}]\n" + "y = {'a': [1, 2, (3, 4)]}\n" * 20
    before = gc.get_threshold(), sys.getswitchinterval()

    def work(_number: int) -> int:
        for _ in range(50):
            [Finalized() for _ in range(3)]
            syntax_tree(code)
        return 50

    gc.set_threshold(5)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(work, range(8))) == 400
    finally:
        gc.set_threshold(*before[0])
        sys.setswitchinterval(before[1])
