"""The process of a worker: calls of modules on its event loop, several at once.

Its LMs have no keys when they arrive: DSPy reads them from the environment of this process.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dspy
from dspy.utils.usage_tracker import track_usage

from dspy_rlm.dspy_bridge.pickling import Packed
from dspy_rlm.dspy_internals.credentials import check_key
from dspy_rlm.lms.sub_lms import named_models
from dspy_rlm.ray.shipping import (
    CallResult,
    Shipped,
    named_entries,
    predictor_of_signature,
    sendable,
)
from dspy_rlm.rlm import RLM

# An optimizer tries many versions of a module, and returns to earlier ones.
KEPT_MODULES = 16


class WorkerProcess:
    """The class of the actors."""

    def __init__(self, setup: Callable[[], None] | None = None) -> None:
        """Starts with no module. `setup` is called first, once."""
        if setup is not None:
            setup()
        self._modules: OrderedDict[str, Any] = OrderedDict()

    async def ready(self) -> str:
        """Returns the id of the node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def call(
        self, module: list[Any], digest: str, settings: Shipped, inputs: Packed, traced: bool
    ) -> Packed:
        """Calls a module; returns the packed `CallResult`.

        Args:
            module: A list with the reference to the `Shipped` module, which is read only if it is not here.
            digest: The digest of the module.
            settings: The settings of DSPy.
            inputs: The positional arguments and those by name, as a pair.
            traced: Whether the caller wants the trace.
        """
        program = self._modules.get(digest)
        if program is None:
            program = self._keep(digest, (await module[0]).unpack())
        context = self._modules.get(settings.digest)
        if context is None:
            context = self._keep(settings.digest, settings.unpack())
        missing = missing_key(program, context)
        if missing is not None:
            return sendable(CallResult(error=missing))
        args, by_name = inputs.unpack()
        return await asyncio.to_thread(
            sendable, await called(program, context, args, by_name, traced=traced)
        )

    def _keep(self, digest: str, value: Any) -> Any:
        value = self._modules.setdefault(digest, value)
        self._modules.move_to_end(digest)
        while len(self._modules) > KEPT_MODULES:
            self._modules.popitem(last=False)
        return value


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
            message = (
                f"The LM {lm.model} has no key on this worker. Keys are not sent to a cluster: set its variable in the "
                f"environment of the nodes, or with ray.init(runtime_env={{'env_vars': {{...}}}}). ({error})"
            )
            return type(error)(message)
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
