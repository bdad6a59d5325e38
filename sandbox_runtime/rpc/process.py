"""The sandbox's process: spawn, read, write, kill and wait. Bytes only.

Contains the differences between operating systems: process groups, resource limits, pipe sizes. Each has a
fallback where a system does not offer it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

from sandbox_runtime.buffers import Part, nbytes
from sandbox_runtime.isolation.os_isolation import NO_WALL, Wall, run_confined
from sandbox_runtime.isolation.process_limits import lower_limits

# The default on Linux is 64 KiB; larger writes save context switches between the two processes.
PIPE_BYTES = 1024 * 1024
F_SETPIPE_SZ = 1031

# Maximum of a single write, so that a blocked pipe holds no more than this of the caller's buffer.
WRITE_BYTES = 1024 * 1024

# More than Deno ever has open.
OPEN_FILES = 128

# Resources that a sandbox does not need, set to 0: core dumps, written files, locked memory, message queues,
# priorities, pending signals. RLIMIT_NPROC is not among them: it counts all processes of the user, so that others
# could exhaust it for the sandbox's threads, and root is exempt; seccomp refuses processes.
NEVER_USED = (
    "RLIMIT_CORE",
    "RLIMIT_FSIZE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_SIGPENDING",
)

# Adjacent pieces up to this size are joined before they are written.
SMALL_BYTES = 16 * 1024

# The end of stderr that is kept for error messages.
STDERR_BYTES = 16 * 1024

# A killed process that has not ended after this is stuck in the kernel; waiting stops.
KILL_SECONDS = 5.0

# Polling interval while a process ends: the first, and the longest.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.0005, 0.05

# The longest timeout of `poll`, some 24 days.
LONGEST_POLL_MILLISECONDS = 2**31 - 1

# Polling interval for a pipe where the system cannot wait for one.
PEEK_SECONDS = 0.001

# The signal that `deno/sandbox.ts` listens to; Windows has none that fits.
INTERRUPT_SIGNAL = getattr(signal, "SIGUSR2", signal.SIGTERM)

# The unit of CPU times in /proc.
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

fcntl: ModuleType | None
select: ModuleType | None
try:
    import fcntl
    import select
except ImportError:  # Windows
    fcntl = select = None


class ThreadTimes(NamedTuple):
    """The seconds that a thread has been on a processor, and those that it has waited for one, if they are known."""

    ran: float
    waited: float | None


class Process:
    """A child process with pipes on all three streams. Safe to kill from any thread."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        data_bytes: int,
        *,
        wall: Wall = NO_WALL,
        readable: Sequence[Path] = (),
    ) -> None:
        """Starts the child in a new process group, in the root folder of the file system.

        Args:
            command: Program and arguments.
            environment: The child's complete environment.
            data_bytes: The maximum of its writable memory, enforced where the system can.
            wall: The confinement by the operating system.
            readable: The files that it may read when confined, beside itself and its libraries.

        Raises:
            OSError: It could not be started.
        """
        with run_confined(wall, Path(command[0]), readable) as self._launch:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=dict(environment),
                cwd=Path(sys.executable).anchor or "/",
                start_new_session=True,
                **self._launch.options,
            )
        self._ending = (
            threading.Lock()
        )  # guards the pid, which is the child's only until it is reaped
        self._stdin = cast(io.FileIO, self._child.stdin)
        self._stdout = cast(io.FileIO, self._child.stdout)
        self._stderr = cast(io.FileIO, self._child.stderr)
        self._stderr_tail: deque[bytes] = deque()
        if select is not None:
            self._poll = select.poll()
            self._poll.register(self._stdout, select.POLLIN)
            os.set_blocking(self._stdin.fileno(), False)
        self._limit(data_bytes)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """False once the child has ended."""
        return not self._has_ended()

    def _limit(self, data_bytes: int) -> None:
        if fcntl is not None and sys.platform == "linux":
            for stream in (self._stdin, self._stdout):
                with contextlib.suppress(OSError):
                    fcntl.fcntl(stream.fileno(), F_SETPIPE_SZ, PIPE_BYTES)
        limits = dict.fromkeys(NEVER_USED, 0)
        lower_limits(self.pid, limits | {"RLIMIT_NOFILE": OPEN_FILES, "RLIMIT_DATA": data_bytes})

    def seal(self) -> None:
        """Revokes the permissions that only the start needs: the child can open no more files. See `open_gate.py`."""
        self._launch.seal()

    def thread_times(self) -> Mapping[str, ThreadTimes]:
        """Returns the times of each thread of the child; empty where the system does not report them."""
        times = {}
        threads: list[Path] = []
        with contextlib.suppress(OSError):  # the child has ended: `glob` would raise
            threads = list(Path(f"/proc/{self.pid}/task").iterdir())
        for thread in threads:
            with contextlib.suppress(OSError):  # the thread has ended, and does not matter
                times[thread.name] = _times_of(thread)
        return times

    def read_into(self, space: memoryview) -> int:
        """Reads the available bytes, at least one; returns 0 at the end of the stream. Blocks."""
        try:
            return self._stdout.readinto(space) or 0
        except (OSError, ValueError):  # closed by another thread
            return 0

    def wait_readable(self, seconds: float | None) -> bool:
        """Waits for data or the end of the stream; returns False on timeout."""
        try:
            if select is None:
                return _peek(self._stdout, seconds)
            return bool(self._poll.poll(_milliseconds(seconds)))
        except (OSError, ValueError):  # closed by another thread
            return True

    def write(self, pieces: Sequence[Part], patience: float | None = None) -> None:
        """Writes all pieces. Blocks while the child does not read.

        Raises:
            TimeoutError: The child read nothing for `patience` seconds.
            OSError: It has ended.
        """
        if len(pieces) == 1 and nbytes(pieces[0]) <= WRITE_BYTES:  # the frame of a small call
            self._write_all(memoryview(pieces[0]).cast("B"), patience)
            return
        for piece in _merge_small(pieces):
            view = memoryview(piece).cast("B")
            for at in range(0, len(view), WRITE_BYTES):
                self._write_all(view[at : at + WRITE_BYTES], patience)

    def _write_all(self, view: memoryview, patience: float | None) -> None:
        while view:
            try:
                written: int | None = self._stdin.write(view)
            except ValueError as error:
                raise BrokenPipeError("The pipe to the sandbox is closed.") from error
            if written is None:
                self._wait_writable(patience)
            else:
                view = view[written:]

    def _wait_writable(self, patience: float | None) -> None:
        if select is None:  # pipes block there
            return
        poll = select.poll()
        poll.register(self._stdin, select.POLLOUT)
        if not poll.poll(_milliseconds(patience)):
            raise TimeoutError(f"The sandbox read nothing for {patience:g} s.")

    def drain_stderr(self) -> None:
        """Reads stderr to its end, keeping only its tail. Blocks; run it in a thread."""
        kept = 0
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._stderr.read(4096):
                self._stderr_tail.append(chunk)
                kept += len(chunk)
                while kept - len(self._stderr_tail[0]) >= STDERR_BYTES:
                    kept -= len(self._stderr_tail.popleft())

    @property
    def stderr_tail(self) -> str:
        """The end of the child's stderr so far."""
        return b"".join(self._stderr_tail).decode("utf-8", "replace").strip()

    def interrupt(self) -> None:
        """Sends the child the signal by which it interrupts its cell. Does nothing if it has ended."""
        with self._ending, contextlib.suppress(OSError):
            if self._child.returncode is None:
                os.kill(self.pid, INTERRUPT_SIGNAL)

    def kill(self) -> None:
        """Kills the child and everything in its process group. Does nothing if it has ended."""
        with self._ending:
            if self._child.returncode is None:
                self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._child.kill()

    def _has_ended(self) -> bool:
        """Returns whether the child has ended; if so, kills the rest of its process group."""
        with self._ending:
            if self._child.returncode is not None:
                return True
            if hasattr(os, "waitid"):
                # Without reaping it: until then no other process can get its pid, or its group's.
                kinds = os.WEXITED | os.WNOHANG | os.WNOWAIT
                with contextlib.suppress(ChildProcessError):
                    if os.waitid(os.P_PID, self.pid, kinds) is None:
                        return False
                self._kill_group()
            return self._child.poll() is not None

    def wait(self, seconds: float = KILL_SECONDS) -> int | None:
        """Waits for the child's end; returns its exit code, or None on timeout."""
        end = time.monotonic() + seconds
        pause = SHORTEST_PAUSE_SECONDS
        while not self._has_ended():
            left = end - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return self._child.returncode

    def release(self) -> None:
        """Closes the pipes. The child must have ended: a running one would only see the end of its input."""
        for stream in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                stream.close()


