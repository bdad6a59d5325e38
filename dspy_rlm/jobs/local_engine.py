"""The engine that runs rows in this process, on the driver's event loop. The sandboxes are processes of their own.

A row that was there when a process died runs in a child process: if it was the reason, only that one dies.
"""

from __future__ import annotations

import asyncio

from dspy_rlm.jobs.child import run_in_child
from dspy_rlm.jobs.engine import Outcome, Program, Row
from dspy_rlm.jobs.row_run import run_row
from dspy_rlm.limiting.job_quota import JobQuota

# Each child imports everything again, which takes some seconds of CPU time.
MAX_CHILDREN = 4


class LocalEngine:
    """Runs rows in this process; implements `engine.Engine`."""

    def __init__(self) -> None:
        self._program: Program
        self._quota: JobQuota
        self._children = asyncio.Semaphore(MAX_CHILDREN)

    @property
    def concurrency(self) -> int:
        """The sandboxes that the RLM's pool lends at the same time."""
        most: int = self._program.rlm._config.lending_pool.max_sessions
        return most

    async def start(self, program: Program, quota: JobQuota) -> None:
        """See `Engine.start`."""
        program.check()
        self._program, self._quota = program, quota

    async def run(self, row: Row, *, alone: bool = False) -> Outcome:
        """See `Engine.run`."""
        if not alone:
            return await run_row(self._program, row, self._quota)
        async with self._children:
            return await run_in_child(self._program, row, self._quota)

    async def close(self) -> None:
        """See `Engine.close`. There is nothing to end: each run closes its own sandbox."""
