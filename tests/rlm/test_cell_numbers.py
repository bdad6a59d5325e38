"""Tracebacks name a cell by the number of its step, which the history shows."""

from __future__ import annotations

import re

from dspy_rlm.testing import Action, Raw, scripted


def cells_named(prompt):
    """Returns the steps of a history, each with the cells that its traceback names."""
    steps = prompt.split("\n=== Step ")[1:]
    return [
        [int(step.split()[0]), *map(int, re.findall(r"<cell (-?\d+)>", step))] for step in steps
    ]


def test_a_turn_without_code_counts(play, fresh):
    """The cell after it has the number of its own step, and a function that of the step that defined it."""
    rlm, server = play(
        "q -> a",
        "def f(): return 1 / 0\n1 / 0",
        Raw("I have to think."),
        "f()",
        "SUBMIT('done')",
        pool=fresh,
    )
    rlm(q="?")

    assert cells_named(server.requests[-1].prompt) == [[1, 1], [2], [3, 3, 1]]


def test_code_before_the_first_turn_does_not(play, fresh):
    """The setup of a sub-run is no step of it, and its functions keep their lines."""
    rlm, server = play(
        "q -> a",
        "def g(x):\n    return 1 / x\nSUBMIT(sub_rlm('n: int -> a', n=0, setup=g).a)",
        sub=scripted(Action("", "g(n)"), Action("", "SUBMIT('ok')")),
        pool=fresh,
    )

    assert rlm(q="?").a == "ok"
    prompt = server.requests_to("sub")[-1].prompt
    assert cells_named(prompt) == [[1, 1, 0]]
    assert "return 1 / x" in prompt


def test_the_numbers_of_a_session(fresh):
    """Each cell has its own: a number that was passed is raised, and there is no limit to the cells before the first."""
    code = "import sys\nsys._getframe().f_code.co_filename"
    with fresh.lend() as session:
        names = []
        for number in (0, 0, 1, 4, 2, None, 0):
            if number is not None:
                session.number_next_cell(number)
            names.append(session.run_cell(code).output.strip())

    assert names == [f"'<cell {n}>'" for n in (0, -1, 1, 4, 5, 6, -2)]
