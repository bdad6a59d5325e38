"""Opens the REPL of any step of a recorded run, to look around in it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from dspy_rlm.journal import load
from dspy_rlm.journal.records import RunRecord, StepRecord, read_text
from dspy_rlm.recorded.inputs import recorded_inputs
from dspy_rlm.recorded.run_playback import Policy, RunPlayback
from dspy_rlm.replaying.fork import check_step
from dspy_rlm.replaying.stand_ins import module_for
from dspy_rlm.reports.report import Step
from dspy_rlm.rlm import RLM
from dspy_rlm.runs.observed.journaling import unrecorded
from sandbox_runtime import CellResult, Checkpoint, CheckpointError, SandboxError

# Characters of a variable's value that are shown.
SHOWN_CHARS = 200

# Prints the variables as JSON. Binds no name.
_LIST = """\
print(__import__("json").dumps({{
    _name: [type(_value).__name__, repr(_value)[:{chars}]] for _name, _value in list(globals().items())
    if not _name.startswith("_") and _name not in {hidden!r}
}}))
"""


class Repl:
    """A REPL as it was after a step. Close it, best with `with`."""

    def __init__(
        self,
        record: RunRecord,
        step: int,
        module: RLM,
        values: Mapping[str, Any],
        policy: Policy,
    ) -> None:
        """Opens a sandbox and brings it to the state after the step."""
        self.step = step
        self._playback = RunPlayback(record, policy)
        module._config = dataclasses.replace(module._config, playback=self._playback)
        self._opened = contextlib.ExitStack()
        try:
            prepared = module.prepare(values, None, loop=None)
            stack = self._opened.enter_context(prepared.closing())
            self._sandbox = prepared.open_sandbox(stack)
            self._hidden = {*prepared.functions, "SUBMIT", "len"}  # `len` of lazy texts
            self._past = prepared.run.past
            self._past.choose()
            for one in record.steps[:step]:
                self._playback.turn = one.number
                if one.cell is not None:
                    self.run(read_text(one.code))
                prepared.run.steps.append(_shown_step(one))
            self._playback.turn = step + 1
        except BaseException:
            self.close()
            raise

    @property
    def changed_steps(self) -> list[int]:
        """The steps whose cells ended in another way than recorded when they ran again."""
        return sorted({d.step for d in self._playback.differences if d.step and d.kind == "output"})

    def run(self, code: str) -> CellResult:
        """Runs a cell. Tools and LMs have no answers here but recorded ones."""
        if filling := self._past.refreshing(code):
            unrecorded(self._sandbox).run_cell(filling)
        return self._sandbox.run_cell(code)

    def variables(self) -> dict[str, str]:
        """Returns the variables by name, each with its type and the beginning of its value."""
        result = self._sandbox.run_cell(_LIST.format(chars=SHOWN_CHARS, hidden=self._hidden))
        try:
            listed: dict[str, list[str]] = json.loads(result.output)
        except ValueError as error:
            raise SandboxError(f"The variables cannot be listed: {result}") from error
        return {name: f"{kind}: {value}" for name, (kind, value) in listed.items()}

    def checkpoint(self) -> Checkpoint:
        """Saves the state, which can open any number of sessions."""
        if self._playback.save is None:
            raise CheckpointError("This interpreter cannot be saved.")
        return self._playback.save()

    def close(self) -> None:
        """Ends the REPL. Idempotent."""
        self._opened.close()

    def __enter__(self) -> Repl:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _shown_step(record: StepRecord) -> Step:
    """Returns a recorded step as the variable `history` has it."""
    cell, shown = record.cell, read_text(record.shown)
    printed = ""
    if cell is not None:
        printed = "\n".join(filter(None, [read_text(cell.output), read_text(cell.traceback)]))
    whole = printed if len(printed) > len(shown) else ""
    return Step(read_text(record.reasoning), read_text(record.code), shown, printed=whole)


def open_repl(
    journal: str | os.PathLike[str],
    /,
    *,
    step: int,
    rlm: RLM | None = None,
    **inputs: Any,
) -> Repl:
    """Opens the REPL of a recorded run as it was after a step.

        with open_repl("run.jsonl", step=3) as repl:
            print(repl.variables())
            print(repl.run("print(len(chunks))").output)

    No LM is called: tools and sub-LMs answer from the record.

    Args:
        journal: The journal of the run. It is not changed.
        step: The step; 0 for the REPL at the beginning.
        rlm: The RLM whose types and tools are used. None: one is built from the journal.
        **inputs: The inputs that the journal does not hold.

    Raises:
        JournalError: It is no journal.
        InputError: There is no such step, or an input is missing.
        SandboxStartError: The sandbox did not start.
    """
    record = load(journal)
    check_step(record, step)
    module = module_for(record, rlm)
    values = recorded_inputs(record, module.signature, inputs)
    policy = Policy(until=step, live=False, retries=False, by_content=rlm is None)
    return Repl(record, step, module, values, policy)
