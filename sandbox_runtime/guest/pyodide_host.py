"""The host of the driver inside Pyodide: calls and output, by way of the worker."""

from __future__ import annotations

# By name: a cell that replaces them in their modules does not replace them here.
from builtins import id as identity
from builtins import len
from collections.abc import Awaitable, Callable, Sequence
from os import read, write
from sys import _getframe
from time import monotonic
from typing import Any

from pyodide.ffi import to_js

from sandbox_runtime.guest.cell_code import line_of_cell
from sandbox_runtime.guest.namespace.calls import PLAIN
from sandbox_runtime.guest.values.codec import INLINE_CHARS, Part

# A small call is written to this file, and its answer is read from it; see `host_file.ts`.
HOST_FILE = 1000
QUICK_CHARS = 8 * 1024
_DIGITS = {"wait": 0, "batch": 2}

# A sleeping cell checks for an interrupt at this interval.
SLEEP_SLICE_SECONDS = 0.02

# The content of a bytes object lies behind its head; both end with a zero.
CONTENT = bytes.__basicsize__ - 1


class PyodideHost:
    """The driver's host, reached through the worker."""

    def __init__(self, worker: Any, wait_for: Callable[[Awaitable[Any]], Any]) -> None:
        """Takes the functions of `pythonGlobals()` in `python_globals.ts`, and `DriverHost.wait_for`."""
        self._worker = worker
        # Looked up once: crossing over to JavaScript is slow.
        self._call_host = worker.callHost
        self._take_parts = worker.takeParts
        self._drain_raw = worker.drainRaw
        self._hold = worker.hold
        self.intact = worker.intact
        self.heard = worker.heard
        self.note_overdue = worker.noteOverdue
        self.set_idle = worker.setIdle
        self.wait_for = wait_for

    def call(
        self, mode: str, tool: str, arguments: str, extras: list[Part]
    ) -> tuple[str, Sequence[Part]]:
        """See `CallHost`."""
        if not extras and len(arguments) < QUICK_CHARS:
            line = line_of_cell(_getframe(1), tool)
            try:
                size = write(HOST_FILE, f"{_DIGITS[mode]}{tool}\0{line}\0{arguments}".encode())
            except OSError:  # the name of the tool is not ASCII
                answer = self._call_host(mode, tool, arguments, None, line)
            else:
                text = str(read(HOST_FILE, size), "utf-8", "surrogatepass")
                if text[0] == PLAIN:
                    return text, ()
                return text, [part.to_bytes() for part in self._take_parts()]
        elif extras or len(arguments) > INLINE_CHARS:
            parts = to_js([arguments.encode(), *extras])
            answer = self._call_host(mode, tool, "", parts, line_of_cell(_getframe(1), tool))
        else:
            answer = self._call_host(mode, tool, arguments, None, line_of_cell(_getframe(1), tool))
        if isinstance(answer, str):
            return answer, ()
        text, *received = answer
        return text, [part.to_bytes() for part in received]

    def begin(self, ticket: int, tool: str, arguments: str, extras: list[Part]) -> None:
        """See `CallHost`."""
        if extras or len(arguments) > INLINE_CHARS:
            parts = to_js([arguments.encode(), *extras])
            self._worker.beginCall(ticket, tool, "", parts, line_of_cell(_getframe(1), tool))
        else:
            self._worker.beginCall(ticket, tool, arguments, None, line_of_cell(_getframe(1), tool))

    def emit(self, text: str) -> None:
        """See `DriverHost`."""
        self._worker.emit(text)

    def drain_raw(self) -> str:
        """See `DriverHost`."""
        return str(self._drain_raw())

    def hold(self, packed: bytes, most: int) -> bool:
        """See `DriverHost`. JavaScript reads the bytes where they are."""
        return bool(self._hold(identity(packed) + CONTENT, len(packed), most))

    def sleep(self, seconds: float, /) -> None:
        """Replaces `time.sleep`, which could not be interrupted here."""
        end = monotonic() + seconds
        while (remaining := end - monotonic()) > 0:
            self._worker.pause(min(remaining, SLEEP_SLICE_SECONDS) * 1000)
