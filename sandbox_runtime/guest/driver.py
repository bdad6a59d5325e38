"""The cell driver: runs cells in one namespace and reports how each ended.

Ordinary Python, which the tests run under CPython with a fake host; `entry.py` is the driver inside
Pyodide. Knows cells, host tools and SUBMIT. Knows no JSON-RPC: `worker.ts` calls the few public methods
of `Driver`, and `DriverHost` is all it can call back.

Cells are hostile: whatever a cell raises, prints, rebinds or returns, the driver must be able to run the next one.
"""

from __future__ import annotations

import builtins
import linecache
import random
import sys
import types

# By name: a cell that replaces them in their modules does not replace them here.
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from gc import collect
from inspect import CO_COROUTINE
from itertools import repeat
from json import loads as from_json
from json.encoder import encode_basestring_ascii as to_json
from operator import is_
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TextIO, cast

from sandbox_runtime.guest import cell_notes
from sandbox_runtime.guest.callback_ownership import Ownership
from sandbox_runtime.guest.cell_code import compile_cell, write_value
from sandbox_runtime.guest.integrity.hooks import Hooks
from sandbox_runtime.guest.integrity.namespace_guard import (
    CLASSES,
    MODULES,
    TRACEBACK_CLASSES,
    TRACEBACK_MODULES,
    NamespaceGuard,
    has_odd_keys,
    merge_into,
    restore,
)
from sandbox_runtime.guest.interrupts import Interrupts
from sandbox_runtime.guest.namespace import importable, tool_wrappers
from sandbox_runtime.guest.namespace.bindings import bind_value, rebound_names, tool_object
from sandbox_runtime.guest.namespace.builtin_names import OWN_BUILTINS, EmptyInput
from sandbox_runtime.guest.namespace.calls import CallHost, HostCalls
from sandbox_runtime.guest.namespace.submit import Fields, bind_submit, submit_usage
from sandbox_runtime.guest.output import ByteStream, Output, Stream, clean
from sandbox_runtime.guest.tasks import all_tasks, cancel_all, settles
from sandbox_runtime.guest.texts import host_calls, lazy_text
from sandbox_runtime.guest.tracebacks import LEAST_SHOWN_CHARS, describe, forget_host_exceptions
from sandbox_runtime.guest.values.codec import Part, send
from sandbox_runtime.guest.values.records import bind_classes

# Freed when a cell fails: one that has used up all memory would leave none for its error message.
RESERVE_BYTES = 2 * 1024 * 1024

# More than one means that a finalizer has changed what was set; more than a few are no accident.
PREPARE_ATTEMPTS = 10

# The lines of the harness below one cell's output, besides those of `cell_notes`, and the longest of all.
MAX_NOTES = 16
MAX_NOTE_CHARS = 700

# Where `worker.ts` mounts extra packages.
PACKAGES_FOLDER = "/packages"


