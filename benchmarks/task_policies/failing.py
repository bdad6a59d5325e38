"""Ways to fail that others have published about recursive language models, as policies.

The paper reports models that make thousands of calls for one line each, that answer without a look at the context, and that ask again for
what they have (appendix on failures, https://arxiv.org/abs/2512.24601). The others are common in reports of users: slow code that is run
again and again, parts that end in the middle of a line, and answers from output that was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.task_policies.asking import (
    asking_five_times,
    cutting_lines,
    line_by_line,
)
from benchmarks.task_policies.honest import CELLS, Moves, Script
from dspy_rlm import Limits
from dspy_rlm.tasks.loading import DOCUMENT_TASKS, KINDS
from dspy_rlm.testing import Action, ChatRequest, Player, Task
from dspy_rlm.testing.prompts import read_prompt, write_answer

# Some of the pairs, or a word of ten, may be right by chance.
WRONG = (0.0, 0.1)
RIGHT = (1.0, 1.0)


@dataclass(frozen=True)
class Failure:
    """A way to fail."""

    name: str
    make: Callable[[str], Script]
    """Returns the policy for a task."""
    settings: dict[str, Any]
    """Arguments of the RLM that the case is about."""
    sub_calls: bool = False
    """True if it can happen only where the sub-LM is asked."""
    known: Callable[[str], tuple[float, float]] = lambda task: WRONG
    """The lowest and the highest score that the policy can have on a task: anything else is a fault of the engine."""


def guess(name: str) -> Any:
    """Returns an answer of the right type that nobody looked up."""
    form = KINDS[name].form if name in KINDS else DOCUMENT_TASKS[name]
    guesses: dict[Any, Any] = {str: "unknown", int: 0, list[str]: ["unknown"]}
    return guesses.get(form.answer_type, [(1, 2)])


def extract(name: str) -> Player:
    """Returns a player that answers the request for outputs with a guess."""

    def play(request: ChatRequest) -> str:
        answer = guess(name)
        return write_answer(
            {"answer": answer if isinstance(answer, str) else repr(answer)},
            in_json=read_prompt(request).in_json,
        )

    return play


def _from_memory(name: str) -> Script:
    def play(task: Task) -> Moves:
        yield Action("I know this one.", f"SUBMIT(answer={guess(name)!r})")

    return play


def _insisting_on_memory(name: str) -> Script:
    def play(task: Task) -> Moves:
        for _ in range(20):
            yield Action("I know this one.", f"SUBMIT(answer={guess(name)!r})")

    return play


def _never_reading(name: str) -> Script:
    def play(task: Task) -> Moves:
        for _ in range(20):
            yield Action("How long is it?", "print(len(context), 'characters')")

    return play


# The paper's first version, section 3.1: a right answer is reproduced five times, and then a wrong one is submitted.
FOUND_TIMES = 5

# Compares every character with every other one.
_SLOW = "found = [(a, b) for a in context for b in context if a < b]\nprint(len(found))"


def _slow_code(name: str) -> Script:
    def play(task: Task) -> Moves:
        for _ in range(20):
            yield Action("Compare everything with everything.", _SLOW)

    return play


def _trusting_what_is_shown(name: str) -> Script:
    def play(task: Task) -> Moves:
        seen = yield Action("Read it.", "print(context)")
        asked = yield Action("And the question.", "print(question)")
        yield Action(
            "I have read it all.", f"SUBMIT(answer={_answer(name, seen.output, asked.output)!r})"
        )

    return play


def _answer(name: str, shown: str, question: str) -> Any:
    """Returns the true answer for the text that was shown; a guess if it has none."""
    if name not in KINDS:
        return guess(name)
    lines = [line for line in shown.split("\n") if "characters omitted" not in line]
    try:
        return KINDS[name].solve("\n".join(lines), question.strip())
    except (ValueError, LookupError, TypeError, StopIteration, SyntaxError, AttributeError):
        return guess(name)  # The text lacks what the answer needs.


def _discarding_its_answer(name: str) -> Script:
    """Finds the answer, again and again, and submits another one."""

    def play(task: Task) -> Moves:
        for number in range(FOUND_TIMES):
            for cell in CELLS[name][:-1]:
                yield Action("Let me check that again." if number else "Find it.", cell)
        yield Action("I am still not sure.", f"SUBMIT(answer={guess(name)!r})")

    return play


FAILURES = (
    Failure("answers from memory", _from_memory, {}),
    Failure(
        "answers from memory, coverage required",
        _insisting_on_memory,
        {"require_coverage": 0.5, "max_iterations": 8},
    ),
    Failure("never reads", _never_reading, {}),
    Failure("loops on slow code", _slow_code, {"limits": Limits(cell_seconds=1)}),
    Failure("trusts what is shown", _trusting_what_is_shown, {}),
    Failure(
        "trusts what is shown, coverage tracked", _trusting_what_is_shown, {"track_coverage": True}
    ),
    Failure("finds it five times, submits another", _discarding_its_answer, {}),
    Failure("one call per line", line_by_line, {"max_llm_calls": 50}, sub_calls=True),
    Failure(
        "one call per line, no budget",
        line_by_line,
        {"max_llm_calls": 10_000},
        sub_calls=True,
        known=lambda task: RIGHT,
    ),
    Failure("asks five times", asking_five_times, {}, sub_calls=True, known=lambda task: RIGHT),
    # Six lines of some 1,400 are lost. That changes a count; the other answers depend on none of them.
    Failure(
        "cuts lines in half",
        cutting_lines,
        {},
        sub_calls=True,
        known=lambda task: WRONG if task == "oolong-counting" else RIGHT,
    ),
)

# The engine's messages about mistakes in the output of a cell, and their meaning for the policy.
_REACTIONS = (
    (r"BudgetExceededError: .+", "refused"),
    (r"^- \w+: .+ is required", "refused"),
    (r"CellTimeoutError: .+", "stopped"),
    (r"^\[Note\] .+", "warned"),
    (r"[\d,]+ (?:of the [\d,]+ )?characters omitted", "warned"),
)


def reactions(outputs: Iterable[str]) -> list[str]:
    """Returns what the engine wrote about mistakes in the outputs of a run: each kind of reaction once, with its text."""
    found: dict[str, str] = {}
    for output in outputs:
        for pattern, kind in _REACTIONS:
            match = re.search(pattern, output, re.MULTILINE)
            if match:
                found.setdefault(pattern, f"{kind}: {match[0][:110]}")
    return list(found.values())
