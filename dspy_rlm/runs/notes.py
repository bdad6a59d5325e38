"""The lines that the harness adds below a cell's output: its errors, and its remarks on the cell."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from dspy_rlm.prompts.untrusted_text import as_data, as_value
from dspy_rlm.replies.messages import repair_note
from dspy_rlm.replies.reader import Reading
from dspy_rlm.runs.overwritten import overwritten_inputs

# The lines that functions of the REPL add to one observation. More of them come from a loop.
MAX_CALL_NOTES = 8

# So many calls of a cell that ran one after the other come from a loop.
MIN_SERIAL_CALLS = 20


class Remarks:
    """The remarks on the cells of one run."""

    def __init__(self, inputs: Iterable[str]) -> None:
        self._inputs = set(inputs)  # those that no cell has assigned: each is reported once
        self._of_calls: list[str] = []
        self._serial: Counter[str] = Counter()  # by function
        self._ran: dict[bytes, int] = {}  # the latest step of each code and output

    def add(self, remark: str) -> None:
        """Adds a remark of a function that the running cell has called. From any thread."""
        if remark:
            self._of_calls.append(remark)

    def add_serial(self, function: str) -> None:
        """Counts a call of a function that blocked the running cell."""
        self._serial[function] += 1

    def _take_serial(self) -> list[str]:
        """Returns the remarks on calls that ran one after the other, and forgets them."""
        counts, self._serial = self._serial, Counter()
        return [
            f"{function} was called {count:,} times one after the other; {function}_batched runs many calls at once."
            for function, count in counts.items()
            if count >= MIN_SERIAL_CALLS
        ]

    def _take_calls(self) -> list[str]:
        """Returns the remarks of the calls, equal ones once, and forgets them."""
        counts = Counter(self._of_calls)
        self._of_calls = []
        lines = [
            f"{remark} ({count:,} times)" if count > 1 else remark
            for remark, count in counts.items()
        ]
        if len(lines) > MAX_CALL_NOTES:
            others = len(lines) - MAX_CALL_NOTES
            lines = [*lines[:MAX_CALL_NOTES], f"... and {others:,} more lines like these."]
        return lines

    def of_turn(
        self,
        reading: Reading,
        code: str,
        output: str,
        step: int,
        own: Iterable[str] = (),
    ) -> list[str]:
        """Returns the remarks on a turn, each in one line.

        Args:
            reading: The reply.
            code: The code of the cell; empty if none was run.
            output: Its output, and the harness's own note on its end.
            step: The number of the turn, from 1.
            own: The remarks of the sandbox; see `own_lines.py`.
        """
        remarks = [
            *own,
            *self._take_calls(),
            *self._take_serial(),
            repair_note(reading.repairs),
            *reading.notes,
        ]
        if reading.code:
            for name in overwritten_inputs(code, self._inputs):
                self._inputs.discard(name)
                remarks.append(
                    f"This cell assigned the input {name} anew; the original value is gone."
                )
        if code:
            remarks.append(self._repetition(code, output, step))
        return [f"[Note] {as_value(remark)}" for remark in remarks if remark]

    def _repetition(self, code: str, output: str, step: int) -> str:
        """Returns a remark on code that has run before with this output; empty if there is none.

        Code that prints nothing counts only directly after itself: such cells change variables, or define functions.
        """
        text = f"{code}\0{output.rstrip()}".encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(text, digest_size=16).digest()
        before, self._ran[key] = self._ran.get(key), step
        if before is None:
            return ""
        if before == step - 1:
            return "This is the code of the step before, and its output is the same: do something else, or SUBMIT."
        if not output.strip():
            return ""
        return f"This code ran in step {before} already, with the same output: do something else, or SUBMIT."


def error_note(reason: str) -> str:
    """Returns the note about a failure; text that it quotes is marked as data."""
    first, *rest = reason.split("\n", 1)
    return "\n".join([f"[Error] {as_value(first)}", *map(as_data, rest)])


def below(output: str, note: str) -> str:
    """Returns the output with the note below it."""
    return f"{output.rstrip()}\n{note}" if output.strip() else note
