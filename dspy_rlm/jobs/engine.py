"""The protocol of an engine, which runs the rows of a job somewhere, and the plain values that travel to it and back.

The driver in `driver.py` owns the rest: which rows are left, the window, the attempts, the journal. `local_engine.py` runs rows
in this process. An engine on a cluster has a worker call `row_run.run_row`, which turns whatever happens into an `Outcome`.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from dspy_rlm.dspy_bridge.shipping import packed, unpacked
from dspy_rlm.jobs.binding import check_lms
from dspy_rlm.limiting.job_quota import JobQuota


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a job."""

    key: str
    """The name of the row in the job; unique."""

    inputs: Mapping[str, Any]
    """The inputs of the run by name."""

    number: int = 0
    """The position among the rows of the job, from 0."""

    problem: str = ""
    """The reason for which the row cannot be run, such as a missing key."""


def key_digest(key: str) -> bytes:
    """Returns a digest of a row's key: short, and valid in the name of a file."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Verdict(enum.Enum):
    """The meaning of an outcome for the row."""

    FINAL = "final"
    """The row has ended."""

    AGAIN = "again"
    """Another attempt may succeed: a server could not be reached, a sandbox died."""

    UNFINISHED = "unfinished"
    """The job ended first. The row stays open, and goes on when the job is resumed."""

    STOPS_JOB = "stops_job"
    """Every other row would fail in the same way, such as for a wrong key. The row stays open."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of one attempt at a row. Plain data, also for JSON: any engine can send it."""

    status: str
    """`submitted`, `extracted`, `partial` or `failed`."""

    outputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The outputs by name, as JSON has them; None for one that is missing."""

    error: str = ""
    """The type and the message of the exception; empty without one."""

    cost: float | None = 0.0
    """US dollars, all attempts in the row's own journal included; None if unknown."""

    booked: float | None = None
    """The same as the job's quota has it: calls of unknown cost count at their bound. None if one has no bound, and from
    an engine of your own that has no quota."""

    llm_calls: int = 0
    """LM calls that the run's code caused."""

    iterations: int = 0
    """Turns of the root LM."""

    seconds: float = 0.0
    trajectory: tuple[Mapping[str, Any], ...] = ()
    """The steps, with the keys `reasoning`, `code` and `output`."""

    verdict: Verdict = Verdict.FINAL

    @property
    def amount(self) -> float | None:
        """The US dollars that the row counts as; None if nothing bounds them."""
        return self.cost if self.booked is None else self.booked

    def line(self, row: Row, attempts: int) -> dict[str, Any]:
        """Returns the line of the job's journal for the row."""
        return {
            "key": row.key,
            "number": row.number,
            "status": self.status,
            "error": self.error,
            "outputs": dict(self.outputs),
            "cost": self.cost,
            "booked": self.amount,
            "llm_calls": self.llm_calls,
            "iterations": self.iterations,
            "seconds": round(self.seconds, 3),
            "attempts": attempts,
        }


class WorkerDiedError(Exception):
    """The process that ran the row has died, or cannot be reached. Any of its rows may be the cause."""


@dataclasses.dataclass(frozen=True)
class Program:
    """The RLM and the settings that the rows of a job are run with."""

    rlm: Any
    """The RLM, with the LMs that it uses bound to it: a worker has no `dspy.configure` of the driver's."""

    adapter: Any = None
    """DSPy's adapter of the driver; None: the default."""

    runs: Path | None = None
    """The folder for the journals of runs in progress, from which an interrupted row goes on; None: none are kept."""

    def packed(self) -> bytes:
        """Returns the program as bytes for another process, with its LMs and without their keys."""
        return packed(self)

    @staticmethod
    def unpacked(data: bytes) -> Program:
        """Returns the program from the bytes of `packed`. Only for bytes that this program wrote."""
        program: Program = unpacked(data)
        return program

    def check(self) -> None:
        """Finds what would fail for every row: an LM without a key, an unknown price. Sends nothing.

        Raises:
            LMNotConfiguredError: There is no LM, or one has no key in this process.
        """
        check_lms(self.rlm)


class Engine(Protocol):
    """Runs rows. Used by one event loop, from `start` to `close`.

    The driver calls `run` for up to `concurrency` rows at the same time, each once more for another attempt, and never two
    attempts at one row at once. Cancelling a call of `run` stops its row: no further LM call is sent for it, and what was
    answered is in its journal before the call ends, if the engine keeps one.
    """

    @property
    def concurrency(self) -> int:
        """The rows that can run at the same time. Known after `start`; it may change while the job runs."""

    async def start(self, program: Program, quota: JobQuota) -> None:
        """Gets ready to run rows: starts workers, and has each call `program.check`.

        Args:
            program: What the rows are run with.
            quota: The rates and the money of the job. Every LM call of a row takes its lease from it: in another process
                through a `Quota` that forwards to this one, set for the run by `row_run.run_row`.

        Raises:
            Exception: The job cannot run; no row was begun.
        """

    async def run(self, row: Row, *, alone: bool = False) -> Outcome:
        """Runs one row to its end.

        Args:
            row: The row.
            alone: True for a row that was there when a process died: no other row may be in its process. The call waits
                until that is so, or takes a process of its own.

        Raises:
            WorkerDiedError: Its process died. The driver tries the row again, alone.
            CancelledError: The driver has cancelled the call.
        """

    async def close(self) -> None:
        """Ends the workers. Idempotent."""
