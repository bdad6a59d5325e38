"""The process that runs one row alone: `python -m dspy_rlm.jobs.worker`. Its parent is `child.py`.

Frames on stdin and stdout: a length of 8 bytes, then a pickle. Both ends are this program, on one machine. What tools print goes to
stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import struct
import sys
import threading
from concurrent.futures import Future, InvalidStateError
from typing import IO, Any

from dspy_rlm.dspy_bridge.arriving_lms import keys_follow
from dspy_rlm.jobs.binding import lms_of
from dspy_rlm.jobs.engine import Program
from dspy_rlm.jobs.row_run import run_row
from dspy_rlm.limiting.quota import Lease
from sandbox_runtime.helpers import start_thread

HEADER = struct.Struct("<Q")


class ForwardingQuota:
    """The quota of the parent, as the worker reaches it; implements `quota.Quota`."""

    def __init__(self, wire: Wire, *, limits_cost: bool) -> None:
        self.limits_cost = limits_cost
        self._wire = wire
        self._ids = itertools.count()
        self._lock = threading.Lock()  # guards the futures
        self._futures: dict[int, Future[Lease]] = {}

    def take(
        self, model: str, tokens: int, cost: float | None, *, first: bool = False, requests: int = 1
    ) -> Future[Lease]:
        """See `Quota.take`."""
        future: Future[Lease] = Future()
        with self._lock:
            number = next(self._ids)
            self._futures[number] = future
        self._wire.send(("take", number, model, tokens, cost, first, requests))
        return future

    def settle(
        self, lease: Lease, *, tokens: int | None, cost: float | None, sent: bool = True
    ) -> None:
        """See `Quota.settle`."""
        self._wire.send(("settle", lease, tokens, cost, sent))

    def answered(self, number: int, lease: Lease | None, error: Exception | None) -> None:
        """Takes the parent's answer to a request."""
        with self._lock:
            future = self._futures.pop(number)
        try:
            if error is not None:
                future.set_exception(error)
            elif lease is not None:
                future.set_result(lease)
        except InvalidStateError:  # withdrawn meanwhile
            if lease is not None:
                self.settle(lease, tokens=None, cost=None, sent=False)


class Wire:
    """Frames to and from the parent. `send` is thread-safe."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self._source, self._target = source, target
        self._lock = threading.Lock()  # one frame at a time

    def send(self, message: Any) -> None:
        """Writes a frame."""
        data = pickle.dumps(message)
        with self._lock:
            self._target.write(HEADER.pack(len(data)) + data)
            self._target.flush()

    def receive(self) -> Any:
        """Reads a frame. Raises `EOFError` once the parent is gone."""
        head = self._source.read(HEADER.size)
        if len(head) < HEADER.size:
            raise EOFError
        return pickle.loads(self._source.read(HEADER.unpack(head)[0]))  # noqa: S301 - the parent's own


def main() -> None:
    """Runs the row that the parent sends, and ends."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what tools print must not get among the frames
    wire = Wire(sys.stdin.buffer, target)
    packed, options, row, limits_cost = wire.receive()
    quota = ForwardingQuota(wire, limits_cost=limits_cost)

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                quota.answered(*wire.receive())
        os._exit(1)  # nobody would get the outcome; the sandbox ends with this process

    with keys_follow():
        program = Program.unpacked(packed)
    for lm, its in zip(lms_of(program.rlm), options, strict=False):
        lm.kwargs.update(its)
    start_thread(listen, "rlm-job-parent")
    outcome = asyncio.run(run_row(program, row, quota))
    wire.send(("end", outcome))
    target.close()
    os._exit(0)


if __name__ == "__main__":
    main()
