"""The sentences about a reply that the root LM reads: repairs, parts that were not run, problems."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_runtime.helpers import in_one_line

REPAIRS = {
    "tool_call": "the code was in a tool call",
    "reasoning_channel": "the code was in the reasoning, and the reply itself was empty",
    "text_after_the_code": "text after the code was ignored: outputs come from the REPL only",
    "prompts": "interactive prompts were removed",
    "quoted_code": "the code was in a string or a list of lines",
    "blanks": "blanks of another kind, or of no width, were replaced",
    "indentation": "the indentation of all lines was removed",
    "fences": "a stray fence was removed",
    "punctuation": "full-width characters were replaced",
    "quotes": "typographic quotes were replaced",
    "entities": "HTML entities were replaced",
    "escapes": "doubled escapes were undone",
    "markdown": "backslashes of Markdown were removed",
    "line_ends": "line ends written as \\n were replaced",
    "tabs": "tabs were replaced by spaces",
    "line_numbers": "line numbers were removed",
    "diff": "the + in front of each line was removed",
    "shell_lines": "shell lines were left out",
}
"""Each repair by name, as the note in the output says it."""

PROBLEMS = {
    "quoted": (
        "No code was run: the call that ends the run is not in a ```python block, and may be a quotation. If you "
        "mean it, write it in one ```python block."
    ),
    "empty": "No code was run: your reply has no code, or only comments. Write Python, in one ```python block.",
    "cut_off": (
        "No code was run: your reply was cut off at its limit of tokens before the code was complete. Write "
        "less: a short reasoning, then a short ```python block. Split long code over several turns."
    ),
    "filtered": (
        "No code was run: the content filter of the provider withheld your reply. Do not quote or print the text that "
        "it is about: work on it with code and functions."
    ),
    "refused": (
        "No code was run: your reply was a refusal. Go on with what you can do, in one ```python block, or SUBMIT what "
        "there is."
    ),
    "unreadable": (
        "No code was run: your reply has no code that could be recognized. Write Python, in one ```python "
        "block. To finish, call SUBMIT in it."
    ),
    "other_language": (
        "No code was run: your reply has no ```python block, only {labels}. Write Python, in one ```python block."
    ),
    "shell": (
        "No code was run: there is no shell here and no IPython magic. Write plain Python; the standard library "
        "is available, and packages cannot be installed."
    ),
    "too_long": "No code was run: your reply of {chars:,} characters is too long to be read. Write less.",
}
"""The message for each reply that cannot be run, by its cause."""

_REASONS = {
    "submits": "the code before it already ends the run",
    "invented": "text before it claims an output, and outputs come from the REPL only",
    "unseen": "its answer does not use the code before it, whose output you have not seen",
    "broken": "it is not valid Python",
    "cut_off": "your reply was cut off at its limit of tokens in it",
}

_SHOWN_LINES, _SHOWN_CHARS = 3, 80


def problem(cause: str, *, labels: Sequence[str] = (), chars: int = 0) -> str:
    """Returns the message for a reply that cannot be run."""
    listed = " and ".join(f"```{in_one_line(label, 20)}" for label in labels[:_SHOWN_LINES])
    return PROBLEMS[cause].format(labels=listed or "others", chars=chars)


def repair_note(repairs: Sequence[str]) -> str:
    """Returns the sentence about the repairs of a reply; empty without any."""
    repairs_made = "; ".join(REPAIRS[name] for name in repairs)
    return f"Your reply was repaired: {repairs_made}." if repairs_made else ""


def not_run(done: int, count: int, reason: str) -> str:
    """Returns the note that only the first blocks were run."""
    which = "block 1" if done == 1 else f"blocks 1 to {done}"
    first = done + 1
    rest = f"block {first}" if first == count else f"blocks {first} to {count}"
    return f"Of {count} code blocks only {which} was run, not {rest}: {_REASONS[reason]}."


def unlabelled(count: int) -> str:
    """Returns the note that blocks without a label were not run beside those that have one."""
    which = "1 code block" if count == 1 else f"{count} code blocks"
    return f"{which} without the label python was not run."


def only_run(number: int, count: int) -> str:
    """Returns the note that one block was run, since those before it are not Python."""
    return (
        f"Of {count} code blocks only block {number} was run: those before it are not valid Python."
    )


def shell_lines(lines: Sequence[str]) -> str:
    """Returns the note about lines for a shell or IPython that were left out."""
    shown = ", ".join(f"`{in_one_line(line, _SHOWN_CHARS)}`" for line in lines[:_SHOWN_LINES])
    more = f" and {len(lines) - _SHOWN_LINES} more" if len(lines) > _SHOWN_LINES else ""
    return f"Left out: {shown}{more}. There is no shell and no IPython magic here; packages cannot be installed."
