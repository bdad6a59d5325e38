"""The process of a worker: calls of modules, or rows of a job, on its event loop, several at once.

Its LMs have no keys when they arrive: they are read from the environment of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import dspy
from filelock import AsyncFileLock, Timeout

from dspy_rlm.dspy_bridge.arriving_lms import REMEDY
from dspy_rlm.dspy_internals.credentials import check_key
from dspy_rlm.dspy_internals.usage import track_usage
from dspy_rlm.jobs.engine import Outcome, Program, Row
from dspy_rlm.jobs.row_run import journal_of, run_row
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.limiting.quota import Quota
from dspy_rlm.lms.sub_lms import named_models
from dspy_rlm.ray.results import (
    CallResult,
    Shipped,
    named_entries,
    predictor_of_signature,
    sendable,
    value_of,
)
from dspy_rlm.rlm import RLM

# An optimizer tries many versions of a module, and returns to earlier ones.
KEPT_MODULES = 16

# A process that still has a row after so long is not ending: it is cut off from the network.
MOST_LOCKED_SECONDS = 120.0

_MARK = ".shared"


class WorkerProcess:
    """The class of the actors."""

    def __init__(self, name: str) -> None:
        """Starts with no module and no job. `name` is that of the worker, as the holder of leases."""
        self._name = name
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._program: Program
        self._quota: Quota = JobQuota()

    async def ready(self, job: list[Any]) -> tuple[str, bytes]:
        """Gets ready for the rows of a job, if there is one.

        Args:
            job: The reference to the packed program, and the actor that has the quota or None; or nothing.

        Returns:
            The id of the node, and the packed error for which no row can be run; no bytes without one.
        """
        import ray

        from dspy_rlm.ray.quota import WorkerQuota

        node = str(ray.get_runtime_context().get_node_id())
        if not job:
            return node, b""
        reference, quota = job
        try:
            program = Program.unpacked(await reference)
            program.check()
            self._program = program if is_shared(program) else replace(program, runs=None)
        except Exception as error:  # noqa: BLE001 - raised in the driver
            return node, sendable(CallResult(error=error))
        if quota is not None:
            self._quota = WorkerQuota(quota, self._name, *await quota.terms.remote())
        return node, b""

    async def row(self, row: Row) -> Outcome:
        """Runs a row of the job."""
        async with _only_one(self._program, row):
            return await run_row(self._program, row, self._quota)

    async def call(
        self, module: list[Any], digest: str, settings: Shipped, inputs: bytes, traced: bool
    ) -> bytes:
        """Calls a module; returns the packed `CallResult`.

        Args:
            module: A list with the reference to the `Shipped` module, which is read only if it is not here.
            digest: The digest of the module.
            settings: The settings of DSPy.
            inputs: The positional arguments and those by name, as a packed pair.
            traced: Whether the caller wants the trace.
        """
        program = self._kept.get(digest)
        if program is None:
            program = self._keep(digest, (await module[0]).unpack())
        context = self._kept.get(settings.digest)
        if context is None:
            context = self._keep(settings.digest, settings.unpack())
        missing = missing_key(program, context)
        if missing is not None:
            return sendable(CallResult(error=missing))
        args, by_name = value_of(inputs)
        result = await called(program, context, args, by_name, traced=traced)
        return await asyncio.to_thread(sendable, result)

    def _keep(self, digest: str, value: Any) -> Any:
        value = self._kept.setdefault(digest, value)
        self._kept.move_to_end(digest)
        while len(self._kept) > KEPT_MODULES:
            self._kept.popitem(last=False)
        return value


def share(program: Program) -> None:
    """Writes the file by which a worker recognizes that it sees the folder of the journals too. Called in the driver."""
    if program.runs is not None:
        program.runs.mkdir(parents=True, exist_ok=True)
        (program.runs / _MARK).write_text(program.runs.as_posix(), "utf-8")


def unshare(program: Program) -> None:
    """Removes that file. Called in the driver."""
    if program.runs is not None:
        (program.runs / _MARK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # rows that have not ended
            program.runs.rmdir()


def is_shared(program: Program) -> bool:
    """Returns whether the folder of the journals of runs is the driver's, on a file system that all nodes have."""
    return program.runs is not None and (program.runs / _MARK).is_file()


@contextlib.asynccontextmanager
async def _only_one(program: Program, row: Row) -> AsyncIterator[None]:
    """Waits while another process has the row: one whose node has died goes on for some seconds, and two would write one journal.

    The lock of a process ends with it.
    """
    if program.runs is None:
        yield
        return
    path = journal_of(program.runs, row.key).parent
    path.mkdir(parents=True, exist_ok=True)
    lock = AsyncFileLock(str(path / ".lock"), timeout=MOST_LOCKED_SECONDS, is_singleton=False)
    with contextlib.suppress(Timeout):
        await lock.acquire()
    try:
        yield
    finally:
        await lock.release()


async def called(
    module: Any,
    settings: Mapping[str, Any],
    args: tuple[Any, ...],
    inputs: Mapping[str, Any],
    *,
    traced: bool,
) -> CallResult:
    """Calls a module on this event loop, with these settings of DSPy; returns what came of it, also if it failed."""
    trace: list[Any] | None = [] if traced else None
    with dspy.context(**settings, trace=trace), track_usage() as usage:
        prediction, error = None, None
        try:
            prediction = await module.acall(*args, **inputs)
        except Exception as failure:  # noqa: BLE001 - raised again in the caller
            error = failure
    return CallResult(
        prediction,
        error,
        predictor_of_signature(module, error) if error is not None else None,
        named_entries(module, trace or ()),
        dict(usage.usage_data),
    )


def missing_key(module: Any, settings: Mapping[str, Any]) -> Exception | None:
    """Returns the error for an LM that would be called without a key, with what to do; None if there is none."""
    for lm in _lms_of(module, settings.get("lm")):
        try:
            check_key(lm)
        except dspy.LMError as error:
            text = f"The LM {lm.model} has no key on this worker. {REMEDY}. ({error})"
            missing: Exception = dspy.LMNotConfiguredError(text)
            return missing
    return None


def _lms_of(module: Any, default: Any) -> Iterator[dspy.BaseLM]:
    """Yields the LMs that a module calls: those of its predictors, the default for those without one, and sub-LMs."""
    for _, predictor in module.named_parameters():
        lm = getattr(predictor, "lm", None) or default
        if isinstance(lm, dspy.BaseLM):
            yield lm
    for _, rlm in module.named_sub_modules(RLM):
        models = named_models(rlm.sub_lm)
        yield from models.by_name.values() if models else ()
