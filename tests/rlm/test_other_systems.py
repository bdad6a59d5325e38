"""Names that models know from other systems, and slips around variables of the REPL."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from dspy_rlm import TextFile
from dspy_rlm.runs.overwritten import overwritten_inputs
from dspy_rlm.testing import rules


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


def test_final_var_of_a_name_that_is_not_there(play):
    """The name itself is never an answer: the error lists the variables, and the run goes on."""
    rlm, _ = play(
        "q -> answer: str",
        "final_ans = '1871'\nFINAL_VAR('final_answer')",
        "FINAL_VAR('final_ans')",
    )
    prediction = rlm(q="?")
    assert prediction.answer == "1871"
    first = outputs(prediction)[0]
    assert "there is no variable 'final_answer'" in first
    assert "final_ans" in first.partition("Variables:")[2]


@pytest.mark.parametrize("code", ["FINAL_VAR('It was Eve.')", "FINAL('eve_')"])
def test_final_takes_a_value(code, play):
    """A text that is no name of a variable is the answer of FINAL_VAR, and any text that of FINAL."""
    rlm, _ = play("q -> answer: str", code)
    assert rlm(q="?").answer in ("It was Eve.", "eve_")


def test_show_vars(play):
    """`SHOW_VARS()` lists the user's variables with types and sizes, one in a line, not the functions of the REPL."""
    code = (
        "import re\nfound = [1, 'a']\nn = 5\nd = {'x': None}\nclass C: pass\nc = C()\nSHOW_VARS()"
    )
    rlm, _ = play("q, log, t -> answer: str", code, "SUBMIT(SHOW_VARS())")
    table = pandas.DataFrame({"x": [1, 2]})
    result = rlm(q="what?", log=TextFile(Path(__file__)), t=table)
    lines = result.trajectory[0]["output"].splitlines()

    assert lines[0] == "q: str, 5 characters"
    assert lines[1].startswith("log: LazyText, <TextFile 'test_other_systems.py', ")
    assert lines[2:] == [
        "t: Table, shape (2, 1)",
        "found: list of int | str, 2 items",
        "n: int, 5",
        "d: dict of NoneType, 1 item",
        "C: type",
        "c: C",
    ]
    assert result.answer.splitlines()[3:] == lines[3:]


def test_queries_with_a_context(play):
    """`llm_query(question, context)` sends both in one prompt."""
    rlm, _ = play(
        "q -> answer: str",
        "SUBMIT(llm_query('Who?', 'Eve did it.'))",
        sub=rules([(r"Who\?\s+Eve did it", "Eve")], default="?"),
    )
    assert rlm(q="?").answer == "Eve"


def test_imports_of_the_functions(play):
    """`from sub_llm import sub_llm` and `import predict` leave the functions as they are."""
    code = "from sub_llm import sub_llm\nimport predict, llm_query\nSUBMIT(sub_llm('a') + llm_query('b'))"
    rlm, _ = play("q -> answer: str", code, sub=rules([], default="x"))
    assert rlm(q="?").answer == "xx"


def test_threads_ask_the_sub_lm(play):
    """A pool of threads maps `sub_llm` over items, in order, and each call is counted once."""
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(max_workers=5) as pool:
    SUBMIT(list(pool.map(lambda i: sub_llm(f'number {i}'), range(10))))
"""
    numbers = rules([(f"number {i}", f"got {i}") for i in range(10)], default="?")
    rlm, _ = play("q -> answer: list[str]", code, sub=numbers)
    prediction = rlm(q="?")
    assert prediction.answer == [f"got {i}" for i in range(10)]
    assert prediction.run.llm_calls == 10


def test_an_input_that_was_assigned_anew_is_noted_once(play):
    """The observation says in one line that the input is gone, and does not repeat it."""
    rlm, _ = play("q -> answer: str", "q = q.strip()", "q = 'x'", "SUBMIT(q)")
    first, second, *_ = outputs(rlm(q=" a "))
    assert first.count("[Note] This cell assigned the input q anew") == 1
    assert "anew" not in second


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("a = 1", ["a"]),
        ("a = a", []),
        ("a, (b, *c) = x", ["a", "b"]),
        ("for a in x:\n    b = 2", ["a", "b"]),
        ("with open('f') as a: pass", ["a"]),
        ("import a.b, x as b", ["a", "b"]),
        ("def a(): b = 1", ["a"]),
        ("class a: b = 1", ["a"]),
        ("print([a for a in x], lambda: 1)", []),
        ("if (a := 1): pass", ["a"]),
        ("a += 1", ["a"]),
        ("a[0] = 1; a.b = 2; del b", []),
        ("this is no code", []),
    ],
)
def test_which_statements_bind_an_input(code, names):
    """Only the top level of a cell binds variables of the REPL; items and attributes of an input are no names."""
    assert overwritten_inputs(code, {"a", "b"}) == names
