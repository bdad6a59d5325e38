"""The statement `reached()` of hostile programs: proof that a program came to its attempt. Knows no sandbox.

A program that fails before its attempt would hold in any sandbox, and so test nothing. Therefore `reached()`
stands on a line of its own at the attempt: directly before it, or after it where that shows more. Before a
cell runs, each such line is replaced by a statement that prints a mark, and every mark has to be shown.
"""

from __future__ import annotations

import re

from .program import Program

_STATEMENT = re.compile(r"^([^\S\n]*)reached\(\)[^\S\n]*$", re.MULTILINE)

# Output is sent to the host when it has waited for 0.2 s (`EMIT_SECONDS` of `output.py`) and more
# is printed. A mark that is sent is shown even if the process dies at the attempt; the process's main thread,
# which passes it on, needs a moment for that.
SENT_AFTER_SECONDS = 0.25
PASSED_ON_SECONDS = 0.1


def mark(number: int) -> str:
    """Returns the text that the `reached()` of that number prints."""
    return f"<reached {number}>"


def marks_in(program: Program) -> tuple[str, ...]:
    """Returns the marks that a program prints if it reaches each of its attempts."""
    count = sum(len(_STATEMENT.findall(cell)) for cell in program.cells)
    return tuple(mark(number) for number in range(count))


def marked(program: Program) -> tuple[str, ...]:
    """Returns the program's cells, with each `reached()` replaced by a statement that prints its mark."""
    number = iter(range(1_000_000))

    def statement(found: re.Match[str]) -> str:
        return found[1] + _printing(next(number), sent=program.destroys)

    return tuple(_STATEMENT.sub(statement, cell) for cell in program.cells)


def _printing(number: int, *, sent: bool) -> str:
    """Returns a one-line statement without names that a cell may have bound, with one kind of quotes only.

    The mark stands in it in two parts, so that a traceback that shows the line does not have it. Its value
    is None, which is not shown where it is the last of the cell.
    """
    text = mark(number)
    write = '__import__("sys").stdout.write'
    printing = f'{write}("{text[:4]}" "{text[4:]} ") and None'
    if not sent:
        return printing
    sleep = '__import__("time").sleep'
    return f'{printing}; {sleep}({SENT_AFTER_SECONDS}); {write}(" "); {sleep}({PASSED_ON_SECONDS})'
