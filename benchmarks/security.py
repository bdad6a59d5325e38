"""Runs hostile programs in our sandbox and in DSPy's: `python -m benchmarks.security --help`.

The programs and their judge are those of `tests/security`. Each program runs in a separate process and process group,
which is killed at its time limit: that counts as a hang.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import peer
from benchmarks.processes import ROOT
from tests.security.catalogue import BY_CLASS, counts
from tests.security.judge import GRAVITY, VERDICTS, Ending, Report, Subject, judge
from tests.security.ours import Ours
from tests.security.persistence import PAIRS
from tests.security.program import Program
from tests.security.surroundings import FIELDS, KEPT, Surroundings

Side = Literal["ours", "peer"]
Open = Callable[[Surroundings], AbstractContextManager[Subject]]

# The time limit of a cell of ours (the peer has none), and the time after which a program counts as hung.
CELL_SECONDS = 5.0
# By default a search may take a minute, as long as a task here.
SEARCH_SECONDS = 2
CAP_SECONDS = 60.0
MEMORY_BYTES = 256 * 1024 * 1024

# Protects the machine from a program that meets no other limit; more than a 32-bit interpreter needs.
DATA_BYTES = 8 * 1024 * 1024 * 1024

NOT_SHOWN = """
"attempt not shown": the output does not prove that the program made its attempt. For ours the verdict is then "missed".
For the peer it is "held": it refused the program before the attempt, or dropped its output.
"""

PERSISTENCE = "left for the next session"


@dataclass(frozen=True)
class Task:
    """Programs that run one after the other, each in a separate session: one, or a pair."""

    group: str
    programs: Sequence[Program]

    @property
    def name(self) -> str:
        """The name of the first program."""
        return self.programs[0].name


@dataclass
class Running:
    """A task in a process."""

    side: Side
    task: Task
    pid: int
    pipe: int
    since: float
    received: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class Judged:
    """The verdict on a task."""

    side: Side
    group: str
    name: str
    verdict: str
    reasons: Sequence[str]
    unreached: int = 0
    """The number of its attempts that its output does not prove."""


def tasks() -> list[Task]:
    """Returns all tasks, including those that need names of our own."""
    single = [Task(group, [one]) for group, programs in BY_CLASS.items() for one in programs]
    return [*single, *(Task(PERSISTENCE, [pair.plant, pair.look]) for pair in PAIRS)]


# ---- In the process of a task ----


@contextlib.contextmanager
def open_ours(around: Surroundings) -> Iterator[Subject]:
    """Opens a session with limits; a folder next to the secret is one of its inputs."""
    from sandbox_runtime import Directory, Limits, open_session

    limits = Limits(
        cell_seconds=CELL_SECONDS,
        grace_seconds=1,
        memory_bytes=MEMORY_BYTES,
        search_seconds=SEARCH_SECONDS,
    )
    with open_session(limits, around.tools(), FIELDS) as session:
        inputs = around.folder.with_name("inputs")
        inputs.mkdir(exist_ok=True)
        (inputs / "a.txt").write_text("a" * 5000 + "b\n")  # as in the tests
        session.assign({"kept": KEPT, "files": Directory(inputs)})
        yield Ours(session)


class PeerSubject:
    """A `dspy.PythonInterpreter`, which gets the variable with each cell, as `dspy.RLM` passes it."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._pids: set[int] = set()

    def run(self, code: str) -> Ending:
        """Runs a cell."""
        from dspy.primitives.code_interpreter import CodeInterpreterError, FinalOutput

        try:
            result = self._interpreter.execute(code, variables={"kept": KEPT})
        except (CodeInterpreterError, SyntaxError) as error:
            return Ending("failed", f"{type(error).__name__}: {error}")
        finally:
            if (process := self._interpreter.deno_process) is not None:
                self._pids.add(process.pid)
        if isinstance(result, FinalOutput):
            return Ending("submitted", "", result.output)
        return Ending("completed", str(result))

    @property
    def losses(self) -> int:
        """The number of processes after the first, plus one if the current one has ended."""
        process = self._interpreter.deno_process
        ended = process is not None and process.poll() is not None
        return max(len(self._pids) - 1, 0) + ended

    @property
    def bounds(self) -> None:
        """None: the peer promises no bounds on the output or cost of a cell."""
        return


def opener_of_peer(runner: Path) -> Open:
    """Returns a function that opens the peer, with the command that the installed DSPy chooses."""
    from dspy.primitives.python_interpreter import PythonInterpreter

    command = peer.deno_command(runner)
    outputs = [{"name": name, "type": kind} for name, kind in FIELDS.items()]

    @contextlib.contextmanager
    def open_peer(around: Surroundings) -> Iterator[Subject]:
        interpreter = PythonInterpreter(command, tools=around.tools(), output_fields=outputs)
        try:
            yield PeerSubject(interpreter)
        finally:
            with contextlib.suppress(Exception):
                interpreter.shutdown()

    return open_peer


def work(task: Task, opener: Open, folder: Path) -> Report:
    """Judges the programs of a task; returns the worst verdict."""
    folder.mkdir()
    reports = []
    with Surroundings(folder) as around:
        for program in task.programs:
            with opener(around) as subject:
                reports.append(judge(program, subject, around))
    worst = min(reports, key=lambda report: GRAVITY.index(report.verdict))
    return dataclasses.replace(worst, unreached=sum(report.unreached for report in reports))


# ---- The run ----


