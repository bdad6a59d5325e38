"""The cell driver: runs cells in one namespace and reports how each ended.

Ordinary Python, which the tests run under CPython with a fake host; `entry.py` is the driver inside
Pyodide. Knows cells, host tools and SUBMIT; `cell_preparation.py` restores what a cell begins with.
Knows no JSON-RPC: `worker.ts` calls the few public methods of `Driver`, and `DriverHost` is all it can call back.

Cells are hostile: whatever a cell raises, prints, rebinds or returns, the driver must be able to run the next one.
"""

from __future__ import annotations

# By name: a cell that replaces them in their modules does not replace them here.
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from contextlib import suppress
from gc import collect
from inspect import CO_COROUTINE
from itertools import repeat
from json import loads as from_json
from json.encoder import encode_basestring_ascii as to_json
from marshal import dumps as marshal
from operator import is_
from time import monotonic
from typing import Any

from sandbox_runtime.guest import cell_notes
from sandbox_runtime.guest.cell_code import compile_cell, write_value
from sandbox_runtime.guest.cell_preparation import CellPreparation, DriverHost
from sandbox_runtime.guest.integrity.namespace_guard import (
    TRACEBACK_CLASSES,
    TRACEBACK_MODULES,
    NamespaceGuard,
    drop_odd_keys,
)
from sandbox_runtime.guest.namespace import importable, tool_wrappers
from sandbox_runtime.guest.namespace.bindings import bind_value, rebound_names, tool_object
from sandbox_runtime.guest.namespace.calls import HostCalls
from sandbox_runtime.guest.namespace.submit import Fields, bind_submit, submit_usage
from sandbox_runtime.guest.output import clean, flush, is_sound
from sandbox_runtime.guest.tasks import all_tasks, cancel_all, settles
from sandbox_runtime.guest.texts import lazy_text
from sandbox_runtime.guest.tracebacks import LEAST_SHOWN_CHARS, describe
from sandbox_runtime.guest.values.codec import Part, send
from sandbox_runtime.guest.values.records import bind_classes

# The lines of the harness below one cell's output, besides those of `cell_notes`, and the longest of all.
MAX_NOTES = 16
MAX_NOTE_CHARS = 700

# The version of marshal's format that `plain_json.ts` reads. C code writes it, of exact types only.
WITHOUT_REFERENCES = 2

# Smaller outputs are encoded here.
LEAST_HELD_BYTES = 100_000

_ANYTHING = BaseException


