"""`RLM.session`: several calls in one REPL, whose inputs and variables stay from call to call."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import dspy

from dspy_rlm.dspy_bridge.interpreter_factory import factory_of, is_ours
from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.reuse.kept_sandbox import KeptSandboxPool
from dspy_rlm.settings.config import Configured


class RLMSession:
    """Calls of an RLM that share one REPL. Create it with `RLM.session`.

        with rlm.session(logs=logs) as ask:
            ask(question="Who broke the build?").answer
            ask(question="Since when?").answer

    The inputs of the session are sent to the sandbox once; functions and variables of earlier calls are still there,
    and the prompt lists them. Each call has a budget, a trajectory and a report of its own. Calls take turns.
    """

    def __init__(self, module: Configured, inputs: Mapping[str, Any]) -> None:
        """Opens nothing yet; the first call does.

        Args:
            module: The RLM. Later changes of its settings do not reach the session.
            inputs: The inputs of all calls, by name. A call can replace them for itself.

        Raises:
            InputError: The signature has no such input.
            SignatureError: The RLM runs in an interpreter of the caller, not in our sandbox.
        """
        config = module._config
        if not is_ours(factory_of(config)):
            raise SignatureError(
                "session() needs the sandbox of dspy_rlm, and this RLM has an interpreter of its own. Leave "
                "interpreter_factory out, or keep variables in that interpreter."
            )
        fields = config.signature.input_fields
        if unknown := [name for name in inputs if name not in fields]:
            raise InputError(
                f"{unknown[0]!r} is no input of this signature. Its inputs: {', '.join(fields)}."
            )
        self._inputs = dict(inputs)
        self._pool = KeptSandboxPool(config.lending_pool)
        self._module = cast(Any, copy.copy(module))
        self._module._config = dataclasses.replace(config, pool=self._pool)
        self._turn = threading.Lock()  # held during a call
        self._is_closed = False

    def __call__(self, **inputs: Any) -> dspy.Prediction:
        """Runs the RLM; see `RLM.forward`. The inputs of the session need not be passed again."""
        with self._in_turn():
            return self._module(**{**self._inputs, **inputs})

    async def acall(self, **inputs: Any) -> dspy.Prediction:
        """Runs the RLM; see `RLM.aforward`."""
        with self._in_turn():
            return await self._module.acall(**{**self._inputs, **inputs})

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if self._is_closed:
            raise InputError("This session is closed. Open another with rlm.session(...).")
        if not self._turn.acquire(blocking=False):
            raise InputError(
                "This session runs another call, and its calls take turns: they share one REPL. Open a session "
                "for each thread or task."
            )
        try:
            yield
        finally:
            self._turn.release()

    def close(self) -> None:
        """Closes the sandbox. Idempotent."""
        self._is_closed = True
        self._pool.close()

    def __enter__(self) -> RLMSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> RLMSession:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()


class InSessions:
    """A mixin for the module: calls that share one REPL."""

    def session(self, **inputs: Any) -> RLMSession:
        """Returns a context manager for several calls in one REPL; see `RLMSession`.

        Args:
            **inputs: The inputs of all calls. A call can replace them for itself.

        Raises:
            InputError: The signature has no such input.
            SignatureError: The RLM runs in an interpreter of the caller, not in our sandbox.
        """
        return RLMSession(cast(Configured, self), inputs)
