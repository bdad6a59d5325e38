"""One more wall round a process, from the operating system: Landlock and seccomp, where Linux has them.

Needs no rights. Behind it a process reads the files that it was given and no others, writes none, starts
only itself, opens no socket, and cannot ask the kernel for what a sandbox never needs. It is put up in a
thread that ends afterwards, since both bind the thread that asks for them and what this starts, and
nothing else of the process: https://docs.kernel.org/userspace-api/landlock.html and
https://docs.kernel.org/userspace-api/seccomp_filter.html.

What knows Deno is `assets.py`; here are only paths and numbers of system calls.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

Started = TypeVar("Started")

# ---- Landlock (include/uapi/linux/landlock.h) -------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WHICH_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3

# Every right over files that a version of Landlock knows; those without a rule are refused.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
# To bind and to connect a TCP socket, since version 4.
_NET_RIGHTS = 0b11
# Abstract unix sockets and signals to processes outside, since version 6.
_SCOPES = 0b11

# Where the loader finds the libraries of a program; what of it does not exist is left out.
_LIBRARIES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/etc/ld.so.cache",
)

# ---- seccomp (include/uapi/linux/seccomp.h, bpf_common.h) -------------------------------------------

_SET_SECCOMP, _FILTER_MODE = 22, 2
_NO_NEW_PRIVILEGES = 38

_LOAD_WORD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000  # with the number of an error in the low bits
_EPERM, _ENOSYS = 1, 38

# Places in `struct seccomp_data`.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

# The flags of clone() that make namespaces.
_NAMESPACES = 0x7E020080


@dataclasses.dataclass(frozen=True)
class _Calls:
    """The numbers of system calls on one kind of machine."""

    architecture: int
    refused: Sequence[int]
    clone: int
    clone3: int
    beyond: int = 2**32 - 1
    """From this number on nothing is a call of this machine's own."""


# Sockets; other processes' memory, signals and descriptors; keys; namespaces and mounts; io_uring, which
# does by itself what is refused here; files by handle; kernel modules, tracing, clocks and the like.
_COMMON = (*range(424, 428), *range(428, 434), 438, 442)
_MACHINES = {
    "x86_64": _Calls(
        architecture=0xC000003E,
        refused=(
            *_COMMON,
            *(41, 42, 43, 49, 50, 288),
            *(62, 101, 129, 200, 297, 310, 311, 312),
            *(248, 249, 250, 29, 30, 31, 64, 68, 240),
            *(155, 161, 165, 166, 272, 308),
            *(103, 135, 159, 163, 164, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179, 212, 227),
            *(246, 298, 300, 303, 304, 305, 313, 320, 321, 322, 323),
        ),
        clone=56,
        clone3=435,
        beyond=0x40000000,
    ),
    "aarch64": _Calls(
        architecture=0xC00000B7,
        refused=(
            *_COMMON,
            *(198, 200, 201, 202, 203, 242),
            *(117, 129, 130, 138, 240, 270, 271, 272),
            *(217, 218, 219, 180, 186, 190, 194, 195, 196),
            *(39, 40, 41, 51, 97, 268),
            *(18, 60, 89, 92, 104, 105, 106, 112, 116, 142, 161, 162, 170, 171, 224, 225),
            *(241, 262, 264, 265, 266, 273, 280, 281, 282, 294),
        ),
        clone=220,
        clone3=435,
    ),
}


@dataclasses.dataclass(frozen=True)
class Wall:
    """What this machine offers."""

    landlock: int = 0
    """The version of Landlock, 0 if there is none."""

    seccomp: bool = False

    def __bool__(self) -> bool:
        return self.landlock > 0 or self.seccomp

    def __str__(self) -> str:
        parts = [f"Landlock {self.landlock}"] if self.landlock else []
        parts += ["seccomp"] if self.seccomp else []
        return " and ".join(parts) or "none"


NO_WALL = Wall()


@functools.cache
def survey() -> Wall:
    """What this machine offers; asks the kernel once."""
    if sys.platform != "linux":
        return NO_WALL
    try:
        version = _libc().syscall(_CREATE_RULESET, None, 0, _WHICH_VERSION)
        # Without a program the kernel complains of that, and where it knows no filters, of the request.
        knows_filters = _libc().prctl(_SET_SECCOMP, _FILTER_MODE, None, 0, 0) == -1
        knows_filters = knows_filters and ctypes.get_errno() == 14  # EFAULT
    except (OSError, AttributeError):
        return NO_WALL
    return Wall(max(0, version), knows_filters and platform.machine() in _MACHINES)


