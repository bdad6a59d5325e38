"""Deno is tried behind the operating system's confinement: a loaded machine is no missing wall."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sandbox_runtime import DenoNotFoundError, EngineError, WallProbeError
from sandbox_runtime.engine import assets
from sandbox_runtime.engine.deno import ENVIRONMENT, find_deno
from sandbox_runtime.engine.trial import (
    Fails,
    Unknown,
    Works,
    attempt,
    ladder,
    outcome_of,
    outcome_of_error,
    strongest,
)
from sandbox_runtime.isolation.os_isolation import NO_WALL, Wall, detect

OFFERED = detect()
TOO_SHORT, LONG_ENOUGH = 0.001, 60.0

needs_a_wall = pytest.mark.skipif(not OFFERED, reason="this system offers no wall")


class TestOutcome:
    """Only a process that ended by itself says something about the confinement."""

    def test_a_version(self):
        """A printed version counts, whatever comes after it and whatever the exit code."""
        assert outcome_of(0, "deno 2.9.8\n") == Works((2, 9, 8))
        assert outcome_of(1, "deno 2.9.8 (stable)\nv8 14") == Works((2, 9, 8))

    @pytest.mark.parametrize("status", [0, 1, 127, 203, -signal.SIGSYS, -signal.SIGABRT])
    def test_an_end_of_its_own(self, status):
        """An exit code, a refused system call and an abort are failures."""
        assert isinstance(outcome_of(status, ""), Fails)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_an_end_from_outside(self, number):
        """The out-of-memory killer, a supervisor or a terminal say nothing about the confinement."""
        outcome = outcome_of(-number, "")

        assert isinstance(outcome, Unknown)
        assert number.name in outcome.reason

    @pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR", "EIO"])
    def test_want_of_something(self, name):
        """A start that lacked files, memory or processes says nothing."""
        number = getattr(errno, name)

        assert isinstance(outcome_of_error(OSError(number, os.strerror(number))), Unknown)

    @pytest.mark.parametrize("name", ["EACCES", "EPERM", "ENOENT", "ENOEXEC", "ENOSYS"])
    def test_a_refusal(self, name):
        """A start that the system refuses is a failure."""
        number = getattr(errno, name)

        assert isinstance(outcome_of_error(OSError(number, os.strerror(number))), Fails)

    def test_time_and_threads(self):
        """A trial out of time, and a thread that could not be started, say nothing."""
        assert isinstance(outcome_of_error(subprocess.TimeoutExpired("deno", 3)), Unknown)
        assert isinstance(outcome_of_error(RuntimeError("can't start new thread")), Unknown)


class TestLadder:
    """Candidates are tried from the strongest to the weakest."""

    def test_the_whole_wall(self):
        """Each step has less than the one before; having nothing is no candidate."""
        whole = Wall(7, seccomp=True, gate=True)

        assert ladder(whole) == [
            whole,
            Wall(7, seccomp=True),
            Wall(7),
            Wall(seccomp=True),
        ]
        assert ladder(NO_WALL) == []


class TestSlowMachine:
    """A trial that takes too long is repeated with more time, and never leads to a weaker wall."""

    @needs_a_wall
    def test_one_attempt_out_of_time(self):
        """An attempt out of time is unknown, not failed."""
        outcome = attempt(find_deno(), OFFERED, ENVIRONMENT, TOO_SHORT)

        assert outcome == Unknown(f"did not answer within {TOO_SHORT:g} s")

    @needs_a_wall
    def test_the_next_attempt_has_time(self):
        """The wall is whole if any attempt works behind it."""
        budgets = (TOO_SHORT, TOO_SHORT, LONG_ENOUGH)

        assert strongest(find_deno(), OFFERED, ENVIRONMENT, budgets)[1] == OFFERED

    @needs_a_wall
    def test_no_attempt_has_time(self):
        """Without an answer there is an error that says what to do, and no sandbox without the wall."""
        with pytest.raises(
            WallProbeError, match=r"could not be found out: it did not answer"
        ) as caught:
            strongest(find_deno(), OFFERED, ENVIRONMENT, [TOO_SHORT] * 3)

        assert isinstance(caught.value, EngineError)
        assert "Try again" in str(caught.value)
        assert str(OFFERED) in str(caught.value)

    def test_without_any_wall(self):
        """A machine that offers no wall has the same retries, and the error of a Deno that does not run."""
        works = strongest(find_deno(), NO_WALL, ENVIRONMENT, (TOO_SHORT, LONG_ENOUGH))
        with pytest.raises(DenoNotFoundError, match=r"did not answer within"):
            strongest(find_deno(), NO_WALL, ENVIRONMENT, [TOO_SHORT])

        assert works[1] == NO_WALL


@needs_a_wall
def test_a_deno_that_does_not_work_behind_it(tmp_path):
    """A program that ends by itself behind a part of the wall, each time, is used without that part."""
    script = tmp_path / "deno"
    script.write_text(
        "#!/bin/sh\n(:)\necho deno 2.9.8\n"
    )  # starts a process, from a file that may not be executed
    script.chmod(0o755)

    assert strongest(script, OFFERED, ENVIRONMENT) == ((2, 9, 8), NO_WALL)


@needs_a_wall
def test_a_failure_that_passes(tmp_path):
    """The offered layers are tried once more after weaker ones have worked."""
    real = find_deno().resolve()
    deno = tmp_path / "deno"
    # Works behind nothing only, and becomes the real Deno then: a failure that has passed.
    deno.write_text(f"#!/bin/sh\nset -e\nln -sf {real} {deno}\necho deno 2.9.8\n")
    deno.chmod(0o755)

    assert strongest(deno, OFFERED, ENVIRONMENT)[1] == OFFERED


# A process that has so many descriptors left. With 7 to 11 of them Deno starts, but not behind the whole wall.
LOW_ON_DESCRIPTORS = textwrap.dedent(
    """
    import os, resource, sys
    from sandbox_runtime import DenoNotFoundError, WallProbeError
    from sandbox_runtime.engine.deno import ENVIRONMENT, find_deno
    from sandbox_runtime.engine.trial import strongest
    from sandbox_runtime.isolation.os_isolation import detect

    offered, deno, kept = detect(), find_deno(), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    try:
        while True:
            kept.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for one in kept[-int(sys.argv[1]):]:
            os.close(one)
    try:
        words = "whole" if strongest(deno, offered, ENVIRONMENT)[1] == offered else "less"
    except WallProbeError:
        words = "unknown"
    os.write(1, words.encode())
    os._exit(0)
    """
)


@needs_a_wall
@pytest.mark.parametrize("left", [7, 10, 11, 30])
def test_few_file_descriptors(left):
    """A process near its limit of open files gets the whole wall or an error, and never less."""
    done = subprocess.run(
        [sys.executable, "-c", LOW_ON_DESCRIPTORS, str(left)],
        env={**os.environ, "PYTHONPATH": str(Path(assets.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert done.stdout == ("whole" if left == 30 else "unknown")
