"""Confinement of a process by the operating system: Landlock and seccomp, where Linux has them.

Needs no privileges. A confined process reads only the listed files, writes none, starts no process, signals and
changes no other one, opens no socket, and makes only the system calls of the allow-list in `system_calls.py`. The
process confines itself in its first instructions, which `launcher.py` generates: https://docs.kernel.org/userspace-api/landlock.html and
https://docs.kernel.org/userspace-api/seccomp_filter.html.

Knows nothing of Deno: only paths and a command line.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import functools
import os
import platform
import re
import secrets
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from sandbox_runtime.isolation import launcher
from sandbox_runtime.isolation.launcher import Become, Data, Step
from sandbox_runtime.isolation.open_gate import Gate
from sandbox_runtime.isolation.seccomp_filter import filter_for
from sandbox_runtime.isolation.system_calls import ARCHITECTURES, Known, number_of

# ---- Landlock (include/uapi/linux/landlock.h) -------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WHICH_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3

# All file rights of a version of Landlock; those without a rule are refused.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
# Binding and connecting TCP sockets, since version 4.
_NET_RIGHTS = 0b11
# Abstract unix sockets and signals to processes outside, since version 6.
_SCOPES = 0b11

# The paths in which the loader finds libraries; missing ones are skipped.
_LIBRARIES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/etc/ld.so.cache",
)

# ---- Processes (linux/prctl.h, linux/memfd.h) ------------------------------------------------------

_SET_SECCOMP, _FILTER_MODE = 22, 2
_NO_NEW_PRIVILEGES = 38

# linux/seccomp.h, and the numbers of seccomp(), which the allow-list does not contain.
_SET_FILTER, _NEW_LISTENER = 1, 8
_SECCOMP = {"x86_64": 317, "aarch64": 277}
# SECCOMP_USER_NOTIF_FLAG_CONTINUE came with Linux 5.5, EPOLLHUP at the process's end with 5.9.
_GATE_SINCE = (5, 9)

# MFD_CLOEXEC, and MFD_EXEC, which kernels before 6.3 do not know.
_MEMFD_CREATE = {"x86_64": 319, "aarch64": 279}
_CLOSE_ON_EXEC, _MAY_EXECUTE = 1, 0x10


@dataclasses.dataclass(frozen=True)
class Wall:
    """The available parts of the confinement."""

    landlock: int = 0
    """The Landlock ABI version; 0 without Landlock."""

    seccomp: bool = False

    gate: bool = False
    """True if seccomp can also revoke what only the start needs."""

    def __bool__(self) -> bool:
        return self.landlock > 0 or self.seccomp

    def __str__(self) -> str:
        parts = [f"Landlock {self.landlock}"] if self.landlock else []
        parts += ["seccomp with a gate" if self.gate else "seccomp"] if self.seccomp else []
        return " and ".join(parts) or "none"

    @property
    def complete(self) -> bool:
        """True if every part is available."""
        return self.landlock > 0 and self.seccomp and self.gate


NO_WALL = Wall()


def detect() -> Wall:
    """Detects the parts that this machine offers; queries the kernel once."""
    return _survey()[0]


def shortcomings() -> Sequence[str]:
    """Returns the missing parts, each with the reason and the remedy; empty if there are none."""
    return _survey()[1]


@functools.cache
def _survey() -> tuple[Wall, Sequence[str]]:
    if sys.platform != "linux":
        return NO_WALL, (
            f"Landlock and seccomp are parts of Linux, and this is {sys.platform}: "
            "run the host in a Linux container or virtual machine",
        )
    version = _libc().syscall(_CREATE_RULESET, None, 0, _WHICH_VERSION)
    missing = [] if version > 0 else [_landlock_shortcoming(ctypes.get_errno())]
    # Without a filter program the error shows whether filters are supported: EFAULT, or EINVAL.
    filters = _libc().prctl(_SET_SECCOMP, _FILTER_MODE, None, 0, 0) == -1
    filters = filters and ctypes.get_errno() == errno.EFAULT
    if not filters:
        missing.append(
            "seccomp filters are not supported: use a kernel built with CONFIG_SECCOMP_FILTER "
            f"(this is Linux {platform.release()})"
        )
    elif not _can_ask():
        missing.append(
            "seccomp cannot revoke what only a start needs: use Linux "
            f"{'.'.join(map(str, _GATE_SINCE))} or newer (this is {platform.release()})"
        )
    if platform.machine() not in ARCHITECTURES:
        # Landlock, too, is set up by the launcher's machine code.
        return NO_WALL, (
            f"there is no list of system calls for {platform.machine()} processors, so nothing can be put "
            f"round a process: use one of {', '.join(ARCHITECTURES)}",
        )
    return Wall(max(0, version), filters, filters and _can_ask()), tuple(missing)


def _landlock_shortcoming(number: int) -> str:
    if number == errno.EOPNOTSUPP:
        return "Landlock is built into this kernel but switched off: add landlock to lsm= at boot"
    return (
        "Landlock is not supported: use Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK (this is "
        f"{platform.release()}), and in a container a profile that allows landlock_create_ruleset"
    )


def _can_ask() -> bool:
    """Returns whether a filter can notify another process, also of the end of the filtered one."""
    version = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    return version >= _GATE_SINCE


class Options(TypedDict, total=False):
    """The arguments for `subprocess`."""

    executable: str
    pass_fds: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Launch:
    """A confined start."""

    options: Options
    """The arguments for `subprocess`, for one call."""

    gate: Gate | None = None
    """The gate for calls that only the start needs; None if they cannot be revoked."""

    def seal(self) -> None:
        """Revokes what only the start needs: from now on no file is opened or found."""
        if self.gate is not None:
            self.gate.seal()


@contextlib.contextmanager
def run_confined(wall: Wall, program: Path, readable: Sequence[Path] = ()) -> Iterator[Launch]:
    """Prepares the confined start of a program, which happens once, within the block.

    If the confinement fails, the process exits with a code from `launcher.FAILED` on, before the program runs.

    Args:
        wall: The parts to set up.
        program: Absolute path of the only file that may be executed.
        readable: Files and folders that may be read.

    Raises:
        OSError: The program is missing or not executable, or the confinement cannot be prepared.
    """
    if not wall:
        yield Launch({})
        return
    program.stat()
    if not os.access(program, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(program))
    with contextlib.ExitStack() as opened:
        rules = None
        if wall.landlock:
            rules = _ruleset(wall.landlock, program, readable)
            opened.callback(os.close, rules)
        file = _memory_file()
        opened.callback(os.close, file)
        gate = Gate() if wall.gate else None
        if gate is not None:
            opened.callback(gate.theirs.close)
        passed = _Passed(file, rules, None if gate is None else gate.theirs.fileno())
        os.write(file, _launcher(wall, program, passed))
        yield Launch({"executable": f"/proc/self/fd/{file}", "pass_fds": passed.all}, gate)


@dataclasses.dataclass(frozen=True)
class _Passed:
    """The file descriptors of the launcher."""

    file: int
    rules: int | None
    gate: int | None

    @property
    def all(self) -> Sequence[int]:
        return [number for number in (self.file, self.rules, self.gate) if number is not None]


def _memory_file() -> int:
    """Creates an executable file in memory. Not every Python has `os.memfd_create`."""
    number = _MEMFD_CREATE[platform.machine()]
    file = _libc().syscall(number, b"sandbox-launcher", _CLOSE_ON_EXEC | _MAY_EXECUTE)
    if file < 0 and ctypes.get_errno() == errno.EINVAL:
        file = _libc().syscall(number, b"sandbox-launcher", _CLOSE_ON_EXEC)
    return _check(file)


def _launcher(wall: Wall, program: Path, passed: _Passed) -> bytes:
    """Returns the launcher that confines itself and executes the program."""
    machine = platform.machine()
    number = functools.partial(number_of, machine)
    data, secret = Data(), secrets.randbits(64)
    steps = [Step(number("prctl"), (_NO_NEW_PRIVILEGES, 1, 0, 0, 0))]
    if passed.rules is not None:
        steps.append(Step(_RESTRICT_SELF, (passed.rules, 0)))
        steps.append(Step(number("close"), (passed.rules,)))
    steps.append(Step(number("close"), (passed.file,)))
    if wall.seccomp:
        steps += _filtering(machine, data, secret, passed.gate)
    path = data.add(os.fsencode(program) + b"\0")
    become = Become(number("execve"), path, secret, number("exit_group"))
    return launcher.elf(machine, [*steps, become], data)


def _filtering(machine: str, data: Data, secret: int, gate: int | None) -> Iterator[Step]:
    """Returns the steps that install the syscall filter and send the gate's listener to the host."""
    number = functools.partial(number_of, machine)
    calls = filter_for(machine, gated=gate is not None)
    halves = {Known.PASS_LOW: secret & 0xFFFFFFFF, Known.PASS_HIGH: secret >> 32}
    code = data.add(calls.filled(halves))
    # struct sock_fprog
    head = data.add(struct.pack("<HxxxxxxQ", len(calls.code) // 8, code))
    own_id = [code + place for place in calls.places[Known.OWN_PID]]
    yield Step(number("getpid"), result=own_id)
    if gate is None:
        yield Step(number("prctl"), (_SET_SECCOMP, _FILTER_MODE, head, 0, 0))
        return
    # struct cmsghdr with one descriptor, struct iovec of one byte, struct msghdr
    attached = data.add(struct.pack("<QiiI4x", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, 0))
    byte = data.add(b"\0")
    vector = data.add(struct.pack("<QQ", byte, 1))
    message = data.add(struct.pack("<QQQQQQQ", 0, 0, vector, 1, attached, 24, 0))
    # The listener is closed by the start of the program.
    yield Step(_SECCOMP[machine], (_SET_FILTER, _NEW_LISTENER, head), result=[attached + 16])
    yield Step(number("sendmsg"), (gate, message, 0, 0, 0, secret))
    yield Step(number("close"), (gate,))


# ---- Files -----------------------------------------------------------------------------------------


def _ruleset(version: int, program: Path, readable: Sequence[Path]) -> int:
    """Creates the Landlock ruleset for the program and returns its descriptor."""
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
    except BaseException:
        os.close(rules)
        raise
    return rules


def _allow(rules: int, path: Path, rights: int) -> None:
    """Allows the path and everything below it. A missing path needs no rule."""
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


def _loader_of(program: Path) -> Sequence[Path]:
    """Returns the dynamic loader of a 64-bit ELF file, which the kernel executes with it."""
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


# ---- The C library ---------------------------------------------------------------------------------


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