class Driver(CellPreparation):
    """Runs the cells of one session. Not reentrant: a cell cannot run another."""

    def __init__(self, host: DriverHost, output_chars: int = 10_000) -> None:
        calls = HostCalls(host, self._check_call, self._bind_classes)
        super().__init__(host, output_chars, calls, Driver._execute.__code__)
        self._outputs: Fields | None = None
        self._display: Callable[[Any], Any] = _unchanged
        self._given_up: list[Any] = []
        # Restored only to report an exception.
        self._traceback_guard = NamespaceGuard(TRACEBACK_MODULES, TRACEBACK_CLASSES)

    def rest(self) -> None:
        """Collects garbage that refers to JavaScript, which cannot be saved with the interpreter."""
        collect()

    # ---- Requests of the host ----

    def assign(self, name: str, kind: str, parts: Sequence[Part]) -> None:
        """Binds a variable to a value from the host, and the classes in it to their names."""
        bind_value(self._namespace, name, kind, parts)
        self._bind_classes()

    def _bind_classes(self) -> None:
        bind_classes(self._namespace, {**self._builtins, **self._harness})
        lazy_text.bind_len(self._namespace)

    def register(self, declared: str) -> None:
        """Binds the host tools and SUBMIT; `declared` is the JSON of `messages.Register`."""
        if self.running:
            raise RuntimeError("tools are declared between cells")
        plan = from_json(declared)
        # What is replaced may have finalizers of earlier cells, and the tools are tracked as they are in the end.
        kept = [*vars(self).values(), *tool_wrappers.begin()]
        self._left = kept
        for names in self.dictionaries:
            drop_odd_keys(names, kept)
        self._restore_modules(kept)
        kept += (self._namespace.pop(name, None) for name in self._harness)
        importable.remove(self._harness)
        self._outputs = None if plan["outputs"] is None else tuple(plan["outputs"])
        self._harness = {"SUBMIT": self._make_submit()}
        self._display = _unchanged
        for tool in plan["tools"]:
            call = self.calls.function(
                tool["name"], tool["doc"], tool.get("rows"), describes_use="front" not in tool
            )
            declared_tool = tool_object(tool, call)
            if tool.get("kind") == "display":
                self._display = declared_tool
            else:
                self._harness[tool["name"]] = declared_tool
        kept += map(self._namespace.get, self._harness)
        self._namespace.update(self._harness)
        self._importable = False

    def run(self, cell: int, code: str) -> list[Any]:
        """Runs a prepared cell. Returns the JSON text of its end, then the parts of a submitted value."""
        if self._running:
            raise RuntimeError("a cell cannot run another")
        interrupts = self.interrupts
        self._open()
        quietened = self._tracers_quietened()
        error: BaseException | None = None
        started = monotonic()
        try:
            interrupts.allowed = True
            try:
                self._execute(code, f"<cell {cell}>")
            finally:
                interrupts.allowed = False
                if (
                    self.threads
                ):  # removing tracers reads all stacks, which must be no suspended ones
                    self._end_threads()
        except BaseException as caught:  # noqa: BLE001 - a cell may raise anything; all of it is data
            interrupts.allowed = False
            self._reserve = None
            error = caught
        for _ in quietened:
            pass
        paused = self.ownership.pause()  # replaced objects may have finalizers
        self._restore_harness(whole=error is not None)
        self._restore_limits()
        drop_odd_keys(self._namespace, [])
        self._hooks.silence()
        if error is not None:
            self._restore_for_report()
        if self.collects is True and is_sound(self._stream, self._sink, self):
            for names in self._hooks.registries:
                drop_odd_keys(names, [])
            self._hooks.restore_handlers()  # a text that is not UTF-8 calls one
            with suppress(MemoryError):
                flush(self._stream)
        self.ownership.resume(paused)
        self._sweep_tasks()
        self._seconds = monotonic() - started
        self._close()
        return self._end(error)

    def flush(self) -> None:
        """Passes on what the running cell has printed."""
        if self.collects:
            try:  # noqa: SIM105 - neither suppress() nor builtins may be whole here
                flush(self._stream)
            except _ANYTHING:
                pass

    def _check_call(self, name: str) -> None:
        """Checks for a stop before a call is sent and after its answer."""
        if self.collects:
            self.flush()
        self.ownership.check(name)
        self.interrupts.raise_overdue()

    # ---- A cell, from start to end ----

    def _open(self) -> None:
        """Runs just before the cell's code."""
        self._running = True
        self.output.begin()
        self.ownership.begin()

    def _close(self) -> None:
        """Runs when the cell's code has ended: nothing of it may act from here on."""
        self._running = False
        self.ownership.end()
        self.calls.forget()
        self.interrupts.listen()
        # Collects the half-finished work of a stopped cell, and garbage where that is cheap: its finalizers
        # run on this cell's clock, not in the middle of the next cell. What it submits is no garbage yet.
        if self.interrupts.stop is not None or (
            self._submitted is None and self._may_collect(self._seconds)
        ):
            before = monotonic()
            collect()
            self._collection_seconds = monotonic() - before

    def _may_collect(self, _seconds: float) -> bool:
        """Returns whether garbage may be collected after a cell of this length."""
        return False

    def _restore_harness(self, *, whole: bool) -> None:
        """Restores what the end of the cell depends on; `whole`: what a report of an error does, too."""
        self._guard.restore()

    def _restore_for_report(self) -> None:
        """Restores what a report of more than the output depends on."""
        for names in self.dictionaries:
            drop_odd_keys(names, [])
        self._hooks.restore_handlers()
        self._restore_interpreter([])

    def _execute(self, code: str, filename: str) -> None:
        """Runs all statements, and shows the value of the last one if it is an expression."""
        value = None
        try:
            # A signal on the way into this function is not raised there: its frame was not complete.
            self.interrupts.raise_overdue()
            for part in compile_cell(code, filename):
                value = eval(part, self._namespace)
                if part.co_flags & CO_COROUTINE:
                    value = self._host.wait_for(value)
            if value is not None and (displayed := self._display(value)) is not None:
                write_value(displayed, self._stream, self.output, self._output_chars)
            if self.threads:
                self._finish_threads()
        except CancelledError as error:
            if self.interrupts.stop is None:
                raise
            raise self.interrupts.stop.with_traceback(error.__traceback__) from None

    def _sweep_tasks(self) -> None:
        """Cancels the tasks of a cell; nothing of it may act in a later cell.

        A task that resists cancellation is never run again, and not mentioned again.
        """
        tasks = all_tasks()
        if tasks:
            tasks = {task for task in tasks if not any(map(is_, repeat(task), self._given_up))}
        if tasks:
            self._restore_for_report()
            self._host.wait_for(cancel_all(tasks))
            self._given_up += [task for task in tasks if not task.done()]
            # Those of suspended threads are counted as threads.
            if count := sum(not settles(task) for task in tasks):
                self.note(f"{count} background task(s) were still running and are cancelled")
        if dropped := self._drop_callbacks():
            self.note(f"{dropped} callback(s) of the event loop were still waiting and are dropped")

    def note(self, text: str) -> None:
        """Adds a line of the harness below the output of the running cell."""
        if len(self._notes) < MAX_NOTES:
            self._notes.append(text)

    def _write_notes(self) -> int:
        """Writes the lines of the harness below the cell's output, and returns their length in characters."""
        notes, self._notes = self._notes, []
        for note in cell_notes.rendered(self.output.render()):
            notes.append(note)
        if not notes:
            return 0
        lines = (f"[{' '.join(note.split())[:MAX_NOTE_CHARS]}]\n" for note in notes)
        text = clean("\n" + "".join(lines))
        self.output.write(text)
        return len(text)

    def _finish_threads(self) -> None:
        """Waits for the threads of the cell."""

    def _end_threads(self) -> None:
        """Ends the threads that are left."""

    def _drop_callbacks(self) -> int:
        """Drops the pending callbacks of the event loop and reports their number."""
        return 0

    def _end(self, error: BaseException | None) -> list[Any]:
        # First: what a cell sets while its output is rendered is no submission.
        submitted, self._submitted = self._submitted, None
        if raw := self._host.drain_raw():
            self.output.write(raw)
        self._note_rebound()
        noted = self._write_notes()
        if submitted is not None:
            text, extras = submitted
            return [self._report("submitted", noted), text.encode(), *extras]
        if error is None:
            return [self._report("completed", noted)]
        self._traceback_guard.restore()
        described = describe(error, max(self._output_chars, LEAST_SHOWN_CHARS))
        return [self._report("failed", noted, **described)]

    def _note_rebound(self) -> None:
        rebound = rebound_names(self._namespace, self._harness)
        if rebound:
            names = ", ".join(rebound)
            self.note(f"this cell rebound {names}; the next cell has the original again")

    def _report(self, outcome: str, noted: int, **error: str) -> str:
        texts = {"outcome": outcome, "errorType": "", "message": "", "traceback": "", **error}
        texts["output"] = self.output.render()
        items = [f'"{name}": {to_json(clean(text))}' for name, text in texts.items()]
        return f'{{{", ".join(items)}, "noted": {noted:d}}}'

    # ---- Names that the harness binds in cells ----

    def _hold(self, outputs: dict[str, Any]) -> bool:
        """Returns whether the host holds the outputs: only large and plain data is worth its while.

        Then an empty text stands for them; JSON is never empty.
        """
        try:
            packed = marshal(outputs, WITHOUT_REFERENCES)
        except (ValueError, MemoryError):  # something else, or too deep, or too large
            return False
        most = self.calls.value_bytes
        return LEAST_HELD_BYTES <= len(packed) <= most and self._host.hold(packed, most)

    def _make_submit(self) -> Callable[..., Any]:
        def SUBMIT(*args: Any, **kwargs: Any) -> None:  # noqa: N802 - the name of the REPL's vocabulary
            outputs = bind_submit(self._outputs, args, kwargs)
            self.ownership.check("SUBMIT")
            self._submitted = (
                ("", [])
                if self._hold(outputs)
                else self.calls.checked(send(outputs, "SUBMIT"), "SUBMIT() values")
            )
            raise self._signal

        SUBMIT.__doc__ = f"{submit_usage(self._outputs)}\n\nEnds the run with these outputs."
        return SUBMIT


def _unchanged(value: Any) -> Any:
    """Returns the value: without a display tool, a cell's last value is shown by its repr."""
    return value