def _times_of(thread: Path) -> ThreadTimes:
    """Returns the times of a thread, by its folder in /proc. Some kernels do not know how long it has waited."""
    try:
        ran, waited, _ = map(int, (thread / "schedstat").read_text().split())
        return ThreadTimes(ran / 1e9, waited / 1e9)
    except FileNotFoundError:
        fields = (thread / "stat").read_text().rpartition(") ")[2].split()
        return ThreadTimes((int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND, None)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds * 1000, LONGEST_POLL_MILLISECONDS)


def _peek(pipe: io.FileIO, seconds: float | None) -> bool:
    """Implements `Process.wait_readable` on Windows, which cannot wait for a pipe."""
    import _winapi
    import msvcrt

    end = None if seconds is None else time.monotonic() + seconds
    handle: int = msvcrt.get_osfhandle(pipe.fileno())  # type: ignore[attr-defined, unused-ignore]
    while not _winapi.PeekNamedPipe(handle, 0)[0]:  # type: ignore[attr-defined, unused-ignore]
        if end is not None and time.monotonic() >= end:
            return False
        time.sleep(PEEK_SECONDS)
    return True


def _merge_small(pieces: Sequence[Part]) -> Iterator[Part]:
    """Joins adjacent small pieces: each write wakes the child, so a small frame should be a single one."""
    small = bytearray()
    for piece in pieces:
        if nbytes(piece) <= SMALL_BYTES:
            small += piece
            continue
        if small:
            yield bytes(small)
            small.clear()
        yield piece
    if small:
        yield bytes(small)
