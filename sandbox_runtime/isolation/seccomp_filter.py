"""Compiles the syscall allow-list to a seccomp filter program. Installs nothing.

Classic BPF, 8 bytes per instruction: operation, jumps if true and if false, operand. Numbers are found by binary
search. Where a number alone decides, newer kernels cache the verdict and skip the program.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Mapping, Sequence

from sandbox_runtime.isolation.system_calls import (
    ARCHITECTURES,
    NEWEST,
    X32,
    Call,
    Known,
    Missing,
    Refusal,
    Rule,
    Test,
    numbered,
)

# linux/bpf_common.h
LOAD, AND, RETURN = 0x20, 0x54, 0x06
JUMP, JUMP_EQUAL, JUMP_ABOVE, JUMP_AT_LEAST = 0x05, 0x15, 0x25, 0x35

# linux/seccomp.h; an error has its number in the low bits.
ALLOW = 0x7FFF0000
ASK = 0x7FC00000
KILL = 0x80000000
EPERM = 0x00050000 | 1
ENOSYS = 0x00050000 | 38
_ERRORS = {Refusal.FORBIDDEN: EPERM, Refusal.MISSING: ENOSYS}

# Offsets in `struct seccomp_data`; arguments have 64 bits, the lower half first.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16

INSTRUCTION = struct.Struct("<HBBI")
_OPERAND_AT = 4


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction. Its operand may be filled in later."""

    operation: int
    operand: int | Known
    if_true: int = 0
    if_false: int = 0


@dataclasses.dataclass(frozen=True)
class Filter:
    """A program, and the places of the values that are filled in at launch."""

    code: bytes
    places: Mapping[Known, Sequence[int]]

    def filled(self, values: Mapping[Known, int]) -> bytes:
        """Returns the program with these values; the launcher fills in the others."""
        code = bytearray(self.code)
        for placeholder, value in values.items():
            for place in self.places[placeholder]:
                struct.pack_into("<I", code, place, value)
        return bytes(code)


@functools.cache
def filter_for(machine: str, *, gated: bool) -> Filter:
    """Compiles the program for a machine of `ARCHITECTURES`.

    Args:
        machine: Its name.
        gated: Whether calls that only the start needs go through the gate, or are just allowed.
    """
    instructions = _program(machine, gated)
    places: dict[Known, list[int]] = {placeholder: [] for placeholder in Known}
    code = bytearray()
    for instruction in instructions:
        operand = instruction.operand
        if isinstance(operand, Known):
            places[operand].append(len(code) + _OPERAND_AT)
            operand = 0
        code += INSTRUCTION.pack(
            instruction.operation, instruction.if_true, instruction.if_false, operand
        )
    return Filter(bytes(code), places)


def _program(machine: str, gated: bool) -> list[Instruction]:
    # Programs of another architecture, which the kernel runs as well, use other numbers.
    code = [
        Instruction(LOAD, ARCHITECTURE),
        Instruction(JUMP_EQUAL, ARCHITECTURES[machine], if_true=1),
        Instruction(RETURN, KILL),
        Instruction(LOAD, NUMBER),
    ]
    if machine == "x86_64":
        code += [Instruction(JUMP_AT_LEAST, X32, if_false=1), Instruction(RETURN, EPERM)]
    return code + _search(sorted(numbered(machine).items()), gated)


def _search(calls: Sequence[tuple[int, Call | Missing]], gated: bool) -> list[Instruction]:
    """Emits a binary search for the number among the calls."""
    if len(calls) == 1:
        number, call = calls[0]
        verdict = _answer(call, gated)
        return [
            Instruction(JUMP_EQUAL, number, if_false=len(verdict)),
            *verdict,
            Instruction(JUMP_ABOVE, NEWEST, if_false=1),
            Instruction(RETURN, ENOSYS),
            Instruction(RETURN, EPERM),
        ]
    middle = len(calls) // 2
    below, rest = _search(calls[:middle], gated), _search(calls[middle:], gated)
    return [
        # A conditional jump reaches 255 instructions only.
        Instruction(JUMP_AT_LEAST, calls[middle][0], if_false=1),
        Instruction(JUMP, len(below)),
        *below,
        *rest,
    ]


def _answer(call: Call | Missing, gated: bool) -> list[Instruction]:
    if isinstance(call, Missing):
        return [Instruction(RETURN, ENOSYS)]
    allowed = Instruction(RETURN, ASK if gated and call.until_sealed else ALLOW)
    if not call.rule:
        return [allowed]
    return [*_check(call.rule, allowed), Instruction(RETURN, _ERRORS[call.otherwise])]


def _check(rule: Rule, allowed: Instruction) -> list[Instruction]:
    code: list[Instruction] = []
    for tests in rule:
        piece = [allowed]
        for test in reversed(tests):
            piece = _test(test, len(piece)) + piece
        code += piece
    return code


def _test(test: Test, rest: int) -> list[Instruction]:
    """Emits a test that continues after itself if it holds, else after the `rest` that follows."""
    place = ARGUMENTS + 8 * test.argument + (4 if test.upper_half else 0)
    code = [Instruction(LOAD, place)]
    if test.mask != 0xFFFFFFFF:
        code.append(Instruction(AND, test.mask))
    for remaining in reversed(range(len(test.values))):
        value = test.values[-1 - remaining]
        code.append(
            Instruction(JUMP_EQUAL, value, if_true=remaining, if_false=0 if remaining else rest)
        )
    return code
