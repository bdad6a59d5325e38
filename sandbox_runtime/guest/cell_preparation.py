"""The state that each cell begins with: the part that the driver keeps, and its restoration between two cells.

Knows the harness that earlier cells may have changed. Knows no code that runs: `driver.py` runs it, and reports its end.

Everything here runs while no cell does. But what is dropped may have finalizers of earlier cells, which can change
anything. So `release` drops what there is; then the harness is checked; and `prepare` drops nothing: it keeps what it replaces.
"""

from __future__ import annotations

import builtins
import linecache
import random
import sys
import types

# By name: a cell that replaces them in their modules does not replace them here.
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from itertools import repeat
from operator import is_
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

from sandbox_runtime.guest import cell_notes
from sandbox_runtime.guest.callback_ownership import Ownership
from sandbox_runtime.guest.integrity.hooks import Hooks
from sandbox_runtime.guest.integrity.namespace_guard import (
    CLASSES,
    MODULES,
    NamespaceGuard,
    drop_odd_keys,
    has_odd_keys,
)
from sandbox_runtime.guest.interrupts import Interrupts
from sandbox_runtime.guest.namespace import importable, tool_wrappers
from sandbox_runtime.guest.namespace.builtin_names import OWN_BUILTINS, EmptyInput
from sandbox_runtime.guest.namespace.calls import CallHost, HostCalls
from sandbox_runtime.guest.output import ByteStream, Output, Sink, Stream, is_sound
from sandbox_runtime.guest.texts import host_calls
from sandbox_runtime.guest.tracebacks import forget_host_exceptions
from sandbox_runtime.guest.values.codec import Part

# Freed when a cell fails: one that has used up all memory would leave none for its error message.
RESERVE_BYTES = 2 * 1024 * 1024

# The interpreter's own dictionary of modules.
_MODULES = sys.modules

# Where `worker.ts` mounts extra packages.
PACKAGES_FOLDER = "/packages"


