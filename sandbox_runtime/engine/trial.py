"""Tries Deno behind the operating system's confinement, the strongest first.

A candidate is given up only on evidence: Deno was started behind it, ended by itself and did not work, several times.
A trial that took too long, was killed, or could not be prepared for want of files, memory or processes says
nothing about the confinement, however loaded the machine is: it is repeated with more time, and after that there is no
sandbox, rather than one with less around it.
"""

from __future__ import annotations

import dataclasses
import errno
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox_runtime.errors import DenoNotFoundError, WallProbeError
from sandbox_runtime.isolation.os_isolation import NO_WALL, Wall, run_confined

Version = tuple[int, int, int]

DENO_FIX = 'Install it with: pip install "deno>=2.9.8,<3"'

# Seconds of the attempts. A trial takes 0.2 s of CPU; the first budget suffices at a hundred times the load.
BUDGETS = (30.0, 60.0, 90.0)

# Prints the beginning of `deno --version` and exits at once, whatever is still running.
_TELL_VERSION = "console.log(`deno ${Deno.version.deno}`); Deno.exit(0)"

# Errors of the preparation or the start that show that the system refuses them. All others may pass: EMFILE, ENFILE,
# ENOMEM, EAGAIN.
_REFUSALS = frozenset(
    getattr(errno, name)
    for name in (
        *(
            "EACCES",
            "EPERM",
            "ENOENT",
            "ENOEXEC",
            "ENOTDIR",
            "ELOOP",
            "ENOSYS",
            "EINVAL",
            "EOPNOTSUPP",
        ),
        *("EISDIR", "ENAMETOOLONG"),
    )
)

# Signals that a process gets from others: the out-of-memory killer, a terminal, a supervisor.
_FROM_OUTSIDE = frozenset(
    getattr(signal, name)
    for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGALRM")
    if hasattr(signal, name)
)


@dataclasses.dataclass(frozen=True)
class Works:
    """Deno ran and reported its version."""

    version: Version


@dataclasses.dataclass(frozen=True)
class Fails:
    """Deno does not work so."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Unknown:
    """The attempt says nothing about Deno or the confinement."""

    reason: str


Outcome = Works | Fails | Unknown


def strongest(
    path: Path,
    offered: Wall,
    environment: Mapping[str, str],
    budgets: Sequence[float] = BUDGETS,
) -> tuple[Version, Wall]:
    """Returns the version of the executable, and the strongest confinement behind which it works.

    Args:
        path: The executable.
        offered: The confinement that this machine offers.
        environment: The variables of the sandbox.
        budgets: The seconds of each attempt.

    Raises:
        DenoNotFoundError: It does not work at all.
        WallProbeError: It could not be found out whether it works behind a confinement.
    """
    for candidate in ladder(offered):
        outcome = _tried(path, candidate, environment, budgets)
        if isinstance(outcome, Works):
            return _confirmed(path, offered, candidate, outcome, environment, budgets)
        if isinstance(outcome, Unknown):
            raise _not_found_out(path, candidate, outcome)
    outcome = _tried(path, NO_WALL, environment, budgets)
    if not isinstance(outcome, Works):
        raise DenoNotFoundError(f"{path} {outcome.reason}. {DENO_FIX}")
    return _confirmed(path, offered, NO_WALL, outcome, environment, budgets)


def _confirmed(
    path: Path,
    offered: Wall,
    found: Wall,
    works: Works,
    environment: Mapping[str, str],
    budgets: Sequence[float],
) -> tuple[Version, Wall]:
    """Tries what was offered once more where only less has worked: what failed for want of memory works now."""
    if found == offered:
        return works.version, found
    outcome = _tried(path, offered, environment, budgets)
    if isinstance(outcome, Unknown):
        raise _not_found_out(path, offered, outcome)
    return (outcome.version, offered) if isinstance(outcome, Works) else (works.version, found)


def _not_found_out(path: Path, candidate: Wall, outcome: Unknown) -> WallProbeError:
    return WallProbeError(
        f"Cannot start the sandbox: whether {path} works behind {candidate} of the operating system could not be "
        f"found out: it {outcome.reason}. Try again when the machine has time, memory and file descriptors to spare"
    )


def ladder(offered: Wall) -> Sequence[Wall]:
    """Returns the candidates, the strongest first, without `NO_WALL`."""
    weaker = (
        offered,
        dataclasses.replace(offered, gate=False),
        Wall(offered.landlock),
        Wall(seccomp=offered.seccomp),
    )
    return [candidate for candidate in dict.fromkeys(weaker) if candidate]


def _tried(
    path: Path, candidate: Wall, environment: Mapping[str, str], budgets: Sequence[float]
) -> Outcome:
    """Tries until it works: `Fails` only if every attempt did."""
    outcomes = []
    for seconds in budgets:
        outcome = attempt(path, candidate, environment, seconds)
        if isinstance(outcome, Works):
            return outcome
        outcomes.append(outcome)
    return next((one for one in outcomes if isinstance(one, Unknown)), outcomes[-1])


def attempt(path: Path, candidate: Wall, environment: Mapping[str, str], seconds: float) -> Outcome:
    """Runs a line of JavaScript, which starts V8 and its threads, as a sandbox does."""
    arguments = ["eval", "--no-config", "--no-lock", _TELL_VERSION]
    try:
        done = run(path, arguments, candidate, environment, seconds)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return outcome_of_error(error)
    return outcome_of(done.returncode, done.stdout)


def outcome_of_error(error: Exception) -> Fails | Unknown:
    """Judges an error of the preparation or the start, or the end of the time."""
    match error:
        case subprocess.TimeoutExpired(timeout=seconds):
            return Unknown(f"did not answer within {seconds:g} s")
        case OSError(errno=number) if number in _REFUSALS:
            return Fails(f"does not run: {error}")
    return Unknown(f"does not run: {error}")  # RuntimeError: no thread could be started


def outcome_of(status: int, printed: str) -> Outcome:
    """Judges the end of the process: its exit code, or minus the number of a signal, and its output."""
    if match := re.match(r"deno (\d{1,9})\.(\d{1,9})\.(\d{1,9})", printed):
        return Works((int(match[1]), int(match[2]), int(match[3])))
    if -status in _FROM_OUTSIDE:
        return Unknown(f"was ended by {signal.Signals(-status).name}")
    return Fails(f"is not a Deno executable: it prints {printed[:80]!r}")


def run(
    path: Path,
    arguments: Sequence[str],
    candidate: Wall,
    environment: Mapping[str, str],
    seconds: float = BUDGETS[-1],
) -> subprocess.CompletedProcess[str]:
    """Runs the executable to its end behind a confinement.

    Raises:
        OSError: It could not be started.
        RuntimeError: The thread of the gate could not be started.
        subprocess.TimeoutExpired: It took longer.
    """
    with run_confined(candidate, path) as launch:
        return subprocess.run(
            [str(path), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            **launch.options,
        )
