"""The report of a job: what `dspy_rlm.batch` returns, and writes beside the rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.journal.lines import loaded
from dspy_rlm.reports.text import dollars

FINISHED = "finished"
NO_MONEY = "max_cost"
INTERRUPTED = "interrupted"

FILE = "report.json"


@dataclasses.dataclass(frozen=True)
class JobReport:
    """The report of a job: of this call of `batch`, and of those before it.

    Iterate over it for the rows, as dicts, in the order of the source.
    """

    out: str
    """The folder of the job, or its address in object storage."""

    result: str | None
    """The file or the object with the rows; None if it could not be written."""

    stopped_by: str
    """`finished`, `max_cost`, `interrupted`, or the error that every row would have met."""

    counts: Mapping[str, int]
    """Rows by status: `submitted`, `extracted`, `partial`, `failed`, `given_up`."""

    total: int | None
    """Rows of the source; None if it does not say, and was not read to its end."""

    skipped: int
    """Rows that an earlier call had finished."""

    duplicates: int
    """Rows with the key of another row. The first one counts."""

    unfinished: int
    """Rows that were begun and have not ended. They go on, without being paid again, when the job is resumed."""

    cost: float
    """US dollars of the whole job. Calls of unknown cost count at their bound, if there is one."""

    cost_is_exact: bool
    """True if the cost of every call is known."""

    llm_calls: int
    """LM calls that the code of the rows caused."""

    seconds: float
    """Wall time of this call."""

    errors: Mapping[str, int]
    """The errors of this call by their type, with their number."""

    outputs: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """The names of the outputs, which are columns of the rows."""

    @property
    def rows(self) -> int:
        """The rows that have ended."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """The rows without an answer."""
        return self.counts.get("failed", 0) + self.counts.get("given_up", 0)

    @property
    def ok(self) -> bool:
        """True if all rows were run, and each has an answer."""
        return self.stopped_by == FINISHED and not self.failed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of the result, as dicts, in the order of the source."""
        from dspy_rlm.jobs.job_journal import JobJournal
        from dspy_rlm.jobs.object_folder import local_folder
        from dspy_rlm.jobs.results.columns import record_of_line

        for line in JobJournal(local_folder(self.out)).rows():
            yield record_of_line(line, self.outputs)

    def dump(self) -> dict[str, Any]:
        """Returns the report as plain data for JSON."""
        return dataclasses.asdict(self) | {"rows": self.rows, "outputs": list(self.outputs)}

    def save(self, folder: Path) -> None:
        """Writes the report into the folder of the job."""
        path = folder / FILE
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.dump(), indent=2, ensure_ascii=False), "utf-8")
        temporary.replace(path)

    def text(self) -> str:
        """Returns the report in a few lines."""
        by_status = ", ".join(
            f"{count:,} {status}" for status, count in self.counts.items() if count
        )
        rows = f"{self.rows:,}" + (f" of {self.total:,}" if self.total is not None else "")
        lines = [
            f"{rows} rows: {by_status or 'none'}",
            f"{'' if self.cost_is_exact else 'about '}{dollars(self.cost)}, {self.llm_calls:,} LM calls of the code, "
            f"{self.seconds:,.0f} s",
        ]
        if self.skipped:
            lines.append(f"{self.skipped:,} were there before")
        if self.duplicates:
            lines.append(f"{self.duplicates:,} have the key of another row, and were left out")
        if self.stopped_by != FINISHED:
            left = ""
            if self.total is not None:
                left = f"{max(self.total - self.duplicates - self.rows, 0):,} rows are left, "
            lines.append(
                f"stopped by {self.stopped_by}; {left}{self.unfinished:,} of them begun: resume the job"
            )
        lines += [f"{count:,} x {error}" for error, count in self.errors.items()]
        return "\n".join([*lines, f"rows: {self.result or self.out}"])


def load_report(folder: Path) -> dict[str, Any] | None:
    """Returns the report that was saved in a folder, as plain data; None if there is none."""
    try:
        found: Any = loaded((folder / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
