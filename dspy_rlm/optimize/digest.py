"""Summarizes a run in a few lines: what each step did and what was wasted. It makes no decisions."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from dspy_rlm.prompts.untrusted_text import as_value
from dspy_rlm.reports.report import Step
from dspy_rlm.values.previews import preview
from dspy_rlm.values.python_text import syntax_tree

CODE_CHARS = 160
OUTCOME_CHARS = 160
PROMPT_CHARS = 80

# The functions of the REPL that call a sub-LM, under all their names.
_ASKING = frozenset({"sub_llm", "sub_llm_batched", "llm_query", "llm_query_batched"})


def digest(steps: Sequence[Step]) -> str:
    """Returns one line for each step: its code and its result."""
    return "\n".join(f"{number}. {line(step)}" for number, step in enumerate(steps, 1))


def line(step: Step) -> str:
    """Returns a step in one line."""
    code = " ; ".join(part.strip() for part in step.code.splitlines() if part.strip())
    return f"{_short(code, CODE_CHARS) or '(no code)'} -> {outcome(step.output)}"


def outcome(output: str) -> str:
    """Returns the result of a step: its error, its submission, or the size and beginning of its output."""
    if error := error_of(output):
        return _short(error, OUTCOME_CHARS)
    if not output.strip():
        return "printed nothing"
    last = output.rstrip().splitlines()[-1]
    if last.startswith("SUBMIT: "):
        return last
    return f"{len(output):,} chars: {_short(output, OUTCOME_CHARS)}"


def error_of(output: str) -> str:
    """Returns the error in a step's output, in one line; empty if there is none."""
    lines = [text for text in output.splitlines() if text.strip()]
    error_lines = [text for text in lines if text.startswith("[Error] ")]
    if error_lines:
        return error_lines[-1]
    raised = any(text.startswith("Traceback (most recent call last)") for text in lines)
    return lines[-1] if raised else ""


def waste(steps: Sequence[Step], inputs: Iterable[str]) -> list[str]:
    """Returns what was wasted in the run, in sentences."""
    return [*_unread(steps, inputs), *_failures(steps), *_repetitions(steps), *_asked_again(steps)]


def _unread(steps: Sequence[Step], inputs: Iterable[str]) -> Iterator[str]:
    code = "\n".join(step.code for step in steps)
    for name in inputs:
        if not re.search(rf"\b{re.escape(name)}\b", code):
            yield f"The input `{name}` was never read."


def _failures(steps: Sequence[Step]) -> Iterator[str]:
    failed = [number for number, step in enumerate(steps, 1) if error_of(step.output)]
    silent = [number for number, step in enumerate(steps, 1) if not step.output.strip()]
    if failed:
        yield f"{len(failed)} of {len(steps)} steps ended in an error: {_listed(failed)}."
    if silent:
        yield f"Printed nothing: step {_listed(silent)}."


def _repetitions(steps: Sequence[Step]) -> Iterator[str]:
    first: dict[str, int] = {}
    for number, step in enumerate(steps, 1):
        earlier = first.setdefault(step.code.strip(), number)
        if earlier != number and step.code.strip():
            yield f"Step {number} ran the code of step {earlier} again."


def _asked_again(steps: Sequence[Step]) -> Iterator[str]:
    prompts = Counter(prompt for step in steps for prompt in _prompts(step.code))
    for prompt, times in prompts.items():
        if times > 1:
            yield f"The same prompt was written {times} times: {_short(prompt, PROMPT_CHARS)!r}."


def _prompts(code: str) -> Iterator[str]:
    """Yields the prompts that are string literals in the code. Computed prompts are not included."""
    try:
        tree = syntax_tree(code)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _ASKING:
            for part in ast.walk(ast.Tuple([*node.args, *(k.value for k in node.keywords)])):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)


def _short(text: str, limit: int) -> str:
    """Returns untrusted text in one line that cannot forge a part of the prompt around it."""
    return as_value(preview(" ".join(text.split()), limit))
