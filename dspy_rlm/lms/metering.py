"""LMs whose calls are on a ledger: bounded and reserved before they are sent, settled after.

A metered LM is a copy of the user's own, of a subclass of its class, so that DSPy treats it alike.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import types
from typing import Any

import dspy

from dspy_rlm.budget.prices import Model, described
from dspy_rlm.concurrency.anyio_threads import reachable
from dspy_rlm.concurrency.lm_loop import run_on_loop
from dspy_rlm.dspy_internals.lm_calls import call_on_a_loop, is_dspys_own
from dspy_rlm.dspy_internals.response_headers import with_headers
from dspy_rlm.lms.attempts import Pause, Send, Step, Wait, adrive, attempts, drive
from dspy_rlm.lms.call_arguments import begun_digest
from dspy_rlm.lms.call_readings import Reading
from dspy_rlm.lms.endings import Ending
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.lms.tries import HISTORY_IS_OFF
from dspy_rlm.redaction import cleaned, cleaning
from sandbox_runtime.helpers import uncounted


class _Metered:
    """The calls of a metered LM: reserved, cancellable, retried and settled."""

    _meter: Meter
    _unmetered: dspy.BaseLM
    reply_was_cut = False
    """True if the last reply ended at its limit of tokens."""
    reply_ending = Ending()
    """The end of the last reply."""
    reply: Any = None
    """The last reply, as DSPy returns it."""
    _described = Model()
    """The entry of the model in DSPy's table; empty without a limit that needs it."""
    _tries = 0
    """Retries of a failed call that are made here instead of in DSPy: see `metered`."""

    def update_history(self, entry: dict[str, Any]) -> None:
        """Hands the entry of a call to its reading, and keeps it where the program wants a history; see `BaseLM`."""
        reading = dspy.settings.usage_tracker
        if isinstance(reading, Reading):
            reading.history.append(entry)
        if not dspy.settings.get(HISTORY_IS_OFF, False):
            super().update_history(entry)  # type: ignore[misc]

    def __copy__(self: Any) -> Any:
        """Returns a shallow copy, as DSPy makes it, without a search of all classes for slots in each call."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        cls: Any = type(self)
        for name in _slots(cls):
            if hasattr(self, name):
                setattr(copied, name, getattr(self, name))
        return copied

    def __call__(self, prompt: Any = None, **options: Any) -> Any:
        scope, send = self._meter.scope.current, super().__call__  # type: ignore[misc]

        def perform(step: Step) -> Any:
            match step:
                case Wait(place):
                    return place.wait()
                case Send(prompt, options):
                    if _is_sent_on_a_loop(self._unmetered, self._meter):
                        run = functools.partial(run_on_loop, scope)
                        return call_on_a_loop(self, run, prompt, dict(options))
                    call = functools.partial(send, prompt, **options)
                    if scope.cancellable:
                        return scope.run_abandonable(reachable(call))
                    with uncounted():  # an LM may compute in this thread
                        return call()
                case Pause(seconds):
                    return scope.sleep(seconds)

        return drive(attempts(self, prompt, options), perform)

    async def acall(self, prompt: Any = None, **options: Any) -> Any:
        """See `BaseLM.acall`."""
        scope, send = self._meter.scope.current, super().acall  # type: ignore[misc]

        async def perform(step: Step) -> Any:
            match step:
                case Wait(place):
                    return await place.soon()
                case Send(prompt, options):
                    return await scope.run_abandonable_async(send(prompt, **options))
                case Pause(seconds):
                    return await scope.run_abandonable_async(asyncio.sleep(seconds))

        return await adrive(attempts(self, prompt, options), perform)


class _Clean:
    """Redacts the LM's secrets from its exceptions: cells, prompts and reports may show them."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            return super().__call__(*args, **options)  # type: ignore[misc]
        except Exception as error:
            clean = cleaned(error, self._known())
            if clean is error or not isinstance(clean, Exception):
                raise
        # Outside of the handler: otherwise Python would chain the original to it.
        raise clean

    async def acall(self, *args: Any, **options: Any) -> Any:
        """See `BaseLM.acall`."""
        return await cleaning(super().acall, self._known)(*args, **options)  # type: ignore[misc]

    def _known(self) -> list[str]:
        return secrets_of_lm(self)


def metered(lm: dspy.BaseLM, meter: Meter) -> dspy.BaseLM:
    """Returns the LM with its calls on a ledger. It shares the history and the callbacks of the original.

    Calls are retried here: DSPy would go on retrying after a call was abandoned, and would not report tries that
    failed, each of which is a request that may cost something.

    The first time, DSPy may download its table of prices, which can take seconds.
    """
    if isinstance(lm, _Metered):
        lm = lm._unmetered
    kind: Any = type(lm)
    copied: Any = lm.copy()
    copied.__class__ = _metered_class(kind)
    copied.history, copied.callbacks = lm.history, lm.callbacks
    copied._meter, copied._unmetered = meter, lm
    copied._digested = begun_digest(str(copied.model), getattr(copied, "kwargs", {}))
    if meter.ledger.budget.is_metered or (meter.quota is not None and meter.quota.limits_cost):
        copied._described = described(lm)
    with_headers(copied)
    if _is_retried(lm):
        copied._tries, copied.num_retries = copied.num_retries, 0
    return copied


def metered_adapter(adapter: Any, meter: Meter) -> Any:
    """Returns the adapter with its own LM, such as that of DSPy's `TwoStepAdapter`, on the ledger too."""
    if not isinstance(getattr(adapter, "extraction_model", None), dspy.BaseLM):
        return adapter
    copied = copy.copy(adapter)
    copied.extraction_model = metered(adapter.extraction_model, meter)
    return copied


def _is_retried(lm: dspy.BaseLM) -> bool:
    """Returns whether DSPy retries calls: not for an LM with a `forward` of its own."""
    return is_dspys_own(lm, ("forward", "aforward"))


def _is_sent_on_a_loop(lm: dspy.BaseLM, meter: Meter) -> bool:
    """Returns whether calls of threads go to the shared loop, where they can be cancelled.

    Not for an LM with its own code or engine, which may expect a thread, and not if a part of the reply may be
    streamed to the caller.
    """
    scope = meter.scope.current
    can_end = meter.charged or scope.cancellable or scope.interruptible
    streams = not meter.charged and dspy.settings.send_stream is not None
    return can_end and not streams and is_dspys_own(lm) and isinstance(lm.engine, str)


@functools.cache
def _slots(kind: Any) -> tuple[str, ...]:
    """Returns the names of the attributes that instances of a class have outside of their dictionary."""
    members = [(name, one) for cls in kind.__mro__ for name, one in vars(cls).items()]
    return tuple(name for name, one in members if isinstance(one, types.MemberDescriptorType))


@functools.cache
def _metered_class(kind: Any) -> type:
    return type(kind.__name__, (_Clean, _Metered, kind), {"__module__": kind.__module__})
