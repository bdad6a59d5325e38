"""Generates a tiny launcher program that confines its own process and then executes the target program.

Some rules can be set only by the process itself, between its start and that of the target: a filter that
refuses new processes would refuse the start, and the process id is not known earlier. Python offers no safe
hook there (`preexec_fn` forks the host's memory and runs Python in it), so the launcher is a program of its own:
a list of system calls with fixed arguments, as machine code in an ELF file. It is generated for each launch, with
a random number that the filter requires of `execve`, and is replaced when the target runs.

Generates bytes only; `os_isolation.py` runs them.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

# The launcher exits with this plus N if its step N (from 0) failed.
FAILED = 200

# Addresses of its two segments: instructions and data.
_CODE_BASE, _DATA_BASE = 0x10000000, 0x20000000
_ALIGNMENT = 0x10000  # the largest page size of these machines

_HEADER, _PROGRAM_HEADER = 64, 56
_MACHINE_CODES = {"x86_64": 62, "aarch64": 183}


@dataclasses.dataclass(frozen=True)
class Step:
    """A system call with fixed arguments. If it fails, the launcher ends."""

    number: int
    arguments: Sequence[int] = ()
    result: Sequence[int] = ()
    """Addresses in the data that receive the lower half of its result."""


@dataclasses.dataclass(frozen=True)
class Become:
    """Executes the program at the path, with the launcher's arguments and environment. The last step.

    `secret` is passed in an argument that the kernel ignores and the filter checks.
    """

    number: int
    path: int
    secret: int
    exit_number: int


AnyStep = Step | Become


class Data:
    """Bytes in the launcher's memory; their addresses are known before it runs."""

    def __init__(self) -> None:
        """Starts empty."""
        self.content = bytearray()

    def add(self, content: bytes) -> int:
        """Appends bytes and returns their address."""
        self.content += b"\0" * (-len(self.content) % 8)
        address = _DATA_BASE + len(self.content)
        self.content += content
        return address


def elf(machine: str, steps: Sequence[AnyStep], data: Data) -> bytes:
    """Returns the launcher as an ELF file for a machine of `_MACHINE_CODES`."""
    assemble = {"x86_64": _x86_64, "aarch64": _aarch64}[machine]
    exit_number = next(step.exit_number for step in steps if isinstance(step, Become))
    code = b"".join(assemble(step, FAILED + at, exit_number) for at, step in enumerate(steps))
    headers = _HEADER + 3 * _PROGRAM_HEADER
    code_at = headers + -headers % 16
    data_at = code_at + len(code) + -(code_at + len(code)) % 16 + _ALIGNMENT
    data_at -= data_at % _ALIGNMENT
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        2,  # a program at fixed addresses
        _MACHINE_CODES[machine],
        1,
        _CODE_BASE + code_at,
        _HEADER,
        0,
        0,
        _HEADER,
        _PROGRAM_HEADER,
        3,
        0,
        0,
        0,
    )
    loaded, stack = 1, 0x6474E551  # PT_LOAD, PT_GNU_STACK
    execute, write, read = 1, 2, 4
    segments = (
        (loaded, read | execute, 0, _CODE_BASE, code_at + len(code)),
        (loaded, read | write, data_at, _DATA_BASE, len(data.content)),
        (stack, read | write, 0, 0, 0),
    )
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, offset, base, base, size, size, _ALIGNMENT)
        for kind, flags, offset, base, size in segments
    )
    start = (header + table).ljust(code_at, b"\0") + code
    return start.ljust(data_at, b"\0") + bytes(data.content)


# ---- x86-64 ----------------------------------------------------------------------------------------

# movabs into rdi, rsi, rdx, r10, r8, r9
_X86_ARGUMENTS = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
_X86_SYSCALL = b"\x0f\x05"


def _x86_64(step: AnyStep, failed: int, exit_number: int) -> bytes:
    def load(at: int, value: int) -> bytes:
        return _X86_ARGUMENTS[at] + struct.pack("<Q", value & (2**64 - 1))

    def call(number: int) -> bytes:
        return b"\xb8" + struct.pack("<I", number) + _X86_SYSCALL  # mov eax, number; syscall

    leave = load(0, failed) + call(exit_number)
    match step:
        case Step(number=number, arguments=arguments, result=places):
            code = b"".join(load(at, value) for at, value in enumerate(arguments)) + call(number)
            # test rax, rax; jns over the exit
            code += b"\x48\x85\xc0\x79" + bytes([len(leave)]) + leave
            # mov [place], eax
            stores = (b"\x89\x04\x25" + struct.pack("<I", place) for place in places)
            return code + b"".join(stores)
        case Become(number=number, path=path, secret=secret):
            # lea rsi, [rsp+8]; mov rax, [rsp]; lea rdx, [rsp+rax*8+16]
            stack = b"\x48\x8d\x74\x24\x08" + b"\x48\x8b\x04\x24" + b"\x48\x8d\x54\xc4\x10"
            return load(0, path) + stack + load(5, secret) + call(number) + leave


# ---- aarch64 ---------------------------------------------------------------------------------------

_ARM_SVC = 0xD4000001


def _aarch64(step: AnyStep, failed: int, exit_number: int) -> bytes:
    def words(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}I", *values)

    def load(register: int, value: int) -> bytes:
        """Movz, and movk for the upper three pieces of 16 bits."""
        value &= 2**64 - 1
        pieces = [(value >> (16 * at)) & 0xFFFF for at in range(4)]
        return words(
            0xD2800000 | pieces[0] << 5 | register,
            *(0xF2800000 | at << 21 | pieces[at] << 5 | register for at in (1, 2, 3)),
        )

    def call(number: int) -> bytes:
        return load(8, number) + words(_ARM_SVC)

    leave = load(0, failed) + call(exit_number)
    match step:
        case Step(number=number, arguments=arguments, result=places):
            code = b"".join(load(at, value) for at, value in enumerate(arguments)) + call(number)
            # tbz x0, #63, over the exit
            code += words(0xB6F80000 | (len(leave) // 4 + 1) << 5) + leave
            # str w0, [x9]
            stores = (load(9, place) + words(0xB9000120) for place in places)
            return code + b"".join(stores)
        case Become(number=number, path=path, secret=secret):
            # add x1, sp, #8; ldr x3, [sp]; add x2, x1, x3, lsl #3; add x2, x2, #8
            stack = words(0x910023E1, 0xF94003E3, 0x8B030C22, 0x91002042)
            return load(0, path) + stack + load(5, secret) + call(number) + leave