class DriverHost(CallHost, Protocol):
    """The interface that the driver needs from its host."""

    def emit(self, text: str) -> None:
        """Sends output of the running cell to the host."""

    def heard(self) -> bool:
        """Acknowledges a signal, which is resent until then. Returns False if it was acknowledged before."""

    def drain_raw(self) -> str:
        """Returns text written to the file descriptors, bypassing Python's streams."""

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Runs the event loop until the awaitable is done."""


class _SubmitSignal(BaseException):
    """Unwinds the cell after SUBMIT. Recognised by identity, never by its name."""


class Driver:
    """Runs the cells of one session. Not reentrant: a cell cannot run another."""

    def __init__(self, host: DriverHost, output_chars: int = 10_000) -> None:
        self._host = host
        self._output_chars = output_chars
        self._module = types.ModuleType("__main__")
        self._namespace = self._module.__dict__
        self._harness: dict[str, Callable[..., Any]] = {}
        self._importable = False  # whether a cell has needed the names in it as modules
        self._prepared = 0  # the cell that `prepare` has prepared, and its lines
        self._lines: list[str] = []
        self._kept_streams: tuple[object, ...] = ()
        self._display: Callable[[Any], Any] = _unchanged
        self.calls = HostCalls(host, self._check_call, self._bind_classes)
        self._text_call = self.calls.function(host_calls.TEXT_CALL, "", suspends=False)
        self._outputs: Fields | None = None
        self.ownership = Ownership()
        self._running = False
        # Looked at without a call: a cell's tracer would observe one, and act after the cell's code.
        self.threads: Mapping[int, object] = {}
        """The live threads of the running cell."""
        self.interrupts = Interrupts(host.heard, Driver._execute.__code__)
        self._signal = _SubmitSignal()
        self._submitted: tuple[str, list[Part]] | None = None
        self._stream = Stream(self)
        self.output = Output(output_chars, host.emit)
        self._notes: list[str] = []  # the harness's own lines below the running cell's output
        self._sources = linecache.cache
        self._modules: dict[str, types.ModuleType] = {}
        self._builtins = {**vars(builtins), **OWN_BUILTINS}
        classes = (*CLASSES, Stream, ByteStream, Output)
        self._guard = NamespaceGuard(MODULES, classes, ((vars(builtins), self._builtins),))
        self._hooks = Hooks()
        self._given_up: list[Any] = []
        # Restored only to report an exception.
        self._traceback_guard = NamespaceGuard(TRACEBACK_MODULES, TRACEBACK_CLASSES)
        self._recursion_limit = sys.getrecursionlimit()
        self._digits_limit = sys.get_int_max_str_digits()
        self._reserve: bytearray | None = None
        self._collection_seconds = 0.0
        self._seconds = 0.0  # how long the last cell ran

    @property
    def running(self) -> bool:
        """True while a cell runs."""
        return self._running

    @property
    def stopped(self) -> bool:
        """True from a signal to the next cell."""
        return self.interrupts.stop is not None

    def wake(
        self, output_chars: int, value_bytes: int, seed: str, cell_seconds: float = 0.0
    ) -> None:
        """Prepares a saved interpreter for a new session: its limits and its random numbers.

        Without a seed, random numbers continue where the saved state left them.
        """
        self._output_chars = output_chars
        self.calls.value_bytes = value_bytes
        self.interrupts.cell_seconds = cell_seconds
        if PACKAGES_FOLDER not in sys.path and Path(PACKAGES_FOLDER).is_dir():
            sys.path.append(PACKAGES_FOLDER)
            self._hooks.note_path()
        self._modules = self._modules or dict(sys.modules)
        if not seed:
            return
        random.seed(seed)
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed(int.from_bytes(seed.encode()[:4], "little"))

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
        for name in self._harness:
            self._namespace.pop(name, None)
        importable.remove(self._harness)
        self._outputs = None if plan["outputs"] is None else tuple(plan["outputs"])
        self._harness = {"SUBMIT": self._make_submit()}
        self._display = _unchanged
        tool_wrappers.begin()
        for tool in plan["tools"]:
            call = self.calls.function(
                tool["name"], tool["doc"], tool.get("rows"), describes_use="front" not in tool
            )
            declared_tool = tool_object(tool, call)
            if tool.get("kind") == "display":
                self._display = declared_tool
            else:
                self._harness[tool["name"]] = declared_tool
        self._namespace.update(self._harness)
        self._importable = False

    def prepare(self, cell: int, code: str) -> object:
        """Prepares everything for a cell, whose code may also follow later; see `begin`.

        Replaced objects may have hostile finalizers. Therefore the harness is checked again afterwards, and
        neither `begin` nor `run` replaces anything more.
        """
        self._importable = self._importable is True or "import" in code
        filename = f"<cell {cell}>"
        for _ in range(PREPARE_ATTEMPTS):
            self._kept_streams, self._lines = (), []
            self._sources.pop(filename, None)
            self._prepare()
            if self._is_at_rest(filename):
                break
        else:
            raise RuntimeError("finalizers of earlier cells change the driver again and again")
        # Nothing of a cell is freed from here on.
        self._prepared, self._lines = cell, code.splitlines(True)
        self._sources[filename] = (len(code), None, self._lines, filename)
        for _ in self._tracers_quietened():
            pass
        return None

    def begin(self, cell: int, code: str) -> bool:
        """Completes the preparation of a cell by its code.

        Returns False if it has to be prepared again: another cell was, or the code needs more than that.
        """
        prepared, lines = self._prepared, self._lines
        if (
            type(prepared) is not int or type(lines) is not list
        ):  # by a finalizer of an earlier cell
            return False
        if cell != prepared or ("import" in code and self._importable is not True):
            return False
        lines[:] = code.splitlines(True)
        return True

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
        self._restore_harness()
        self._hooks.silence()
        self._restore_interpreter()
        self.ownership.resume(paused)
        self._sweep_tasks()
        self._seconds = monotonic() - started
        self._close()
        return self._end(error)

    def _check_call(self, name: str) -> None:
        """Checks for a stop before a call is sent and after its answer."""
        self.ownership.check(name)
        self.interrupts.raise_overdue()

    # ---- A cell, from start to end ----

    def _prepare(self) -> None:
        """Restores the harness, whatever earlier cells did to it.

        No cell runs meanwhile, so finalizers of replaced objects cannot call anything.
        """
        if self._running is True:
            raise RuntimeError("a cell cannot run another")
        self._running = False
        self._submitted = None
        self.interrupts.clear()
        self.ownership.end()
        # What the last cell has submitted may be large.
        self._signal.__traceback__ = self._signal.__context__ = None
        self._shelve(self._seconds)
        self._seconds = 0.0
        if type(self._collection_seconds) is not float:
            self._collection_seconds = 0.0
        self._guard.restore()
        merge_into(sys.modules, self._modules)
        tool_wrappers.restore()
        self._hooks.restore()
        self._restore_interpreter()
        host_calls.connect(self._text_call)
        cell_notes.forget()
        forget_host_exceptions()
        if type(self._reserve) is not bytearray:
            self._reserve = None
            with suppress(MemoryError):
                bytearray(2 * RESERVE_BYTES)  # as much is left for the cell
                self._reserve = bytearray(RESERVE_BYTES)
        self._notes = []
        self._namespace["__builtins__"] = builtins
        self._namespace.update(self._harness)
        if self._importable:
            importable.add(self._harness)
        sys.modules["__main__"] = self._module
        # Freed when the next cell is prepared: nothing may change the new ones.
        streams = map(vars(sys).get, ("stdout", "stderr", "stdin"))  # a cell may have deleted them
        self._kept_streams = self.output, self._stream, *streams
        self.output = Output(self._output_chars, self._host.emit)
        self._stream = sys.stdout = sys.stderr = Stream(self)
        sys.stdin = cast(TextIO, EmptyInput())
        self.interrupts.listen()

    def _is_at_rest(self, filename: str) -> bool:
        """Returns whether everything that `_prepare` sets and the foundation does not cover is still as it was set.

        Otherwise a finalizer of an earlier cell has changed it. Frees nothing, so it stays true.
        """
        names = vars(sys)
        return (
            self._submitted is None
            and self._running is False
            and type(self._lines) is type(self._notes) is list
            and not self._lines
            and not self._notes
            and type(self._reserve) in (bytearray, type(None))
            and type(self._seconds) is type(self._collection_seconds) is float
            and self.ownership.is_over
            and self.interrupts.is_clear
            and not any(map(has_odd_keys, (names, self._namespace, self._sources)))
            and filename not in self._sources
            and names.get("stdout") is names.get("stderr") is self._stream
            and all(map(is_, map(self._namespace.get, self._harness), self._harness.values()))
        )

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

    def _shelve(self, _seconds: float) -> None:
        """Keeps the collector from what the last cell has left: its finalizers would run in the next one."""

    def _may_collect(self, _seconds: float) -> bool:
        """Returns whether garbage may be collected after a cell of this length."""
        return False

    def _tracers_quietened(self) -> Iterator[object]:
        """Returns an iterator that removes settrace, setprofile and sys.monitoring hooks as it is consumed.

        Iterating happens in C, so a hostile hook cannot raise in between. The base class removes nothing: under
        CPython a debugger may be attached.
        """
        return iter(())

    def _restore_harness(self) -> None:
        """Restores what the end of the cell depends on."""
        self._guard.restore()

    def _restore_interpreter(self) -> None:
        """Undoes a cell's changes to Python itself, as far as the end of a cell depends on them."""
        linecache.cache = self._sources
        restore(self._namespace, {})
        sys.setrecursionlimit(self._recursion_limit)
        sys.set_int_max_str_digits(self._digits_limit)

    def _execute(self, code: str, filename: str) -> None:
        """Runs all statements, and shows the value of the last one if it is an expression."""
        value = None
        try:
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

    def _make_submit(self) -> Callable[..., Any]:
        def SUBMIT(*args: Any, **kwargs: Any) -> None:  # noqa: N802 - the name of the REPL's vocabulary
            outputs = bind_submit(self._outputs, args, kwargs)
            self.ownership.check("SUBMIT")
            self._submitted = self.calls.checked(send(outputs, "SUBMIT"), "SUBMIT() values")
            raise self._signal

        SUBMIT.__doc__ = f"{submit_usage(self._outputs)}\n\nEnds the run with these outputs."
        return SUBMIT


def _unchanged(value: Any) -> Any:
    """Returns the value: without a display tool, a cell's last value is shown by its repr."""
    return value
