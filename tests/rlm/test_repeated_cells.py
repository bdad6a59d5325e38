"""Remarks on code that has run before, with the same output."""

from __future__ import annotations

AGAIN = "do something else, or SUBMIT."
AT_ONCE = f"[Note] This is the code of the step before, and its output is the same: {AGAIN}"


def notes_of(play, *codes):
    """Runs cells, then submits; returns the remark on repetition below the output of each."""
    rlm, _ = play("q -> answer", *codes, "SUBMIT('x')")
    steps = rlm(q="?").run.steps
    return [
        next((line for line in step.output.splitlines() if line.endswith(AGAIN)), "")
        for step in steps[:-1]
    ]


def test_the_step_before(play):
    """Each repetition gets the remark, also one that follows another."""
    assert notes_of(play, "print(1)", "print(1)", "print(1)") == ["", AT_ONCE, AT_ONCE]


def test_an_earlier_step(play):
    """The remark names the latest step with this code and this output."""
    assert notes_of(play, "print(1)", "print(2)", "print(1)", "print(2)", "x = 3", "print(1)") == [
        "",
        "",
        f"[Note] This code ran in step 1 already, with the same output: {AGAIN}",
        f"[Note] This code ran in step 2 already, with the same output: {AGAIN}",
        "",
        f"[Note] This code ran in step 3 already, with the same output: {AGAIN}",
    ]


def test_what_is_no_repetition(play):
    """Another output is none; nor is a cell without output, which changes something, unless it directly follows itself."""
    codes = ("n = 1", "print(n)", "n += 1", "print(n)", "n += 1", "n += 1", "m = n", "n += 1")
    assert [bool(note) for note in notes_of(play, *codes)] == [
        *(False, False, False, False, False, True, False, False)
    ]
