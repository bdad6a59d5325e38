"""The launcher: a few instructions that confine their own process and then execute another program."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess

import pytest

from sandbox_runtime.isolation.launcher import FAILED, Become, Data, Step, elf
from sandbox_runtime.isolation.system_calls import number_of

MACHINES = ["x86_64", "aarch64"]
SECRET = 0x1122334455667788
GETPID = {machine: number_of(machine, "getpid") for machine in MACHINES}
PRCTL = {machine: number_of(machine, "prctl") for machine in MACHINES}


def emulated(machine):
    """Returns the emulator's command for another machine's programs, if it is installed."""
    if os.uname().machine == machine:
        return []
    emulator = shutil.which(f"qemu-{machine}") or shutil.which(f"qemu-{machine}-static")
    if emulator is None:
        pytest.skip(f"there is nothing here that runs programs of {machine}")
    return [emulator]


@pytest.fixture
def run(tmp_path):
    """Runs a launcher with these steps and arguments."""

    def run(machine, steps, program, *arguments, data=None):
        data = data or Data()
        path = data.add(os.fsencode(program) + b"\0")
        become = Become(
            number_of(machine, "execve"), path, SECRET, number_of(machine, "exit_group")
        )
        file = tmp_path / "launcher"
        file.write_bytes(elf(machine, [*steps, become], data))
        file.chmod(0o755)
        return subprocess.run(
            [*emulated(machine), file, *arguments],
            env={"WORD": "kept"},
            capture_output=True,
            encoding="latin-1",
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize("machine", MACHINES)
class TestRun:
    """Launchers executed by the kernel."""

    def test_it_becomes_the_program(self, run, machine):
        """The program gets the launcher's arguments and environment."""
        done = run(machine, [], "/bin/sh", "-c", 'echo "$WORD $1"', "name", "argument")

        assert (done.returncode, done.stdout, done.stderr) == (0, "kept argument\n", "")

    def test_a_step_that_fails(self, run, machine):
        """A failed step ends the launcher with the step's number; the program does not run."""
        good = Step(GETPID[machine])
        bad = Step(PRCTL[machine], (2**31 - 1, 0, 0, 0, 0))
        done = run(machine, [good, bad, good], "/bin/echo", "ran")

        assert (done.returncode, done.stdout) == (FAILED + 1, "")

    def test_a_program_that_is_not_there(self, run, machine):
        """A missing program fails in the last step."""
        assert run(machine, [Step(GETPID[machine])], "/no/such/program").returncode == FAILED + 1

    def test_results_are_kept(self, run, machine):
        """A step's result is stored for a later step: here, into the text that it writes."""
        data = Data()
        text = data.add(b"\0" * 8)
        write = Step(number_of(machine, "write"), (1, text, 8))
        steps = [Step(number_of(machine, "getppid"), result=[text, text + 4]), write]
        done = run(machine, steps, "/bin/true", data=data)
        kept = struct.unpack("<II", done.stdout.encode("latin-1"))

        assert done.returncode == 0
        assert kept == (os.getpid(), os.getpid())


# The output of an assembler; a disassembler confirmed the launcher's own output.
KNOWN = {
    "x86_64": {
        "number": b"\xb8\x9d\x00\x00\x00\x0f\x05",  # mov eax, 157; syscall
        "check": b"\x48\x85\xc0\x79",  # test rax, rax; jns
        "secret": b"\x49\xb9" + struct.pack("<Q", SECRET),  # movabs r9, SECRET
    },
    "aarch64": {
        "number": struct.pack("<I", 0xD2800000 | 167 << 5 | 8),  # mov x8, #167
        "check": struct.pack("<I", 0xB6F80000 | 10 << 5),  # tbz x0, #63, .+40
        "secret": struct.pack("<I", 0xD2800000 | 0x7788 << 5 | 5),  # mov x5, #0x7788
    },
}


@pytest.mark.parametrize("machine", MACHINES)
def test_instructions(machine):
    """The machine code is checked also where it cannot run."""
    steps = [Step(PRCTL[machine], (38, 1, 0, 0, 0)), Become(1, 2, SECRET, 3)]
    code = elf(machine, steps, Data())

    assert code.startswith(b"\x7fELF\x02\x01")
    for part in KNOWN[machine].values():
        assert code.count(part) >= 1
