"""Runs one row in a process of its own: for a row that was there when a process died, which may have been its fault."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import pickle
import sys
from concurrent.futures import Future
from typing import Any

import cloudpickle

from dspy_rlm.jobs.binding import lms_of
from dspy_rlm.jobs.engine import Outcome, Program, Row, WorkerDiedError
from dspy_rlm.jobs.worker import HEADER
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.limiting.quota import Lease

_numbers = itertools.count(1)


async def run_in_child(program: Program, row: Row, quota: JobQuota) -> Outcome:
    """Runs a row in a new process. Cancelling it kills the process.

    The LMs' keys go through the pipe to it, and into no file.

    Raises:
        WorkerDiedError: The process ended without an outcome.
    """
    holder = f"child-{next(_numbers)}"
    options = [dict(getattr(lm, "kwargs", {})) for lm in lms_of(program.rlm)]
    start = cloudpickle.dumps((program.packed(), options, row, quota.limits_cost))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dspy_rlm.jobs.worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        return await _served(process, start, quota, holder)
    except (asyncio.IncompleteReadError, ConnectionError):
        code = await process.wait()
        raise WorkerDiedError(f"The process of the row ended with {code}.") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        quota.forget(holder)


async def _served(process: Any, start: bytes, quota: JobQuota, holder: str) -> Outcome:
    """Serves the worker's requests until it sends the outcome."""
    loop = asyncio.get_running_loop()

    def send(data: bytes) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            process.stdin.write(HEADER.pack(len(data)) + data)

    def answer(number: int, future: Future[Lease]) -> None:
        error = None if future.cancelled() else future.exception()
        lease = None if future.cancelled() or error else future.result()
        loop.call_soon_threadsafe(send, pickle.dumps((number, lease, error)))

    send(start)
    await process.stdin.drain()
    while True:
        head = await process.stdout.readexactly(HEADER.size)
        data = await process.stdout.readexactly(HEADER.unpack(head)[0])
        match pickle.loads(data):  # noqa: S301 - our own process wrote it
            case ("take", number, model, tokens, cost, first, requests):
                future = quota.take(
                    model, tokens, cost, first=first, requests=requests, holder=holder
                )
                future.add_done_callback(functools.partial(answer, number))
            case ("settle", lease, tokens, cost, sent):
                quota.settle(lease, tokens=tokens, cost=cost, sent=sent)
            case ("end", outcome):
                result: Outcome = outcome
                return result
