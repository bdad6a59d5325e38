"""The frames to one sandbox process: requests, the answers to the calls of a cell, interrupts.

Decides which frame may still be written, and writes one at a time, from any thread. `channel.py` reads what comes back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sandbox_runtime.buffers import Part
from sandbox_runtime.rpc.messages import (
    Interrupt,
    Notification,
    Settle,
    ToolInterrupted,
    ToolRaised,
    ToolReturned,
)
from sandbox_runtime.rpc.open_calls import OpenCalls
from sandbox_runtime.rpc.process import Process
from sandbox_runtime.rpc.protocol import Connection
from sandbox_runtime.rpc.sandbox_messages import MAX_SEEN, ToolCall


class Writer:
    """The stdin of a sandbox, and the calls that can still be answered there."""

    def __init__(
        self,
        process: Process,
        connection: Connection,
        patience: float,
        stuck: Callable[[str], object],
        *,
        relayed: bool,
    ) -> None:
        """Starts without a request.

        Args:
            process: The sandbox.
            connection: Encodes the messages.
            patience: Seconds that a frame may take to write.
            stuck: Called with a text if one takes longer.
            relayed: True if interrupts are frames, not signals.
        """
        self._process = process
        self._connection = connection
        self._patience = patience
        self._stuck = stuck
        self._relayed = relayed
        # Guards stdin, and what decides about writing to it: frames are written one at a time, and an answer
        # never after the next request.
        self._lock = threading.Lock()
        self._calls = OpenCalls()
        self._interrupts = 0  # sent since the last `Settle`

    @property
    def running(self) -> int | None:
        """The request of the running cell; None if none runs."""
        return self._calls.request

    def settle(self) -> Settle | None:
        """Returns the request that has to come before the next cell; None if no interrupt was sent since the last."""
        if not self._interrupts:  # which are sent during cells only: there is no need for the lock
            return None
        settle, self._interrupts = Settle(self._interrupts), 0
        return settle

    def begin_request(self, pieces: list[Part], running: int | None) -> None:
        """Writes a request. `running` is its number if it runs a cell, which may make calls."""
        with self._lock:
            self._calls = OpenCalls(running)
            self._write(pieces)

    def end_request(self) -> None:
        """Ends the request: no call can be answered any more."""
        with self._lock:
            self._calls = OpenCalls()

    def tell(self, message: Notification) -> None:
        """Writes a notification."""
        pieces = self._connection.notification(message)
        with self._lock:
            self._write(pieces)

    def begin_call(self, call: ToolCall, accept: Callable[[], object]) -> bool:
        """Opens a call and calls `accept`; False if it came after an interrupt, which is its answer.

        Raises:
            ProtocolError: The cell may not make it now.
        """
        with self._lock:
            self._calls.begin(call)
            if call.seen < min(self._interrupts, MAX_SEEN):  # the signal is still on its way
                self._calls.claim(call.id)
                self._write_interrupted(call.id, self._interrupts)
                return False
            accept()
            return True

    def answer(self, message: ToolReturned | ToolRaised) -> None:
        """Writes the answer to a call; one that comes too late, or second, is dropped."""
        pieces = self._connection.answer(message)
        with self._lock:
            if self._calls.claim(message.call):
                self._write(pieces)

    def interrupt(self, detach: Callable[[], object]) -> None:
        """Requests the running cell to stop. Does nothing if none runs.

        A cell that is blocked in a tool call gets an answer at once. Any other is reached by a signal of its
        process, or by a frame where the main thread reads them; the calls that it awaits are answered too. A call that
        it makes before the signal has come is answered when it arrives here (`begin_call`): a blocked cell sees no
        signal.

        Args:
            detach: Called if a cell runs: from here on its calls have no use for their results.
        """
        with self._lock:
            if self._calls.request is None:
                return
            detach()
            blocking = self._calls.claim_blocking()
            if blocking is not None:
                self._write_interrupted(blocking)
            else:
                self._interrupts += 1
                if self._relayed:
                    self._write(self._connection.notification(Interrupt()))
                else:
                    self._process.interrupt()
            for call in self._calls.claim_all():
                self._write_interrupted(call, self._interrupts)

    def release(self, patience: float) -> None:
        """Closes the pipes of a process that has ended, unless a frame is still being written after that time."""
        if self._lock.acquire(timeout=patience):  # a writer sees that the process is gone
            self._process.release()
            self._lock.release()

    # ---- The caller holds the lock. ----

    def _write_interrupted(self, call: int, signals: int = 0) -> None:
        self._write(self._connection.answer(ToolInterrupted(call, signals)))

    def _write(self, pieces: list[Part]) -> None:
        try:
            self._process.write(pieces, self._patience)
        except TimeoutError as error:
            self._stuck(str(error).rstrip("."))
        except OSError:
            return  # the reader notices the end of the process, and knows its cause
