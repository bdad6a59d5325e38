"""`rlm.run` and `rlm.arun`: calls that return how a run ended, where `rlm(...)` raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import dspy
from dspy import CodeInterpreterError

from dspy_rlm.errors import RunFailedError
from dspy_rlm.reports.report import RunReport
from dspy_rlm.reports.run_result import RunResult
from sandbox_runtime import SandboxDiedError, SandboxStartError

# A sandbox that does not start; a wrong configuration of the machine is another error, and raised.
_OF_SANDBOX = (SandboxStartError, SandboxDiedError, CodeInterpreterError)


class Outcomes:
    """The part of an RLM that runs without raising for what an LM, a tool or the sandbox did."""

    signature: Any
    __call__: Callable[..., Any]
    acall: Callable[..., Any]

    def run(self, /, *interpreter: Any, **inputs: Any) -> RunResult:
        """Runs as a call does, and returns how it ended.

        Raises:
            InputError: See `forward`; so are the other errors that are found before the run begins.
            KeyboardInterrupt: Ctrl-C, where nothing could be returned.
        """
        began = time.monotonic()
        try:
            return self._returned(self(*interpreter, **inputs))
        except (RunFailedError, *_OF_SANDBOX) as error:
            return self._raised(error, time.monotonic() - began)

    async def arun(self, /, *interpreter: Any, **inputs: Any) -> RunResult:
        """Like `run`, without blocking the event loop. A cancellation is raised."""
        began = time.monotonic()
        try:
            return self._returned(await self.acall(*interpreter, **inputs))
        except (RunFailedError, *_OF_SANDBOX) as error:
            return self._raised(error, time.monotonic() - began)

    def _returned(self, prediction: dspy.Prediction) -> RunResult:
        outputs = {name: prediction[name] for name in self.signature.output_fields}
        return RunResult(outputs, prediction.run, prediction=prediction)

    def _raised(self, error: Exception, seconds: float) -> RunResult:
        names = tuple(self.signature.output_fields)
        run = getattr(error, "run", None) or RunReport(
            status="failed",
            stopped_by=type(error).__name__,
            steps=(),
            llm_calls=0,
            seconds=seconds,
            cost=0.0,
            cost_at_most=0.0,
            missing=names,
        )
        return RunResult({name: run.partial_outputs.get(name) for name in names}, run, error)
