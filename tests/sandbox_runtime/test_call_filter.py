"""The filter of system calls, run by an interpreter of its instructions: for both machines, on either."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from sandbox_runtime.isolation import seccomp_filter as call_filter
from sandbox_runtime.isolation.seccomp_filter import ALLOW, ASK, ENOSYS, EPERM, KILL, filter_for
from sandbox_runtime.isolation.system_calls import (
    ARCHITECTURES,
    CALLS,
    MISSING,
    NEWEST,
    X32,
    Known,
    number_of,
    numbered,
)

MACHINES = list(ARCHITECTURES)
PID, SECRET = 4242, 0x1122334455667788
VALUES = {
    Known.OWN_PID: PID,
    Known.PASS_LOW: SECRET & 0xFFFFFFFF,
    Known.PASS_HIGH: SECRET >> 32,
}

# The kernel's own tables, where its headers are installed.
HEADERS = {
    "x86_64": [
        Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        Path("/usr/include/asm/unistd_64.h"),
    ],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}
# In the generic table some calls of 64 bits have a name with a number in front of it.
GENERIC_NAMES = {"newfstatat": "3264_fstatat", "fstat": "3264_fstat", "fcntl": "3264_fcntl"}
GENERIC_NAMES |= {"lseek": "3264_lseek", "mmap": "3264_mmap"}


def answer(machine, number, *arguments, gated=True, architecture=None):
    """Returns the filter's verdict on a call."""
    code = filter_for(machine, gated=gated).filled(VALUES)
    padded = [value & (2**64 - 1) for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack(
        "<IIQ6Q", number & 0xFFFFFFFF, architecture or ARCHITECTURES[machine], 0x7000, *padded
    )
    program = list(struct.iter_unpack("<HBBI", code))
    register, at = 0, 0
    while True:
        operation, if_true, if_false, operand = program[at]
        at += 1
        match operation:
            case call_filter.LOAD:
                (register,) = struct.unpack_from("<I", data, operand)
            case call_filter.AND:
                register &= operand
            case call_filter.JUMP:
                at += operand
            case call_filter.JUMP_EQUAL:
                at += if_true if register == operand else if_false
            case call_filter.JUMP_AT_LEAST:
                at += if_true if register >= operand else if_false
            case call_filter.JUMP_ABOVE:
                at += if_true if register > operand else if_false
            case call_filter.RETURN:
                return operand
            case _:
                raise AssertionError(f"unknown operation {operation:#x}")


def table(machine):
    """Returns names and numbers from the kernel's header; empty if it is not installed."""
    for path in HEADERS[machine]:
        if path.exists():
            found = re.findall(r"#define __NR(?:_|)(\w+)\s+(\d+)", path.read_text())
            return {name.removeprefix("_"): int(number) for name, number in found}
    return {}


@pytest.mark.parametrize("machine", MACHINES)
class TestTheList:
    """Names, reasons and numbers of the allow-list."""

    def test_each_call_has_a_reason(self, machine):
        """Every allowed call has a reason, and none is listed twice."""
        assert all(call.reason for call in CALLS)
        assert all(call.instead for call in MISSING)
        names = [call.name for call in (*CALLS, *MISSING)]
        assert len(names) == len(set(names))
        listed = [n for call in (*CALLS, *MISSING) if (n := getattr(call, machine)) is not None]
        assert len(listed) == len(set(listed)) == len(numbered(machine))

    def test_the_numbers_are_the_kernels(self, machine):
        """The numbers match the kernel's headers, as far as these are installed and have the call."""
        numbers = table(machine)
        if not numbers:
            pytest.skip("the kernel's headers are not installed")
        checked = 0
        for number, call in numbered(machine).items():
            name = GENERIC_NAMES.get(call.name, call.name) if machine == "aarch64" else call.name
            if name in numbers:
                assert numbers[name] == number, call.name
                checked += 1
        assert checked > len(numbered(machine)) - 4

    def test_every_other_call_of_the_kernel_is_refused(self, machine):
        """Every unlisted call is refused, with each of several arguments."""
        listed = numbered(machine)
        for number in range(NEWEST + 1):
            if number not in listed:
                for arguments in ((0,) * 6, (PID,) * 6, (2**64 - 1,) * 6):
                    assert answer(machine, number, *arguments) == EPERM, number

    def test_what_came_later_is_not_there(self, machine):
        """A newer call fails with ENOSYS, so that a later C library takes its fallback for older kernels."""
        assert {answer(machine, number) for number in range(NEWEST + 1, NEWEST + 200)} == {ENOSYS}
        assert {
            answer(machine, call.x86_64 if machine == "x86_64" else call.aarch64)
            for call in MISSING
        } == {ENOSYS}

    def test_each_listed_call_can_be_allowed(self, machine):
        """The search finds every number, with the answer of its own rule."""
        plain = {n: c for n, c in numbered(machine).items() if c in CALLS and not c.rule}
        for number, call in plain.items():
            assert answer(machine, number) == (ASK if call.until_sealed else ALLOW), call.name
            assert answer(machine, number, gated=False) == ALLOW, call.name

    def test_other_kinds_of_calls(self, machine):
        """A 32-bit call ends the process; calls of x32, or with a negative number, are refused."""
        for other in (0x40000003, 0x40000028, *ARCHITECTURES.values()):
            if other != ARCHITECTURES[machine]:
                assert answer(machine, 1, architecture=other) == KILL
        for number in (X32, X32 + 1, X32 + 319, 2**32 - 1, 2**31):
            assert answer(machine, number) == (EPERM if machine == "x86_64" else ENOSYS)


THREAD = 0x3D0F00  # what pthread_create asks for
FORK = 17  # SIGCHLD

# Name, arguments that are allowed, arguments that are not.
RULES = {
    "clone": (
        [(THREAD,), (THREAD | 0x1000000,)],
        [
            (FORK,),
            (0,),
            (0x4111,),  # vfork
            (0x100 | FORK,),
            (THREAD & ~0x10000,),
            *[
                (THREAD | bit,)
                for bit in (0x20000, 0x20000000, 0x10000000, 0x40000000, 0x2000000, 0x80)
            ],
            *[
                (THREAD | bit,) for bit in (0x2000, 0x8000, 0x4000, 0x1000)
            ],  # PTRACE, PARENT, VFORK, PIDFD
        ],
    ),
    "mmap": (
        [(0, 4096, 3, flags, -1, 0) for flags in (0x22, 0x4022, 0x20022, 0x32, 0x802)],
        # Shared, of a growing stack, locked, of huge pages, of droppable pages.
        [(0, 4096, 3, flags, -1, 0) for flags in (0x21, 0x23, 0x122, 0x2022, 0x40022, 0x28, 0x20)],
    ),
    "pipe2": (
        [(0x5000, 0), (0x5000, 0x80000), (0x5000, 0x80800)],
        [(0x5000, 0x80), (0x5000, 0x4000), (0x5000, 0x10000)],
    ),
    "kill": ([(PID, 6)], [(0, 9), (1, 9), (-1, 9), (-PID, 9), (PID + 1, 9)]),
    "tgkill": ([(PID, PID, 6), (PID, PID + 3, 6)], [(PID + 1, PID + 1, 9), (0, 1, 9), (-1, 1, 9)]),
    "prlimit64": (
        [(0, 7, 0, 0x5000), (PID, 7, 0, 0x5000)],
        [
            (1, 0, 0, 0x5000),
            (PID + 1, 7, 0, 0x5000),
            (0, 7, 0x5000, 0),
            (0, 7, 0x500000000, 0),
            (PID, 0, 0x5000, 0),
        ],
    ),
    "openat": (
        [
            (-100, 0x5000, 0),
            (-100, 0x5000, 0x80000),
            (-100, 0x5000, 0x90000),
            (-100, 0x5000, 0x84000),
        ],
        [
            (-100, 0x5000, flags)
            for flags in (1, 2, 3, 0x40, 0x41, 0x200, 0x202, 0x200000, 0x410002, 0x404002, 0x2000)
        ],
    ),
    "fcntl": (
        [(3, 1), (3, 2, 1), (3, 3), (3, 4, 0x800), (3, 1030, 3), (3, 0, 3), (3, 1032)],
        [
            (3, 8, 77),
            (3, 10, 9),
            (3, 15, 0x5000),
            (3, 4, 0x2000),
            (3, 1024, 1),
            (3, 1026, 1),
            (3, 1033, 1),
            (3, 6, 0x5000),
            (3, 1031, 2**20),
        ],
    ),
    "ioctl": (
        [(0, 0x5401), (0, 0x5421)],
        [(0, 0x5412), (0, 0x5402), (0, 0x5452), (0, 0x541C), (0, 0x40086602)],
    ),
    "prctl": (
        [(15, 0x5000), (16, 0x5000), (0x53564D41, 0)],
        [
            (option, 0)
            for option in (1, 3, 4, 8, 22, 23, 24, 28, 36, 38, 39, 47, 53, 59, 62, 65, 0x59616D61)
        ],
    ),
    "madvise": ([(0, 0, 4), (0, 0, 16)], [(0, 0, 100), (0, 0, 101), (0, 0, 12), (0, 0, 9)]),
    **dict.fromkeys(
        ("clock_gettime", "clock_getres", "clock_nanosleep"),
        (
            [(clock,) for clock in range(12)],
            [((~process << 3) | kind,) for process in (0, 1, PID) for kind in (2, 3, 6)],
        ),
    ),
    "membarrier": ([(0,), (8,), (16,), (32,), (64,)], [(1,), (2,), (4,), (128,)]),
    "socketpair": (
        [(1, 1, 0), (1, 1 | 0x80000 | 0x800, 0)],
        [(1, 2, 0), (1, 5, 0), (2, 1, 0), (16, 1, 0), (40, 1, 0), (1, 3, 0)],
    ),
    "sendto": (
        [(7, 0x5000, 1, 0x40, 0, 0)],
        [
            (7, 0x5000, 2, 0x40, 0, 0),
            (7, 0x5000, 1, 0, 0, 0),
            (7, 0x5000, 1, 0x41, 0, 0),
            (7, 0x5000, 1, 0x40, 0x6000, 0),
            (7, 0x5000, 1, 0x40, 1 << 40, 0),
            (7, 0x5000, 1, 0x40, 0, 16),
        ],
    ),
    "sendmsg": (
        [(7, 0x5000, 0, 0, 0, SECRET)],
        [(7, 0x5000, 0, 0, 0, secret) for secret in (0, SECRET + 1, SECRET ^ (1 << 40))],
    ),
    "execve": (
        [(0x5000, 1, 2, 0, 0, SECRET)],
        [(0x5000, 1, 2, 0, 0, secret) for secret in (0, SECRET & 0xFFFFFFFF, SECRET + 2**32)],
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", RULES)
def test_rules_about_arguments(machine, name):
    """Only the allowed arguments pass; other upper halves of small arguments do not."""
    number = number_of(machine, name)
    good, bad = RULES[name]
    verdict = ASK if name == "openat" else ALLOW

    assert [answer(machine, number, *arguments) for arguments in good] == [verdict] * len(good)
    assert [answer(machine, number, *arguments) for arguments in bad] == [EPERM] * len(bad)


def test_every_rule_is_tried():
    """Every rule about arguments has a row in the table above."""
    assert {call.name for call in CALLS if call.rule} == {
        *RULES,
        *OF_A_PROCESS,
        "futex",
        "arch_prctl",
    }


OF_A_PROCESS = ("sched_getaffinity", "sched_getscheduler", "sched_getparam")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", OF_A_PROCESS)
def test_how_others_are_scheduled(machine, name):
    """The scheduling of another process cannot be queried; the C library works without that of a thread."""
    number = number_of(machine, name)

    assert [answer(machine, number, pid) for pid in (0, PID)] == [ALLOW, ALLOW]
    assert [answer(machine, number, pid) for pid in (1, PID + 1)] == [ENOSYS, ENOSYS]


@pytest.mark.parametrize("machine", MACHINES)
def test_locks_that_lend_priority(machine):
    """A lock that finds its owner by a thread's id is not there, with any flags."""
    number = number_of(machine, "futex")
    flags = (0, 0x80, 0x100, 0x180)

    for operation in range(16):
        verdict = ALLOW if operation in (0, 1, 3, 4, 5, 9, 10) else ENOSYS
        assert {answer(machine, number, 0x5000, operation | bits) for bits in flags} == {verdict}


def test_registers_of_x86_64():
    """Only the register for thread-local storage can be set."""
    number = number_of("x86_64", "arch_prctl")

    assert {answer("x86_64", number, code) for code in (0x1002, 0x1003)} == {ALLOW}
    assert {answer("x86_64", number, code) for code in (0x1001, 0x1012, 0x1023, 0x5001)} == {EPERM}


@pytest.mark.parametrize("machine", MACHINES)
def test_it_is_no_longer_than_the_kernel_takes(machine):
    """BPF_MAXINSNS is 4096, and no jump leads out of the program."""
    code = filter_for(machine, gated=True).code

    assert len(code) // 8 <= 4096
    for at, (operation, if_true, if_false, operand) in enumerate(struct.iter_unpack("<HBBI", code)):
        reach = operand if operation == call_filter.JUMP else max(if_true, if_false)
        assert at + 1 + reach < len(code) // 8 or operation == call_filter.RETURN
