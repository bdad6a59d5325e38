"""The journal of a job: a line of JSON for each row that has ended, on the disk before the row counts as done.

Each process writes a part of its own, so a line that a killed process has torn never meets another one. A row is found by its
key; if it ended twice, as with `retry_failed`, the last line counts. Trajectories are in files of their own beside it.

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
import os
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.jobs.engine import key_digest
from dspy_rlm.journal.lines import dumped, loaded

# A row that was begun, and neither left nor ended in the same part, was there when the process of that part died.
_BEGUN, _DIED, _LEFT, _ENDED = "begin", "died", "left", "row"

STATUSES = ("submitted", "extracted", "partial", "failed", "given_up")

# Statuses of rows that are tried again with `retry_failed`.
FAILED = frozenset({"failed", "given_up"})


@dataclasses.dataclass
class Totals:
    """The totals of a job, of all processes that worked on it."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    """Rows by status."""

    cost: float = 0.0
    is_exact: bool = True
    llm_calls: int = 0
    suspects: set[str] = dataclasses.field(default_factory=set)
    """Rows that were there when a process died: they are tried again alone."""

    deaths: Counter[str] = dataclasses.field(default_factory=Counter)
    """The number of workers that a driver has seen die with a row, by its key."""

    parts: int = 0


class JobJournal:
    """The journal of one job. Used by one event loop; `is_done` also by the thread that reads rows."""

    def __init__(self, folder: Path) -> None:
        """Reads what is there. Nothing is created before the first line."""
        self._folder = folder
        self._parts = sorted((folder / "journal").glob("*.jsonl"))
        self._index: dict[bytes, int] = {}
        self._numbers, self._files, self._offsets = array("q"), array("q"), array("q")
        self._statuses = array("b")
        self._open_again: dict[bytes, tuple[float, int]] = {}  # with the cost and the calls so far
        now = time.time_ns()  # parts are read in the order of their names
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
        self._name = f"{stamp}.{now % 10**9:09d}Z-{os.getpid()}.jsonl"
        self._file = self._trajectories = -1
        self._size = 0
        self._synced_to = 0
        self._lock = asyncio.Lock()  # one flush at a time
        self.totals = Totals(parts=len(self._parts))
        for at, path in enumerate(self._parts):
            self._read(at, path)
        self._first = len(self._numbers)  # the index of the first row that this process ends

    def __len__(self) -> int:
        return len(self._index)

    def _read(self, at: int, path: Path) -> None:
        totals, running = self.totals, set[str]()
        for offset, line in _lines(path):
            kind, key = line.get("e"), str(line.get("key"))
            if kind == _BEGUN:
                running.add(key)
            elif kind == _DIED:
                totals.deaths[key] += 1
            elif kind == _LEFT:
                running.discard(key)
            elif kind == _ENDED:
                running.discard(key)
                totals.suspects.discard(key)
                totals.deaths.pop(key, None)
                self._count(key_digest(key), line)
                self._place(key_digest(key), line, at, offset)
        totals.suspects |= running

    def _count(self, digest: bytes, line: Mapping[str, Any]) -> None:
        """Counts a row that has ended; one that ended before counts once, and its cost too if its run went on."""
        totals = self.totals
        if (before := self._index.get(digest)) is not None:
            totals.counts[STATUSES[self._statuses[before]]] -= 1
        cost, calls = self._open_again.get(digest, (0.0, 0))
        totals.counts[str(line.get("status"))] += 1
        totals.cost += float(line.get("cost") or 0.0) - cost
        totals.is_exact = totals.is_exact and line.get("cost") is not None
        totals.llm_calls += int(line.get("llm_calls") or 0) - calls

    # ---- Keys ----

    def has_cost_of(self, digest: bytes) -> bool:
        """Returns whether the cost of a row, by the digest of its key, is counted here: it has ended, if only for now."""
        return digest in self._index

    def is_closed(self, digest: bytes) -> bool:
        """Returns whether a row, by the digest of its key, has ended and is not tried again by itself."""
        return digest in self._index and digest not in self._open_again

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
                yield {name: value for name, value in line.items() if name not in ("e", "again")}
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
        if line.get("again"):
            cost, calls = float(line.get("cost") or 0.0), int(line.get("llm_calls") or 0)
            self._open_again[digest] = cost, calls

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
            if self._trajectories < 0:
                self._trajectories = self._opened("trajectories")
            os.write(self._trajectories, dumped({"key": line["key"], "steps": trajectory}) + b"\n")
        if again:
            line = {**line, "again": True}
        offset = self._write({"e": _ENDED, **line})
        self._count(key_digest(str(line["key"])), line)
        self._place(key_digest(str(line["key"])), line, len(self._parts) - 1, offset)
        await self._synced(offset)

    def _write(self, event: Mapping[str, Any]) -> int:
        """Hands a line to the operating system, so that a killed process loses none; returns its place."""
        if self._file < 0:
            self._file = self._opened("journal")
        line = dumped({**event, "t": round(time.time(), 3)}) + b"\n"
        offset, left = self._size, memoryview(line)
        while left:
            left = left[os.write(self._file, left) :]
        self._size += len(line)
        return offset

    async def _synced(self, offset: int) -> None:
        """Waits until a line is on the disk; rows that end at the same time share one fsync."""
        async with self._lock:
            if self._synced_to > offset:
                return
            size = self._size
            await asyncio.to_thread(self._sync)
            self._synced_to = size

    def _sync(self) -> None:
        for handle in (self._trajectories, self._file):
            if handle >= 0:
                os.fsync(handle)

    def _opened(self, kind: str) -> int:
        """Creates the file of this process in a folder of the job."""
        folder = self._folder / kind
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / self._name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags, 0o600)
        _sync_folder(folder)
        if kind == "journal":
            self._parts.append(path)
        return handle

    def close(self) -> None:
        """Closes the files, after a last fsync. Idempotent."""
        self._sync()
        for handle in (self._trajectories, self._file):
            if handle >= 0:
                os.close(handle)
        self._file = self._trajectories = -1


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
