"""The resource limits of a session, as one frozen value."""

from __future__ import annotations

import dataclasses
import math

from sandbox_runtime.host_costs import (
    CALL_BYTES_PER_FRAME_BYTE,
    MEBIBYTE,
    VALUE_BYTES_PER_FRAME_BYTE,
)

# Below this the interpreter itself does not fit (the boot image takes about 40 MiB).
SMALLEST_MEMORY = 128 * MEBIBYTE

# A 32-bit interpreter cannot address more.
LARGEST_MEMORY = 4096 * MEBIBYTE


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resource limits of one session. The defaults suit a laptop.

    Raises:
        ValueError: A limit is not positive, or beyond what the interpreter supports.
    """

    cell_seconds: float = 60.0
    """Seconds of processor time that one cell may take, and may sleep; time in host calls does not count, nor
    time in which a busy machine does not run it. After that the cell is interrupted: its code sees an exception, the
    variables stay. On a machine that hardly ever runs it, it is interrupted after ten times as many seconds."""

    grace_seconds: float = 2.0
    """Seconds for an interrupted cell to stop before its process is killed, counted in the same way."""

    memory_bytes: int = 2048 * MEBIBYTE
    """The interpreter's memory. Beyond it Python raises MemoryError, and the session continues."""

    output_chars: int = 10_000
    """Characters of a cell's output that are kept: the first half and the last half."""

    frame_bytes: int = 256 * MEBIBYTE
    """Largest message accepted from the sandbox: a submitted value, the arguments of a tool."""

    concurrent_calls: int = 16
    """Host calls that run at the same time when a cell makes many (`f.batched`, `f.aio`)."""

    call_seconds: float | None = None
    """Seconds that one host call may take before the cell sees TimeoutError. None: no limit, and calls
    that a cell waits for run in the caller's own thread, which is faster."""

    search_seconds: float = 60.0
    """Seconds that one search through a lazy text, or counting its characters, may take on the host. After
    that the cell sees TimeoutError with the matches so far."""

    host_seconds: float = 600.0
    """Seconds of the host's processor time that the calls of one cell may take together: reading and converting what
    they pass and get, and searching lazy texts and tables. The time of your tools and of LMs does not count. After that
    each further call of the cell sees TimeoutError; the next cell has as much again."""

    start_seconds: float = 60.0
    """Seconds that the process may take to start. Generous: a loaded machine is not an error."""

    require_wall: bool = False
    """True to refuse to start (`WallMissingError`) if the operating system cannot confine the process:
    Landlock and seccomp, on Linux. `python -m sandbox_runtime doctor` shows what it offers."""

    @property
    def value_memory_bytes(self) -> int:
        """The maximum host memory of one decoded value, in bytes."""
        return VALUE_BYTES_PER_FRAME_BYTE * self.frame_bytes

    @property
    def call_memory_bytes(self) -> int:
        """The maximum host memory for the encoded arguments of queued and running calls, in bytes."""
        return CALL_BYTES_PER_FRAME_BYTE * self.frame_bytes

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.type == "float | None":
                continue
            if field.type == "bool":
                if type(value) is not bool:
                    raise ValueError(f"Limits.{field.name} must be True or False, not {value!r}.")
                continue
            if field.type == "int" and type(value) is not int:
                raise ValueError(f"Limits.{field.name} must be a whole number, not {value!r}.")
            if not (type(value) in (int, float) and math.isfinite(value) and value > 0):
                raise ValueError(f"Limits.{field.name} must be a positive number, not {value!r}.")
        if not SMALLEST_MEMORY <= self.memory_bytes <= LARGEST_MEMORY:
            raise ValueError(
                f"Limits.memory_bytes must be from {SMALLEST_MEMORY:,} to {LARGEST_MEMORY:,} "
                f"(what a 32-bit interpreter needs and can address), not {self.memory_bytes:,}."
            )
