"""A channel to one running sandbox process: sends a request, serves tool calls, returns the answer.

Combines `process.py`, `protocol.py` and `writer.py`. The thread that sends a request also reads the answer: a separate
reader thread would double the time of a small call. Nothing is lost, because the sandbox sends only during a
request, and blocks while a tool runs for it; what it sends at another time is a breach of the protocol. One thread
drains stderr, where the process says why it ends itself.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, NoReturn, TypeVar

from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.errors import ProtocolError, SandboxDiedError, SandboxStartError
from sandbox_runtime.guest import output as outputs
from sandbox_runtime.limits import Limits
from sandbox_runtime.rpc.cell_watch import LOOK_SECONDS, CellWatch
from sandbox_runtime.rpc.deaths import death_error, exit_cause, sentence
from sandbox_runtime.rpc.messages import (
    Asset,
    Initialize,
    Notification,
    Request,
    Run,
    ToolRaised,
    ToolReturned,
)
from sandbox_runtime.rpc.process import Process
from sandbox_runtime.rpc.protocol import Connection
from sandbox_runtime.rpc.sandbox_messages import (
    FromSandbox,
    Output,
    Refusal,
    Reply,
    ToolCall,
    parse_done,
)
from sandbox_runtime.rpc.writer import Writer
from sandbox_runtime.threads import start_thread
from sandbox_runtime.truncation import printable

# Runs a tool call. Returns None if the answer comes later, through `Channel.answer`.
ServeCall = Callable[[ToolCall], ToolReturned | ToolRaised | None]

# Beyond the interpreter's own memory: V8, code, buffers in flight, and the stacks of some 15 threads.
OVERHEAD_BYTES = 1792 * 1024 * 1024

# A frame is larger than the value in it.
FRAME_OVERHEAD_BYTES = 1024 * 1024

# A pipe that another process holds open keeps its reader thread alive; joining it waits at most this long.
JOIN_SECONDS = 1.0

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class RoundTrip(Generic[T]):
    """A request, and how to wait for its answer."""

    request: Request

    parse: Callable[[Reply], T]
    """Extracts the result from the answer, or raises `ProtocolError`: everything from the sandbox is hostile
    until it is checked."""

    patience: float
    """Seconds without a sign of life after which the process is killed. The time that `serve` takes does
    not count."""

    followers: Iterable[Asset] = ()
    """Notifications to send right after the request."""

    serve: ServeCall | None = None
    """Runs a tool call. None: every call violates the protocol."""

    busy: Callable[[], bool] = lambda: False
    """Returns whether calls of the sandbox are in progress, so that its silence is legitimate."""

    accept: Callable[[], object] = lambda: None
    """Called for each tool call, never at the same time as the callback of `Channel.interrupt`: of a call and an
    interrupt, one is first."""

    room: Callable[[float], bool] = lambda _: True
    """Waits up to that many seconds until the host can take another call. While it cannot, nothing is
    read, for at most `patience`."""

    most_seconds: float = math.inf
    """CPU seconds that one thread of the sandbox may spend on it; see `CellWatch`."""


class Channel:
    """A started sandbox. One request at a time; `interrupt` and `close` from any thread."""

    def __init__(self, engine: Engine, limits: Limits, seed: str) -> None:
        """Starts the process and its interpreter, with `seed` for its random numbers.

        Raises:
            WallMissingError: The confinement that the limits require is incomplete.
            SandboxStartError: It did not start within `limits.start_seconds`.
        """
        executable.report_wall(engine.wall)
        if limits.require_wall:
            executable.demand_wall(engine.wall)
        self.limits = limits
        frame_bytes = limits.frame_bytes + FRAME_OVERHEAD_BYTES
        self._connection = Connection(frame_bytes, limits.memory_bytes)
        self._inbox: deque[FromSandbox] = deque()
        # Held while the pipes are in use; after the process's end the last user closes them.
        self._asking = threading.RLock()
        self._closed = False
        self._output = self._empty_output()
        self._room = 0  # how many more characters the running cell may print
        self._answered = False  # the request has its answer, after which nothing may come
        self._death: SandboxDiedError | None = None
        try:
            self._process = Process(
                engine.command(limits),
                engine.environment,
                limits.memory_bytes + OVERHEAD_BYTES,
                wall=engine.wall,
                readable=engine.scripts,
            )
        except OSError as error:
            raise SandboxStartError(f"Cannot start {engine.deno}: {error}") from error
        self._writer = Writer(
            self._process,
            self._connection,
            limits.start_seconds,
            self._end_stuck,
            relayed=engine.relayed,
        )
        self._stderr = start_thread(self._process.drain_stderr, f"sandbox-{self.pid}-stderr")
        try:
            self._initialize(engine, seed)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of the sandbox's process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        return self._death is None

    def check_alive(self) -> bool:
        """Checks whether the process still runs; `alive` alone may notice its end a moment later."""
        return self._death is None and self._process.running

    def _initialize(self, engine: Engine, seed: str) -> None:
        limits = self.limits
        request = Initialize(
            cell_seconds=limits.cell_seconds,
            grace_seconds=limits.grace_seconds,
            memory_bytes=limits.memory_bytes,
            output_chars=limits.output_chars,
            value_bytes=limits.frame_bytes,
            seed=seed,
            relayed=engine.relayed,
            assets=engine.file_names,
        )
        followers = (Asset(name, [data]) for name, data in engine.files())
        try:
            self.ask(RoundTrip(request, parse_done, limits.start_seconds, followers))
        except SandboxDiedError as died:
            raise SandboxStartError(
                f"The sandbox did not come up: {died} "
                'Run "python -m sandbox_runtime doctor" to see which part is at fault.'
            ) from died
        self._process.seal()  # from here on it can open no further files

    def ask(self, trip: RoundTrip[T]) -> T | Refusal:
        """Sends a request and waits for its answer, serving tool calls in the caller's thread.

        Raises:
            SandboxDiedError: The process has ended, or had to be killed.
        """
        try:
            with self._asking:
                try:
                    reply = self._round_trip(trip)
                    return reply if isinstance(reply, Refusal) else self._parsed(reply, trip.parse)
                except BaseException:
                    # The request was interrupted, so the other end is in an unknown state.
                    self.close()
                    raise
        finally:
            if (
                self._closed
            ):  # by another thread, which could not release the pipes while they were in use
                self._release_if_unused()

    def _round_trip(self, trip: RoundTrip[Any]) -> Reply | Refusal:
        if self._inbox:
            self._fail("protocol", "it sent messages after its answer")
        runs = isinstance(trip.request, Run)
        if runs and (settle := self._writer.settle()) is not None:
            self._round_trip(RoundTrip(settle, parse_done, trip.patience))
        watch = CellWatch(trip.most_seconds, time.monotonic())
        request_id, pieces = self._connection.request(trip.request)
        self._output = self._empty_output()
        self._room = self.limits.output_chars
        self._answered = False
        self._writer.begin_request(pieces, request_id if runs else None)
        try:
            for follower in trip.followers:
                self._writer.tell(follower)
            while True:
                match self._next(trip, watch):
                    case ToolCall() as call if trip.serve is not None:
                        self._serve(call, trip.serve, trip.accept)
                    case Reply(id=answered) | Refusal(id=answered) as reply:
                        if answered != request_id:
                            self._fail("protocol", "it answered an unknown request")
                        return reply
                    case _:
                        self._fail("protocol", "it sent an unexpected message")
        finally:
            self._writer.end_request()

    def _serve(self, call: ToolCall, serve: ServeCall, accept: Callable[[], object]) -> None:
        try:
            if not self._writer.begin_call(call, accept):
                return
        except ProtocolError as error:
            self._fail("protocol", str(error))
        if (answer := serve(call)) is not None:
            self.answer(answer)

    def _parsed(self, reply: Reply, parse: Callable[[Reply], T]) -> T:
        try:
            return parse(reply)
        except ProtocolError as error:
            self._fail("protocol", sentence("protocol", str(error), self.limits))

    def answer(self, message: ToolReturned | ToolRaised) -> None:
        """Sends the answer to a tool call, from any thread; one that comes too late, or second, is dropped."""
        self._writer.answer(message)

    def tell(self, message: Notification) -> None:
        """Sends a notification. If the process has ended, the next request raises the error."""
        try:
            self._writer.tell(message)
        except BaseException:
            self.close()  # in the middle of a frame
            raise

    def interrupt(self, detach: Callable[[], object] = lambda: None) -> None:
        """Requests the running cell to stop. Does nothing if none runs.

        Args:
            detach: Called if a cell runs: from here on its calls have no use for their results.
        """
        self._writer.interrupt(detach)

    def close(self) -> None:
        """Ends the process, if it has not ended, and waits for that. Never hangs."""
        self._process.kill()
        self._process.wait()
        self._stderr.join(JOIN_SECONDS)
        if self._death is None:
            self._death = self._death_error("exit", "it was closed")
        self._closed = True
        self._release_if_unused()

    def _release_if_unused(self) -> None:
        """Closes the pipes unless a request is in progress: their descriptors would be reused."""
        if not self._asking.acquire(blocking=False):
            return  # the thread that holds the lock calls this when its request is done
        self._writer.release(JOIN_SECONDS)
        self._asking.release()

    def _next(self, trip: RoundTrip[Any], watch: CellWatch) -> FromSandbox:
        """Returns the next message. Raises `SandboxDiedError` when there are no more."""
        now = time.monotonic()
        silent_at = full_until = now + trip.patience
        while not self._inbox:
            if self._death is not None:
                raise self._death
            if watch.is_due(now) and watch.sees_too_much(now, self._process.thread_times()):
                self._fail("cellSeconds", sentence("cellSeconds", "", self.limits))
            # Unread data stays in the pipe, and the sandbox blocks. The time is bounded: calls may wait for
            # one another, and the end of the cell is in the pipe too.
            if (
                not trip.room(LOOK_SECONDS)
                and (now := time.monotonic()) < full_until
                and self._process.running
            ):
                silent_at = now + trip.patience
                continue
            started = time.monotonic()
            arrived = self._process.wait_readable(min(trip.patience, LOOK_SECONDS))
            now = time.monotonic()
            busy = trip.busy()
            if not busy:
                watch.waited(now - started)
            if arrived:
                self._read()
            elif now < silent_at:
                continue
            elif not busy:
                self._fail("silent", sentence("silent", "", self.limits))
            silent_at = now + trip.patience
        return self._inbox.popleft()

    def _end_stuck(self, text: str) -> None:
        """Ends a process that does not read what is written to it."""
        self._death = self._death_error("silent", text)
        self._process.kill()

    def _fail(self, reason: str, text: str) -> NoReturn:
        self._process.kill()
        raise self._death_error(reason, text)

    def _death_error(self, reason: str, text: str) -> SandboxDiedError:
        return death_error(reason, text, self._output.render(), self.limits)

    # ---- Reading ----

    def _read(self) -> None:
        """Reads what is available, which may be the end of the stream."""
        try:
            count = self._process.read_into(self._connection.space())
            for message in self._connection.received(count):
                if isinstance(message, Output) and not self._answered:
                    self._keep_output(message)
                else:
                    self._answered |= isinstance(message, Reply | Refusal)
                    self._inbox.append(message)
        except ProtocolError as error:
            self._process.kill()
            self._process.wait()
            self._death = self._death_error(
                "protocol", sentence("protocol", str(error), self.limits)
            )
            return
        if count == 0:
            self._note_end()

    def _keep_output(self, message: Output) -> None:
        """Keeps what the running cell prints. The sandbox sends no more than may be shown."""
        self._room -= len(message.text)
        if message.request != self._writer.running or not message.text or self._room < 0:
            raise ProtocolError("It sent output that no cell can have printed.")
        self._output.write(printable(message.text))

    def _note_end(self) -> None:
        code = self._process.wait(JOIN_SECONDS)
        if code is None:  # it runs, but has closed its output
            self._process.kill()
            code = self._process.wait()
        self._stderr.join(JOIN_SECONDS)
        cause = exit_cause(code, self._process.stderr_tail, self.limits)
        self._death = self._death_error(*cause)

    def _empty_output(self) -> outputs.Output:
        """Returns an empty buffer for the running cell's output, which abridges like the sandbox itself."""
        return outputs.Output(self.limits.output_chars, lambda _: None)