def behind(
    start: Callable[[], Started], wall: Wall, program: Path, readable: Sequence[Path] = ()
) -> Started:
    """Calls `start`, which starts a process, where the wall stands. Its result, or what it raises.

    Args:
        start: Starts the process.
        wall: What to put up; what is not in it is left out.
        program: The file that may be executed.
        readable: Files and folders that may be read.

    Raises:
        OSError: The wall cannot be put up, or the process not be started.
    """
    if not wall:
        return start()
    outcome: list[Started] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            _put_up(wall, program, readable)
            outcome.append(start())
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=work, name="sandbox-start")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _put_up(wall: Wall, program: Path, readable: Sequence[Path]) -> None:
    _check(_libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    if wall.landlock:
        _restrict_files(wall.landlock, program, readable)
    if wall.seccomp:
        _filter_calls(_MACHINES[platform.machine()])


# ---- Files -----------------------------------------------------------------------------------------


def _restrict_files(version: int, program: Path, readable: Sequence[Path]) -> None:
    rights = next(_FILE_RIGHTS[since] for since in sorted(_FILE_RIGHTS)[::-1] if version >= since)
    fields = [
        rights,
        *([_NET_RIGHTS] if version >= 4 else []),
        *([_SCOPES] if version >= 6 else []),
    ]
    ruleset = struct.pack(f"={len(fields)}Q", *fields)
    rules = _check(_libc().syscall(_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0))
    try:
        for path in (program, *_loader_of(program)):
            _allow(rules, path, _EXECUTE | _READ_FILE)
        for path in (*map(Path, _LIBRARIES), *readable):
            _allow(rules, path, _READ_FILE | _READ_DIR)
        _check(_libc().syscall(_RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    """Allows what is at the path, and below it. One that is not there needs no rule."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= ~_READ_DIR
        rule = struct.pack("=Qi", rights, place)
        _check(_libc().syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0))
    finally:
        os.close(place)


@functools.cache
def _loader_of(program: Path) -> Sequence[Path]:
    """The dynamic loader that an ELF file of 64 bits asks for, which the kernel executes with it."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return ()
        table, size, count = (
            *struct.unpack_from("<Q", head, 32),
            *struct.unpack_from("<HH", head, 54),
        )
        file.seek(table)
        for entry in struct.iter_unpack("<IIQQQQQQ", file.read(size * count)):
            if entry[0] == 3:  # PT_INTERP
                file.seek(entry[2])
                return (Path(os.fsdecode(file.read(entry[5]).rstrip(b"\0"))),)
    return ()


# ---- System calls ----------------------------------------------------------------------------------


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _filter_calls(calls: _Calls) -> None:
    code = b"".join(_instructions(calls))
    program = _Program(len(code) // 8, code)
    _check(_libc().prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0))


def _instructions(calls: _Calls) -> Iterator[bytes]:
    """The filter, an instruction of 8 bytes each: operation, jumps if true and if false, operand."""

    def instruction(operation: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBI", operation, if_true, if_false, operand)

    refuse = instruction(_RETURN, _FAIL | _EPERM)
    yield instruction(_LOAD_WORD, _ARCHITECTURE)
    yield instruction(_JUMP_EQUAL, calls.architecture, if_true=1)
    yield refuse
    yield instruction(_LOAD_WORD, _NUMBER)
    yield instruction(_JUMP_AT_LEAST, calls.beyond, if_false=1)
    yield refuse
    for number in calls.refused:
        yield instruction(_JUMP_EQUAL, number, if_false=1)
        yield refuse
    # Its flags are in memory, where a filter cannot look; without it the C library uses clone().
    yield instruction(_JUMP_EQUAL, calls.clone3, if_false=1)
    yield instruction(_RETURN, _FAIL | _ENOSYS)
    yield instruction(_JUMP_EQUAL, calls.clone, if_false=3)
    yield instruction(_LOAD_WORD, _FIRST_ARGUMENT)
    yield instruction(_JUMP_BITS, _NAMESPACES, if_false=1)
    yield refuse
    yield instruction(_RETURN, _ALLOW)


# ---- The C library ---------------------------------------------------------------------------------


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
