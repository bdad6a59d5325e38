"""A module whose calls run on a Ray cluster: for `dspy.Evaluate`, GEPA, MIPROv2, and every other caller in threads.

The traces that the workers record come back into the caller's, with the caller's own predictors, so that optimizers see the
same as with a module that runs here.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import dspy

from dspy_rlm.dspy_bridge.pickling import Portable
from dspy_rlm.ray.actors import USUAL_CPUS, Actors, connect, the_ray
from dspy_rlm.ray.results import (
    CallResult,
    Shipped,
    data_of,
    own_entries,
    sent_settings,
    shipped,
    value_of,
    with_own_signature,
)
from dspy_rlm.ray.worker import KEPT_MODULES
from dspy_rlm.ray.workers import Workers
from sandbox_runtime.helpers import start_thread


class Distributed(Portable, dspy.Module):
    """A module whose calls run on a cluster; `module` is the one that they run, with its predictors.

    Copies share the workers. `close()` ends them; so does the end of the process.
    """

    _LIVE = frozenset({"_crew"})

    def __init__(self, module: dspy.Module, crew: Crew) -> None:
        """See `distributed`."""
        super().__init__()
        if getattr(module, "_compiled", False):
            # DSPy does not look for predictors in a compiled module that is a part of another.
            module = module.deepcopy()
            module._compiled, self._compiled = False, True
        self.module = module
        self._crew = crew

    def forward(self, /, *args: Any, **inputs: Any) -> Any:
        """Calls the module on a worker, and waits for it.

        Raises:
            WorkerLostError: Each worker that the call was sent to has died.
            LMNotConfiguredError: An LM has no key in the environment of the worker.
            Exception: The error of the call itself.
        """
        future = self._crew.submit(*self._shipment(args, inputs))
        try:
            result = future.result()
        except BaseException:
            future.cancel()  # also in the worker
            raise
        return self._bring_back(result)

    async def aforward(self, /, *args: Any, **inputs: Any) -> Any:
        """Like `forward`, without blocking the event loop."""
        shipment = await asyncio.to_thread(self._shipment, args, inputs)
        return self._bring_back(await asyncio.wrap_future(self._crew.submit(*shipment)))

    def close(self) -> None:
        """Ends the workers of this module and of all its copies. A later call starts new ones."""
        self._crew.close()

    def _shipment(self, args: tuple[Any, ...], inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        return (
            shipped(self.module),
            shipped(sent_settings()),
            data_of((args, dict(inputs))),
            dspy.settings.trace is not None and dspy.settings.max_trace_size > 0,
        )

    def _bring_back(self, result: CallResult) -> Any:
        trace, most = dspy.settings.trace, dspy.settings.max_trace_size
        if trace is not None and most > 0:
            trace.extend(own_entries(self.module, result.trace))
            del trace[:-most]
        if (tracker := dspy.settings.usage_tracker) is not None:
            for lm, entries in result.usage.items():
                for entry in entries:
                    tracker.add_usage(lm, entry)
        error = with_own_signature(self.module, result)
        if error is not None:
            raise error
        return result.prediction


class Crew:
    """The workers of a distributed module, on an event loop in a thread of their own. Thread-safe."""

    def __init__(self, address: str | None, attempts: int, options: Mapping[str, Any]) -> None:
        """Starts nothing yet."""
        self._address, self._attempts, self._options = address, attempts, dict(options)
        self._lock = threading.Lock()  # guards the fields below
        self._loop: asyncio.AbstractEventLoop | None = None
        self._workers: Workers | None = None
        self._sent: OrderedDict[str, Any] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the settings: another process starts workers of its own."""
        return Crew, (self._address, self._attempts, self._options)

    def submit(
        self, module: Shipped, settings: Shipped, inputs: Any, traced: bool
    ) -> Future[CallResult]:
        """Sends a call. Cancelling the future cancels the call."""
        with self._lock:
            loop, workers = self._ready()
            reference = self._sent.get(module.digest)
            if reference is None:
                reference = self._sent[module.digest] = the_ray().put(module)
            self._sent.move_to_end(module.digest)
            while len(self._sent) > KEPT_MODULES:
                self._sent.popitem(last=False)

        async def call() -> CallResult:
            answer = await workers.call(
                "call", [reference], module.digest, settings, inputs, traced
            )
            result: CallResult = await asyncio.to_thread(value_of, answer)
            return result

        return asyncio.run_coroutine_threadsafe(call(), loop)

    def close(self) -> None:
        """Ends the workers, and the calls in flight. Idempotent."""
        with self._lock:
            loop, workers = self._loop, self._workers
            self._loop = self._workers = None
            self._sent.clear()
        if loop is not None and workers is not None:
            asyncio.run_coroutine_threadsafe(_closed(workers), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def _ready(self) -> tuple[asyncio.AbstractEventLoop, Workers]:
        if self._loop is None or self._workers is None:
            connect(self._address)
            self._loop = asyncio.new_event_loop()
            self._workers = Workers(Actors(**self._options), attempts=self._attempts)
            start_thread(_run(self._loop), "rlm-ray-workers")
        return self._loop, self._workers


def distributed(
    module: dspy.Module,
    *,
    address: str | None = None,
    workers_per_node: int | None = None,
    runs_per_worker: int | None = None,
    num_cpus: float = USUAL_CPUS,
    attempts: int = 2,
    options: Mapping[str, Any] | None = None,
) -> Distributed:
    """Returns a module whose calls run on a Ray cluster and are the same otherwise.

    Its predictors are those of the module, so that an optimizer's result is in `compiled.module`, which runs without a cluster.
    Give callers as many threads as the cluster has room for: `dspy.Evaluate(..., num_threads=64)`.

    Args:
        module: An RLM, or a program around some.
        address: The address of the cluster. None: the one that Ray is connected to or that `RAY_ADDRESS` names, else
            one on this machine.
        workers_per_node: The workers on each node; None for one per eight cores.
        runs_per_worker: The calls in each at once; None for what the node has room for.
        num_cpus: The processors that Ray counts for each worker.
        attempts: A call is given up after so many workers have died with it, the last one with no other call.
        options: Further options of `ray.remote` for the workers, such as `resources` or `runtime_env`.
    """
    crew = Crew(
        address,
        attempts,
        {
            "workers_per_node": workers_per_node,
            "runs_per_worker": runs_per_worker,
            "num_cpus": num_cpus,
            "options": dict(options or {}),
        },
    )
    return Distributed(module, crew)


def _run(loop: asyncio.AbstractEventLoop) -> Any:
    def run() -> None:
        try:
            loop.run_forever()
        finally:
            loop.close()

    return run


async def _closed(workers: Workers) -> None:
    await workers.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
