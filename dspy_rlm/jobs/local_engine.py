"""The engine that runs rows in this process, on the driver's event loop. The sandboxes are processes of their own."""

from __future__ import annotations

from dspy_rlm.jobs.engine import Outcome, Program, Row
from dspy_rlm.jobs.row_run import run_row
from dspy_rlm.limiting.quota import Quota


class LocalEngine:
    """Runs rows in this process; implements `engine.Engine`."""

    def __init__(self) -> None:
        self._program: Program
        self._quota: Quota

    @property
    def concurrency(self) -> int:
        """The sandboxes that the RLM's pool lends at the same time."""
        most: int = self._program.rlm._config.lending_pool.max_sessions
        return most

    async def start(self, program: Program, quota: Quota) -> None:
        """See `Engine.start`."""
        program.check()
        self._program, self._quota = program, quota

    async def run(self, row: Row) -> Outcome:
        """See `Engine.run`."""
        return await run_row(self._program, row, self._quota)

    async def close(self) -> None:
        """See `Engine.close`. There is nothing to end: each run closes its own sandbox."""
