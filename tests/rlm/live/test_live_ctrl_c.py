"""Ctrl-C in the live view: a program of its own on a pseudo-terminal, and the keys of a person."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("rich")
pytest.importorskip("pyte")
if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

from screens import Screen, screen

PROGRAM = """
import sys, threading
import dspy
from dspy_rlm import RLM
from dspy_rlm.testing import Action, PolicyServer, scripted

never = threading.Event()
moves = scripted(
    Action("First.", "kept = 'what there is'\\nprint(kept)"),
    Action("Ask.", "first = 1\\nprint(sub_llm('never answered'))"),
    Action("The user wants it now.", "SUBMIT(answer=kept)"),
)


def root(request):
    reply = moves(request)
    if "wants it now" in reply:
        never.wait(float(sys.argv[2]))
    return reply


with PolicyServer({"root": root, "sub": lambda _request: str(never.wait(60))}) as server:
    rlm = RLM("text -> answer", live=True, sub_lm=server.lm("sub"), stop_seconds=20)
    print("before", flush=True)
    with dspy.context(lm=server.lm("root")):
        try:
            print("ANSWER:", rlm(text="abc").answer)
        except KeyboardInterrupt as end:
            print("STOPPED:", end)
    never.set()
"""

# Makes the pseudo-terminal that of the program, so that its keys are signals.
START = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); exec(sys.argv[1])"


@contextlib.contextmanager
def program(terminal: Screen, pause: float = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Runs the program on the terminal. The root LM takes a pause before its last reply."""
    ends = {"stdin": terminal.follower, "stdout": terminal.follower, "stderr": terminal.follower}
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": root}
    environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [sys.executable, "-c", START, PROGRAM, str(pause)]
    process = subprocess.Popen(command, env=environment, **ends)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(terminal: Screen, text: str, seconds: float = 60.0) -> list[str]:
    """Returns all lines once one has the text."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = terminal.everything()
        if any(text in line for line in lines):
            return lines
        time.sleep(0.1)
    raise AssertionError(f"{text!r} did not come: {terminal.everything()}")


def press(terminal: Screen, key: bytes) -> None:
    """Presses a key."""
    os.write(terminal._leader, key)


@pytest.fixture
def kept_modes() -> Callable[[Screen], None]:
    """Returns a check that a terminal has the modes that it had, and a visible cursor at the start of a row."""
    with screen() as fresh:
        modes = termios.tcgetattr(fresh.follower)

    def check(terminal: Screen) -> None:
        assert termios.tcgetattr(terminal.follower)[:4] == modes[:4]
        _, column, hidden = terminal.cursor
        assert (column, hidden) == (0, False)

    return check


def test_the_first_ctrl_c(kept_modes):
    """The first Ctrl-C says that the root LM is asked for what it has, and the answer stands below the result."""
    with screen(110, 34, is_shared=True) as terminal, program(terminal) as process:
        lines = wait_for(terminal, "running code, sub_llm")
        assert lines[0] == "before"
        assert any("▶ 2 print(sub_llm('never answered'))" in line for line in lines)
        press(terminal, b"\x03")
        wait_for(terminal, "The root LM is asked for what it has, for up to 20 s.")
        lines = wait_for(terminal, "ANSWER: what there is")
        assert process.wait(30) == 0

        assert any("╰─ ✓ Interrupted, submitted, 3 iterations" in line for line in lines)
        assert sum("RLM text -> answer" in line for line in lines) == 1
        assert [line for line in lines if line][-1] == "ANSWER: what there is"
        kept_modes(terminal)


@pytest.mark.nightly
def test_the_second_ctrl_c(kept_modes):
    """The second Ctrl-C ends the run at once: the steps stay, and the terminal is as before."""
    with screen(110, 34, is_shared=True) as terminal, program(terminal, pause=30) as process:
        wait_for(terminal, "running code, sub_llm")
        press(terminal, b"\x03")
        wait_for(terminal, "stopping: asking for what it has, for up to 20 s (Ctrl-C: at once)")
        press(terminal, b"\x03")
        lines = wait_for(terminal, "STOPPED:")
        process.wait(30)

        assert any("╰─ ✗ Interrupted" in line for line in lines)
        kept_modes(terminal)


@pytest.mark.nightly
def test_a_killed_program_leaves_a_visible_cursor(kept_modes):
    """A program that is killed cannot clean up: nothing of the terminal needs it."""
    with screen(110, 34, is_shared=True) as terminal, program(terminal) as process:
        wait_for(terminal, "running code, sub_llm")
        process.kill()
        process.wait(30)

        kept_modes(terminal)