class Run:
    """Runs tasks concurrently, a limited number at a time."""

    def __init__(
        self, openers: dict[Side, Open], jobs: int, cap_seconds: float, folder: Path
    ) -> None:
        self._openers = openers
        self._jobs = jobs
        self._cap = cap_seconds
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, Running] = {}
        self.judged: list[Judged] = []

    def all(self, todo: Sequence[tuple[Side, Task]]) -> None:
        """Runs all tasks to the end."""
        waiting = list(reversed(todo))
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._jobs:
                    self._start(*waiting.pop())
                for key, _ in self._selector.select(0.5):
                    self._on_output(self._running[key.fd])
                for running in list(self._running.values()):
                    if time.monotonic() - running.since > self._cap:
                        self._end(running, Report("hang", (f"no end within {self._cap:g} s",)))
        finally:
            for running in list(self._running.values()):
                _kill(running.pid)

    def _start(self, side: Side, task: Task) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            _child(task, self._openers[side], writing, self._folder)
        os.close(writing)
        self._running[reading] = Running(side, task, pid, reading, time.monotonic())
        self._selector.register(reading, selectors.EVENT_READ)

    def _on_output(self, running: Running) -> None:
        if chunk := os.read(running.pipe, 65536):
            running.received += chunk
            return
        try:
            verdict, reasons, unreached = json.loads(running.received)
        except ValueError:
            self._end(running, Report("crash", ("the host process ended without a result",)))
        else:
            self._end(running, Report(verdict, tuple(reasons), unreached=unreached))

    def _end(self, running: Running, report: Report) -> None:
        self._selector.unregister(running.pipe)
        os.close(running.pipe)
        del self._running[running.pipe]
        _kill(running.pid)
        task = running.task
        verdict = verdict_of(running.side, report)
        done = Judged(
            running.side, task.group, task.name, verdict, report.reasons, report.unreached
        )
        self.judged.append(done)
        why = "" if verdict == "held" else f" ({'; '.join(report.reasons)[:160]!r})"
        sys.stderr.write(f"{done.side} {done.group}: {done.name}: {done.verdict}{why}\n")


def _child(task: Task, opener: Open, pipe: int, folder: Path) -> None:
    """Runs a task in the child process. Never returns."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        place = folder / f"task-{os.getpid()}"
        place.mkdir()
        report = work(task, opener, place / "host")
        reasons = [reason[:2000] for reason in report.reasons]
        message = json.dumps([report.verdict, reasons, report.unreached])
        view = memoryview(message.encode())
        while view:
            view = view[os.write(pipe, view) :]
        code = 0
    finally:
        # Skips the cleanup handlers, which are the parent's.
        os._exit(code)


def _kill(pid: int) -> None:
    """Kills a child and its process group. Our sandboxes have separate groups, and end with their parent."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # it may not have a group yet
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def verdict_of(side: Side, report: Report) -> str:
    """Returns the verdict for the table. The programs are written for our sandbox, where each must make its attempt.

    The peer may refuse a program before that, or drop its output, which counts as held.
    """
    return "held" if side == "peer" and report.verdict == "missed" else report.verdict


# ---- Output ----


def table(judged: Sequence[Judged], sides: Sequence[Side]) -> str:
    """Returns a Markdown table with a row for each class and side, and the totals."""
    groups = list(dict.fromkeys(one.group for one in judged))
    head = ("class", "side", "programs", *VERDICTS, "attempt not shown")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for group in [*groups, None]:
        for side in sides:
            rows = [one for one in judged if one.side == side and group in (one.group, None)]
            counts = [sum(one.verdict == verdict for one in rows) for verdict in VERDICTS]
            counts.append(sum(one.unreached > 0 for one in rows))
            label = group or "**all**"
            lines.append(f"| {label} | {side} | {len(rows)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def main() -> int:
    """Runs the tasks that the command line selects."""
    arguments = _parser().parse_args()
    if arguments.list:
        sys.stdout.writelines(f"{number:5} {group}\n" for group, number in counts().items())
        return 0
    sides: list[Side] = ["ours", "peer"]
    if arguments.ours_only or arguments.peer_only:
        sides = ["ours"] if arguments.ours_only else ["peer"]
    every = [one for one in tasks() if not arguments.only or one.group in arguments.only]
    both = [one for one in every if not any(program.ours for program in one.programs)]
    # The programs that both can run; all of them if only ours is requested.
    chosen = every if arguments.ours_only else both
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="hostile-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        openers: dict[Side, Open] = {"ours": open_ours}
        if "peer" in sides:
            os.environ.update(peer.environment(arguments.peer_cache))
            openers["peer"] = opener_of_peer(peer.write_patched_runner(folder))
        else:
            import sandbox_runtime  # noqa: F401 - imported before forking, so that no child has to
        os.chdir(ROOT)
        run = Run(openers, arguments.jobs, arguments.cap, folder)
        with contextlib.suppress(KeyboardInterrupt):
            run.all([(side, task) for task in chosen for side in sides])
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in run.judged], indent=1))
    sys.stdout.write(f"{table(run.judged, sides)}\n{NOT_SHOWN}")
    if skipped := len(every) - len(chosen):
        why = sorted({one.ours for task in every for one in task.programs if one.ours})
        sys.stdout.write(f"\n{skipped} programs are for ours only: {', '.join(why)}.\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.security", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*BY_CLASS, PERSISTENCE])
    parser.add_argument(
        "--list", action="store_true", help="count the programs without running them"
    )
    parser.add_argument("--jobs", type=int, default=2, help="programs at a time")
    parser.add_argument(
        "--cap",
        type=float,
        default=CAP_SECONDS,
        metavar="SECONDS",
        help="time after which a program counts as hung",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the verdicts to FILE")
    parser.add_argument(
        "--peer-cache",
        type=Path,
        default=peer.default_cache(),
        help="folder for the peer's npm packages (default: %(default)s)",
    )
    sides = parser.add_mutually_exclusive_group()
    sides.add_argument(
        "--ours-only", action="store_true", help="include programs that only ours can run"
    )
    sides.add_argument("--peer-only", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
