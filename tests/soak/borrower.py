"""One session from its opening to its end, every result compared with the model's."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sandbox_runtime import (
    CellResult,
    Checkpoint,
    Completed,
    Failed,
    Limits,
    Pool,
    SandboxDiedError,
    SandboxError,
    SandboxStartError,
    Session,
    Submitted,
    open_session,
)

from .faults import Faults
from .scripts import OUTPUT_CHARS, VARIABLES, Ending, Model, Tools, script
from .watch import Watchdog

LIMITS = Limits(output_chars=OUTPUT_CHARS)
FIELDS = {"n": "int", "items": "list", "table": "dict", "text": "str"}

# A session survives so many ends of its process during one operation; with more it may be lost.
KILLS_TO_SURVIVE = 2

# A cell or an opening that is disturbed more often is given up: the faults are too many.
MOST_TRIES = 50

Result = TypeVar("Result")


class WrongResultError(Exception):
    """A session did otherwise than the model."""


class LostSessionError(Exception):
    """Killed so often at once that the session may give up."""


@dataclasses.dataclass
class Tally:
    """Counters of the work done by all threads."""

    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)
    sessions: int = 0
    cells: int = 0
    cells_again: int = 0
    starts_again: int = 0
    lost: int = 0
    kills: int = 0
    stops: int = 0

    def add(self, **counts: int) -> None:
        """Adds to the counts."""
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def __str__(self) -> str:
        return (
            f"{self.sessions} sessions, {self.cells} cells ({self.cells_again} again), "
            f"{self.starts_again} starts again, {self.lost} lost, "
            f"{self.kills} kills, {self.stops} stops"
        )


class Borrower:
    """Runs the script of one number."""

    def __init__(
        self,
        number: int,
        seed: int,
        pool: Pool,
        faults: Faults,
        watchdog: Watchdog,
        tally: Tally,
    ) -> None:
        self.at = "before it began"
        """The current step, for messages."""

        self._name = f"session {number}"
        self._dice = random.Random(f"{seed}:{number}")
        self._pool = pool
        self._faults = faults
        self._watchdog = watchdog
        self._tally = tally
        self._tools = Tools(slow_seconds=self._dice.choice([0.001, 0.02, 0.2]))
        self._may_be_lost = False  # killed too often since the last cell that ended as it should

    def run(self) -> None:
        """Raises `WrongResultError` at the first difference."""
        cells = script(self._dice, self._dice.randint(3, 10))
        turn = self._dice.randrange(len(cells))
        way = self._dice.choice(["lend", "lend", "lend", "open", "fork", "checkpoint", "file"])
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(LostSessionError):
                session = stack.enter_context(self._begun(way))
                model = Model()
                self._assign(session, model, VARIABLES)
                for number, cell in enumerate(cells):
                    if number == turn:
                        session, model = self._turn(way, session, model, stack)
                    self._run_cell(session, model, cell)
                    if self._dice.random() < 0.2:
                        self._assign(session, model, {"given": list(range(number))})
            self._step("closing", stack.close)
        self._tally.add(sessions=1)

    # ---- What is done with a session ----

    def _begun(self, way: str) -> Session:
        if way == "lend":
            return self._opened(lambda: self._pool.lend(self._tools.functions, FIELDS))
        return self._opened(lambda: open_session(LIMITS, self._tools.functions, FIELDS))

    def _turn(
        self, way: str, session: Session, model: Model, stack: contextlib.ExitStack
    ) -> tuple[Session, Model]:
        """Goes on in another session of the same state."""
        if way == "fork":
            other = stack.enter_context(self._opened(session.fork))
        elif way in ("checkpoint", "file"):
            state = self._step("checkpoint", session.checkpoint)
            if way == "file":
                state = self._through_file(state)
            other = stack.enter_context(
                self._opened(
                    lambda: open_session(LIMITS, self._tools.functions, FIELDS, restore=state)
                )
            )
        else:
            return session, model
        copied = model.copied()
        # The first goes on too, and must not be seen by the second.
        self._run_cell(session, model, "items.append(n)\nn += 1\nprint(n)")
        return other, copied

    def _through_file(self, state: Checkpoint) -> Checkpoint:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            state.save(path)
            return Checkpoint.load(path)

    def _assign(self, session: Session, model: Model, variables: dict[str, Any]) -> None:
        self._step("assign", lambda: session.assign(variables))
        for name, value in variables.items():
            model.assign(name, value)

    def _run_cell(self, session: Session, model: Model, cell: str) -> None:
        for _ in range(MOST_TRIES):
            self._tools.take_calls()
            kills = self._faults.kills
            result = self._step(f"run_cell({cell!r})", lambda: session.run_cell(cell))
            calls = self._tools.take_calls()
            if isinstance(result, Failed) and result.error_type == "SandboxDiedError":
                self._tally.add(cells_again=1)
                if result.state_lost:
                    self._lost(kills, f"state lost: {result}")
                continue
            expected = model.run(cell)
            if _ending(result) != expected:
                self._lost(kills, f"{_short(result)} instead of {_short(expected)}")
            if calls != (target := model.tools.take_calls()):
                raise WrongResultError(f"{self.at}: calls {dict(calls)} instead of {dict(target)}")
            self._tally.add(cells=1)
            self._may_be_lost = False
            return
        raise WrongResultError(f"{self.at}: killed {MOST_TRIES} times")

    # ---- Faults ----

    def _opened(self, start: Callable[[], Session]) -> Session:
        for _ in range(MOST_TRIES):
            try:
                return self._step("opening", start)
            except SandboxStartError:
                self._tally.add(starts_again=1)
        raise WrongResultError(f"{self.at}: killed {MOST_TRIES} times")

    def _step(self, what: str, work: Callable[[], Result]) -> Result:
        """Does something under the eye of the watchdog."""
        self.at = what[:300]
        kills = self._faults.kills
        with self._watchdog.over(f"{self._name}: {self.at}"):
            try:
                return work()
            except SandboxStartError:
                raise
            except SandboxDiedError as died:
                return self._lost(kills, repr(died))
            except SandboxError as error:
                raise WrongResultError(f"{self.at}: {error!r}") from error
            finally:
                # The next cell reports a loss that happened while a variable was assigned.
                self._may_be_lost |= self._faults.begun - kills > KILLS_TO_SURVIVE

    def _lost(self, kills: int, what: str) -> Any:
        """Ends the script, which is right only if there were more kills than a session can survive."""
        rightly = self._faults.begun - kills > KILLS_TO_SURVIVE  # one may come as the step begins
        if not rightly and not self._may_be_lost:
            raise WrongResultError(f"{self.at}: {what}")
        self._tally.add(lost=1)
        raise LostSessionError


def _ending(result: CellResult) -> Ending:
    """Returns the ending without the lines that the harness has added, such as those about failed items of a batch."""
    output = result.output
    if result.own.tail:
        output = output[: -result.own.tail]  # the empty line before them is one of them
    match result:
        case Completed():
            return Ending("completed", output)
        case Submitted(outputs=outputs):
            return Ending("submitted", output, outputs)
        case Failed(error_type=name):
            return Ending(name, output)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 1000 else f"{text[:500]} ... {text[-500:]}"
