"""The journal of a job: a line of JSON for each row that has ended, on the disk before the row counts as done.

Each process writes a part of its own, so a line that a killed process has torn never meets another one. A row is found by its
key; if it ended twice, as with `retry_failed`, the last line counts. Trajectories are in files of their own beside it. Where files are
copied to object storage, a process begins another part now and then, since an object is written as a whole.

The folder of a job:

    program.json        the identity of the program: another one is refused
    journal/*.jsonl     rows that began, were left, or have ended
    trajectories/*.jsonl
    runs/               journals of rows that are under way
    rows.jsonl          the result (or rows.parquet, rows.lance), written at the end of each call
    report.json
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from dspy_rlm.jobs.engine import key_digest
from dspy_rlm.journal.lines import dumped, loaded

# A row that was begun, and neither left nor ended in the same part, was there when the process of that part died.
_BEGUN, _DIED, _LEFT, _ENDED, _SPENT = "begin", "died", "left", "row", "spent"

STATUSES = ("submitted", "extracted", "partial", "failed", "given_up")

# Statuses of rows that are tried again with `retry_failed`.
FAILED = frozenset({"failed", "given_up"})


# Sums of dollars differ in their last digits by the order of the summands.
_ROUNDING = 1e-9

# A part of a job whose parts are copied as objects ends after so many bytes: it is sent again with each row that ends.
KEPT_PART_BYTES = 256 * 1024

Keeper: TypeAlias = Callable[[Sequence[Path]], None]
"""Copies files, of which lines were added, to where they are kept. Called in any thread. Raises `OSError`."""


@dataclasses.dataclass
class Totals:
    """The totals of a job, of all processes that worked on it."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    """Rows by status."""

    cost: float = 0.0
    """US dollars; calls of unknown cost count at their bounds."""

    unbounded: int = 0
    """Rows with a call that has neither a cost nor a bound. They are not in the sum."""

    spent: float = 0.0
    """US dollars that an earlier process had booked at its last line, also for rows that have not ended."""

    is_exact: bool = True
    llm_calls: int = 0
    suspects: set[str] = dataclasses.field(default_factory=set)
    """Rows that were there when a process died: they are tried again alone."""

    deaths: Counter[str] = dataclasses.field(default_factory=Counter)
    """The number of workers that a driver has seen die with a row, by its key."""

    parts: int = 0


class JobJournal:
    """The journal of one job. Used by one event loop; `is_done` also by the thread that reads rows."""

    def __init__(self, folder: Path, keeper: Keeper | None = None) -> None:
        """Reads what is there. Nothing is created before the first line. `keeper` copies the parts elsewhere."""
        self._folder, self._keeper = folder, keeper
        self._parts = sorted((folder / "journal").glob("*.jsonl"))
        self._index: dict[bytes, int] = {}
        self._numbers, self._files, self._offsets = array("q"), array("q"), array("q")
        self._statuses = array("b")
        # With what they have taken so far, in dollars and in calls.
        self._open_again: dict[bytes, tuple[float | None, int]] = {}
        self._begun_anew: set[bytes] = set()  # rows that had ended, with `retry_failed`
        now = time.time_ns()  # parts are read in the order of their names
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
        self._name = f"{stamp}.{now % 10**9:09d}Z-{os.getpid()}"
        self._open: dict[str, _Part] = {}  # by the kind of their lines
        self._numbers_of_parts: Counter[str] = Counter()
        self._full: list[_Part] = []  # parts that get no further line, and may not be on the disk
        self._written = self._synced_to = 0  # bytes of this process
        self._lock = asyncio.Lock()  # one flush at a time
        self._syncing = threading.Lock()  # the thread of a flush that was cancelled goes on
        self.totals = Totals(parts=len(self._parts))
        running: dict[str, set[str]] = {}  # by the process
        for at, path in enumerate(self._parts):
            self._read(at, path, running)
        self.totals.suspects.update(*running.values())
        self._first = len(self._numbers)  # the index of the first row that this process ends

    def __len__(self) -> int:
        return len(self._index)

    def _read(self, at: int, path: Path, running: dict[str, set[str]]) -> None:
        totals = self.totals
        own = running.setdefault(path.name.rpartition("-")[0], set())
        for offset, line in _lines(path):
            kind, key = line.get("e"), str(line.get("key"))
            if kind == _BEGUN:
                own.add(key)
                if self.is_closed(key_digest(key)):
                    self._begun_anew.add(key_digest(key))
            elif kind == _DIED:
                totals.deaths[key] += 1
            elif kind == _LEFT:
                own.discard(key)
            elif kind == _SPENT:
                totals.spent = max(totals.spent, float(line.get("cost", 0.0)))
            elif kind == _ENDED:
                for keys in running.values():
                    keys.discard(key)
                totals.deaths.pop(key, None)
                totals.spent = max(totals.spent, float(line.get("spent", 0.0)))
                self._count(key_digest(key), line)
                self._place(key_digest(key), line, at, offset)

    def _count(self, digest: bytes, line: Mapping[str, Any]) -> None:
        """Counts a row that has ended; one that ended before counts once, and its cost too if its run went on."""
        totals = self.totals
        if (before := self._index.get(digest)) is not None:
            totals.counts[STATUSES[self._statuses[before]]] -= 1
        so_far, calls = self._open_again.get(digest, (0.0, 0))
        totals.counts[str(line.get("status"))] += 1
        amount, cost = _amount(line), line.get("cost")
        totals.unbounded += (amount is None) - (so_far is None)
        totals.cost += 0.0 if amount is None else amount
        totals.cost -= 0.0 if so_far is None else so_far
        if amount is None or cost is None or not math.isclose(amount, cost, abs_tol=_ROUNDING):
            totals.is_exact = False
        totals.llm_calls += int(line.get("llm_calls") or 0) - calls

    # ---- Keys ----

    def amount_of(self, digest: bytes) -> float | None:
        """Returns the US dollars of a row that has ended for now, by the digest of its key; None if nothing bounds them.

        0 for any other row: its next run is one of its own.
        """
        return self._open_again.get(digest, (0.0, 0))[0]

    def is_closed(self, digest: bytes) -> bool:
        """Returns whether a row, by the digest of its key, has ended, is not tried again by itself, and was not begun anew."""
        known = digest in self._index
        return known and digest not in self._open_again and digest not in self._begun_anew

    def has_ended_here(self, key: str) -> bool:
        """Returns whether this process has ended a row."""
        return self._index.get(key_digest(key), -1) >= self._first

    def is_done(self, key: str, *, retry_failed: bool = False) -> bool:
        """Returns whether a row has ended for good: not if it failed because a server could not be reached."""
        digest = key_digest(key)
        index = self._index.get(digest)
        if index is None or digest in self._open_again:
            return False
        return not retry_failed or STATUSES[self._statuses[index]] not in FAILED

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the lines of the rows that have ended, in the order of the source, each once."""
        order = sorted(self._index.values(), key=self._numbers.__getitem__)
        files: dict[int, Any] = {}
        try:
            for index in order:
                at = self._files[index]
                if at not in files:
                    files[at] = self._parts[at].open("rb")
                files[at].seek(self._offsets[index])
                line = loaded(files[at].readline())
                yield {
                    name: value
                    for name, value in line.items()
                    if name not in ("e", "again", "spent")
                }
        finally:
            for file in files.values():
                file.close()

    def _place(self, digest: bytes, line: Mapping[str, Any], part: int, offset: int) -> None:
        self._index[digest] = len(self._numbers)
        self._numbers.append(int(line.get("number", -1)))
        self._files.append(part)
        self._offsets.append(offset)
        self._statuses.append(STATUSES.index(str(line["status"])))
        self._open_again.pop(digest, None)
        self._begun_anew.discard(digest)
        if line.get("again"):
            self._open_again[digest] = _amount(line), int(line.get("llm_calls") or 0)

    # ---- Writing ----

    def begin(self, key: str, attempt: int) -> None:
        """Says that a row is begun. If this process dies, the next one knows that the row was there."""
        self._write({"e": _BEGUN, "key": key, "attempt": attempt})

    def died(self, key: str) -> None:
        """Says that the worker of a row has died."""
        self._write({"e": _DIED, "key": key})

    def leave(self, key: str) -> None:
        """Says that a row was stopped, and is not the reason for whatever happens next."""
        self._write({"e": _LEFT, "key": key})

    def note_spent(self, cost: float) -> None:
        """Notes the US dollars of the whole job, those of rows that have not ended included."""
        if self._open:
            self._write({"e": _SPENT, "cost": cost})

    async def add(
        self, line: Mapping[str, Any], trajectory: Any = None, *, again: bool = False
    ) -> None:
        """Adds a row that has ended. It is on the disk when this returns.

        Args:
            line: The row: `key`, `number`, `status` and the rest.
            trajectory: Its steps; None: they are not kept.
            again: Whether a later process tries it again.
        """
        if trajectory is not None:
            steps = dumped({"key": line["key"], "steps": trajectory}) + b"\n"
            self._part("trajectories").write(steps)
        if again:
            line = {**line, "again": True}
        offset = self._write({"e": _ENDED, **line})
        self._count(key_digest(str(line["key"])), line)
        self._place(key_digest(str(line["key"])), line, len(self._parts) - 1, offset)
        await self._synced(self._written)

    def _write(self, event: Mapping[str, Any]) -> int:
        """Hands a line to the operating system, so that a killed process loses none; returns its place in the part."""
        part = self._part("journal")
        offset = part.size
        part.write(dumped({**event, "t": round(time.time(), 3)}) + b"\n")
        self._written += part.size - offset
        return offset

    def _part(self, kind: str) -> _Part:
        """Returns the part of this process that gets the next line: another one, if it has become large."""
        part = self._open.get(kind)
        if part is not None and (self._keeper is None or part.size < KEPT_PART_BYTES):
            return part
        if part is not None:
            self._full.append(part)
            del self._open[kind]
            self._numbers_of_parts[kind] += 1
        part = self._open[kind] = self._opened(kind)
        if kind == "journal":
            self._parts.append(part.path)
        return part

    def _open_parts(self) -> list[_Part]:
        """Returns the parts of this process that get lines; trajectories first, as they are written first."""
        return [self._open[kind] for kind in ("trajectories", "journal") if kind in self._open]

    async def _synced(self, written: int) -> None:
        """Waits until so many bytes are on the disk; rows that end at the same time share one fsync."""
        async with self._lock:
            if self._synced_to >= written:
                return
            size, full, parts = self._written, self._full, self._open_parts()
            self._full = []
            try:
                await asyncio.to_thread(self._sync, full, parts)
            except BaseException:
                self._full = full + self._full
                raise
            self._synced_to = size

    def _sync(self, full: Sequence[_Part], parts: Sequence[_Part]) -> None:
        with self._syncing:
            try:
                for part in (*full, *parts):
                    part.sync()
                if self._keeper is not None:
                    self._keeper([part.path for part in (*full, *parts)])
            finally:
                for part in full:
                    part.close()

    def _opened(self, kind: str) -> _Part:
        """Creates the file of this process in a folder of the job."""
        folder = self._folder / kind
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = f".{self._numbers_of_parts[kind]:06d}" if self._keeper is not None else ""
        path = folder / f"{self._name}{number}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags, 0o600)
        _sync_folder(folder)
        return _Part(path, handle)

    def close(self) -> None:
        """Closes the files, after a last fsync. Idempotent."""
        parts = [*self._full, *self._open_parts()]
        self._open.clear()
        self._full = []
        if parts:
            self._sync(parts, ())


@dataclasses.dataclass
class _Part:
    """A file that this process writes."""

    path: Path
    handle: int
    size: int = 0

    def write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self.handle, left) :]
        self.size += len(line)

    def sync(self) -> None:
        if self.handle >= 0:
            os.fsync(self.handle)

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1


def _amount(line: Mapping[str, Any]) -> float | None:
    """Returns the US dollars that a row counts as; None if nothing bounds them. Lines of earlier versions have the cost only."""
    amount = line["booked"] if "booked" in line else line.get("cost")
    return None if amount is None else float(amount)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the lines of a part with their places. A torn or damaged one is none."""
    with path.open("rb") as file:
        offset = 0
        for data in file:
            place, offset = offset, offset + len(data)
            try:
                line = loaded(data) if data.endswith(b"\n") else None
            except (ValueError, RecursionError):
                line = None
            if isinstance(line, dict):
                yield place, line


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
