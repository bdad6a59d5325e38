"""An engine for tests of the driver: it runs a function of the row."""

from __future__ import annotations

import asyncio
import inspect

from dspy_rlm.jobs.engine import Outcome


class FakeEngine:
    """Runs rows by a function that returns an outcome, or raises; implements `engine.Engine`."""

    def __init__(self, work=None, concurrency=4):
        self.concurrency = concurrency
        self.work = work or (lambda row, **_: Outcome("submitted", {"answer": row.key}, cost=0.01))
        self.ran = []
        self.alone = []
        self.now = self.most = 0
        self.quota = None
        self.closed = False

    async def start(self, program, quota):
        self.quota = quota

    async def run(self, row, *, alone=False):
        self.ran.append(row.key)
        if alone:
            self.alone.append(row.key)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            result = self.work(row, alone=alone)
            outcome = await result if inspect.isawaitable(result) else result
            if outcome.cost is not None:
                self.quota.book(outcome.cost)
            return outcome
        finally:
            self.now -= 1

    async def close(self):
        self.closed = True