class DriverHost(CallHost, Protocol):
    """The interface that the driver needs from its host."""

    def emit(self, text: str) -> None:
        """Sends output of the running cell to the host."""

    def hold(self, packed: bytes, most: int) -> bool:
        """Holds the running cell's submission, marshalled, until the cell has ended. Returns False if it cannot:
        what is not plain data, or is longer as JSON than `most` bytes, has to be encoded here.
        """

    def heard(self) -> bool:
        """Acknowledges a signal, which is resent until then. Returns False if it was acknowledged before."""

    def note_overdue(self, overdue: bool) -> None:
        """Notes whether a signal that was acknowledged has yet to be raised: a call that the cell makes before does not
        account for it. A cell begins without one."""

    def drain_raw(self) -> str:
        """Returns text written to the file descriptors, bypassing Python's streams."""

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Runs the event loop until the awaitable is done."""


class _SubmitSignal(BaseException):
    """Unwinds the cell after SUBMIT. Recognised by identity, never by its name."""


class CellPreparation:
    """The state of a session's driver, and what is done to it before each cell."""

    def __init__(
        self, host: DriverHost, output_chars: int, calls: HostCalls, cell_code: types.CodeType
    ) -> None:
        """Takes the present state of the interpreter as the one to restore.

        Args:
            host: The host of the driver.
            output_chars: The most characters of a cell's output.
            calls: The calls of the host's tools.
            cell_code: The code of the function that runs cells, which a signal may interrupt.
        """
        self._host = host
        self._output_chars = output_chars
        self._module = types.ModuleType("__main__")
        self._namespace = self._module.__dict__
        self._harness: dict[str, Callable[..., Any]] = {}
        self._importable = False  # whether a cell has needed the names in it as modules
        self._prepared = 0  # the cell that `prepare` has prepared, and its lines
        self._lines: list[str] = []
        self._left: list[Any] = []  # what `prepare` has replaced
        self.calls = calls
        self._text_call = calls.function(host_calls.TEXT_CALL, "", suspends=False)
        self.ownership = Ownership()
        self._running = False
        # Looked at without a call: a cell's tracer would observe one, and act after the cell's code.
        self.threads: Mapping[int, object] = {}
        """The live threads of the running cell."""
        self.interrupts = Interrupts(host.heard, host.note_overdue, cell_code)
        self._signal = _SubmitSignal()
        self._submitted: tuple[str, list[Part]] | None = None
        self._sink = Sink(self)
        self._stream = Stream(self._sink)
        self.collects = False  # whether the stream has text that it has not passed on
        self._emit = host.emit
        self.output = Output(output_chars, self._emit)
        self._notes: list[str] = []  # the harness's own lines below the running cell's output
        self._sources = linecache.cache
        self._modules: dict[str, types.ModuleType] = {}
        self._builtins = {**vars(builtins), **OWN_BUILTINS}
        classes = (*CLASSES, Stream, Sink, ByteStream, Output)
        self._guard = NamespaceGuard(MODULES, classes, ((vars(builtins), self._builtins),))
        self._hooks = Hooks()
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
    def stream(self) -> Stream:
        """The stream of the running cell."""
        return self._stream

    @property
    def sink(self) -> Sink:
        """The sink of that stream."""
        return self._sink

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
        self._modules = self._modules or {**sys.modules, "__main__": self._module}
        if not seed:
            return
        random.seed(seed)
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed(int.from_bytes(seed.encode()[:4], "little"))

    def release(self) -> None:
        """Drops what earlier cells have left: their finalizers run here, while nothing can be called.

        They may change anything, so the harness is checked after this.
        """
        self._left = []
        self._submitted = None
        self.interrupts.clear()
        self.ownership.end()
        # What the last cell has submitted may be large.
        self._signal.__traceback__ = self._signal.__context__ = None
        forget_host_exceptions()
        tool_wrappers.drop_own()
        self._shelve(self._seconds)

    def prepare(self, cell: int, code: str, *, plain: bool = False) -> object:
        """Prepares everything for a cell, whose code may also follow later; see `begin`.

        No code of earlier cells runs here, nor from here on until the cell: nothing of theirs is dropped.

        Args:
            cell: Its number.
            code: Its code.
            plain: Whether all keys of `dictionaries` are known to be exactly `str`.
        """
        kept: list[Any] = []
        self._keep(kept)
        self._left = kept
        self._importable = self._importable is True or "import" in code
        filename = f"<cell {cell}>"
        if not plain:
            for names in self.dictionaries:
                drop_odd_keys(names, kept)
        kept.append(self._sources.get(filename))
        self._prepare()
        self._prepared, self._lines = cell, code.splitlines(True)
        self._sources[filename] = (len(code), None, self._lines, filename)
        for _ in self._tracers_quietened():
            pass
        self._hooks.start()
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

    # ---- Before a cell ----

    @property
    def dictionaries(self) -> tuple[dict[str, Any], ...]:
        """The dictionaries that are prepared, and that a cell can put any keys into."""
        return vars(sys), _MODULES, self._sources, self._namespace

    def _keep(self, kept: list[Any]) -> None:
        """Adds to `kept` the attributes that `_prepare` replaces."""
        # The reserve is dropped when a cell fails, so that memory is left: nothing else may hold it.
        kept += [value for value in vars(self).values() if type(value) is not bytearray]
        for holder in (self.interrupts, self.ownership):
            kept += vars(holder).values()
        kept += (self._signal.__traceback__, self._signal.__context__)
        for kind in (host_calls.HostConnection, cell_notes.CellNotes):
            kept += vars(kind).values()

    def _prepare(self) -> None:
        """Restores the harness, whatever earlier cells did to it. Keeps what it replaces."""
        if self._running is True:
            raise RuntimeError("a cell cannot run another")
        kept = self._left
        self._running = False
        self._submitted = None
        self.interrupts.clear()
        kept.append(self.ownership.end())
        kept.append(self.calls.forget())
        self._signal.__traceback__ = self._signal.__context__ = None
        self._seconds = 0.0
        if type(self._collection_seconds) is not float:
            self._collection_seconds = 0.0
        self._guard.restore()
        self._restore_modules(kept)
        tool_wrappers.restore(kept)
        self._hooks.restore(kept)
        self._restore_interpreter(kept)
        host_calls.connect(self._text_call)
        cell_notes.forget()
        kept.append(forget_host_exceptions())
        if type(self._reserve) is not bytearray:
            self._reserve = None
            with suppress(MemoryError):
                bytearray(2 * RESERVE_BYTES)  # as much is left for the cell
                self._reserve = bytearray(RESERVE_BYTES)
        self._notes = []
        kept += map(self._namespace.get, ("__builtins__", *self._harness))
        self._namespace["__builtins__"] = builtins
        self._namespace.update(self._harness)
        if self._importable:
            importable.add(self._harness)
        sys.modules["__main__"] = self._module
        if self.collects is True and type(self._stream) is Stream:
            with suppress(ValueError):  # a cell has detached it
                self._stream.collect(False)  # a cell may still hold it
        self.output = Output(self._output_chars, self._emit)
        self.collects = False
        self._sink = Sink(self)
        self._stream = sys.stdout = sys.stderr = Stream(self._sink)
        sys.stdin = cast(TextIO, EmptyInput())
        kept += self.interrupts.listen()

    def _restore_modules(self, kept: list[Any]) -> None:
        """Binds the modules of `sys.modules` again, which a cell may have replaced itself."""
        names, modules = vars(sys), _MODULES
        kept.append(names.get("modules"))
        names["modules"] = modules
        kept += modules.values()
        modules.update(self._modules)

    def is_prepared(self, *, plain: bool = False) -> bool:
        """Returns whether everything that `prepare` sets and the foundation does not cover is still as it was set.

        Otherwise code of an earlier cell has run meanwhile. Drops nothing, so it stays true. See `prepare` for `plain`.
        """
        names, lines = vars(sys), self._lines
        return (
            self._submitted is None
            and self._running is False
            and self.collects is False
            and type(self._prepared) is int
            and type(lines) is type(self._notes) is list
            and all(map(is_, map(type, lines), repeat(str)))
            and not self._notes
            and type(self._reserve) in (bytearray, type(None))
            and type(self._seconds) is type(self._collection_seconds) is float
            and self.ownership.is_over
            and self.interrupts.is_clear
            and (plain or not any(map(has_odd_keys, self.dictionaries)))
            and names.get("stdout") is names.get("stderr") is self._stream
            and is_sound(self._stream, self._sink, self)
            and self.output.is_new(self._output_chars, self._emit)
            and all(map(is_, map(self._namespace.get, self._harness), self._harness.values()))
        )

    def _shelve(self, _seconds: float) -> None:
        """Keeps the collector from what the last cell has left: its finalizers would run in the next one."""

    def _tracers_quietened(self) -> Iterator[object]:
        """Returns an iterator that removes settrace, setprofile and sys.monitoring hooks as it is consumed.

        Iterating happens in C, so a hostile hook cannot raise in between. The base class removes nothing: under
        CPython a debugger may be attached.
        """
        return iter(())

    def _restore_interpreter(self, kept: list[Any]) -> None:
        """Undoes a cell's changes to Python itself, as far as the report of an error or of tasks depends on them.

        Adds to `kept` what it replaces.
        """
        self._restore_limits()
        kept.append(vars(linecache).get("cache"))
        linecache.cache = self._sources

    def _restore_limits(self) -> None:
        """Undoes what the end of every cell depends on."""
        sys.setrecursionlimit(self._recursion_limit)
        sys.set_int_max_str_digits(self._digits_limit)
