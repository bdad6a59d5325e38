"""Writes a run's steps to DSPy's trace, the only part of a run that optimizers see.

DSPy writes an entry for each reply that could be parsed. This module adds the rest: the result of the
step, replies that could not be parsed, and the end of a failed run. A nested run writes to a trace of its
own where its steps could be confused with those of the outer run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import dspy
from dspy import AdapterParseError, LMError

from dspy_rlm.dspy_internals.traces import FailedPrediction, collects_trace
from dspy_rlm.errors import NoTurnLeftError, RunExhaustedError, RunFailedError, RunPausedError
from dspy_rlm.lms.faults import is_passing
from dspy_rlm.reports.report import RunReport
from sandbox_runtime.helpers import abridged, redact_secrets

# The longest part of an exception that the message of a failed run repeats, and that optimizers show to
# their LM. The exception itself is its `__cause__`.
SHOWN_ERROR_CHARS = 10_000


class FailedStep(FailedPrediction):
    """A step without an action, as GEPA's failed prediction.

    Optimizers that read steps as mappings find `output`, the message to the LM, and no code; so it never
    becomes a demo.
    """

    def __init__(self, completion_text: str, output: str = "", *, replied: bool = True) -> None:
        super().__init__(completion_text=completion_text)
        self.output = output
        self.replied = replied  # False if the text is not the LM's but describes the end of the run

    def keys(self) -> tuple[str, ...]:
        """Returns the name of the one field."""
        return ("output",)

    def __getitem__(self, name: str) -> str:
        return {"output": self.output}[name]

    def __setitem__(self, name: str, value: str) -> None:
        setattr(self, name, value)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the field, or the default for any other name."""
        return self.output if name == "output" else default


TracedStep: TypeAlias = "dspy.Prediction | FailedStep"


class RunDiedError(RunFailedError, AdapterParseError):
    """A run that ended without outputs although the LM answered.

    DSPy's optimizers keep the trace of a failed program only if it fails with an `AdapterParseError`.
    """

    def __init__(
        self, message: str, *, run: RunReport, signature: type[dspy.Signature] | None
    ) -> None:
        Exception.__init__(self, message)
        self.run = run
        self.adapter_name = "RLM"
        self.signature = signature
        self.lm_response = self.message = message
        self.parsed_result = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the error. A signature that was written as a string is no class that another process can import."""
        restore, (cls, arguments, attributes) = super().__reduce__()
        if not _is_importable(self.signature):
            attributes = {**attributes, "signature": None}
        if cls in _BY_PICKLED_NAME.values():  # pickle would take its name for the public class
            name = next(name for name, its in _BY_PICKLED_NAME.items() if its is cls)
            return _restored_by_name, (name, arguments, attributes)
        return restore, (cls, arguments, attributes)


def _is_importable(cls: Any) -> bool:
    module = sys.modules.get(getattr(cls, "__module__", ""))
    return cls is None or getattr(module, getattr(cls, "__qualname__", ""), None) is cls


class RunExhaustedDiedError(RunDiedError, RunExhaustedError):
    """The same for a run that may not extract its outputs."""


# A user reads the names of the public classes, which `except` takes, in tracebacks and reports.
_BY_PICKLED_NAME: dict[str, type[RunDiedError]] = {
    "RunDiedError": RunDiedError,
    "RunExhaustedDiedError": RunExhaustedDiedError,
}
for _cls, _public in ((RunDiedError, RunFailedError), (RunExhaustedDiedError, RunExhaustedError)):
    _cls.__name__, _cls.__qualname__ = _public.__name__, _public.__qualname__
    _cls.__module__ = _public.__module__


def _restored_by_name(
    name: str, arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> RunDiedError:
    cls = _BY_PICKLED_NAME[name]
    error = cls.__new__(cls, *arguments)
    error.__dict__.update(attributes)
    return error


def add_step(predictor: dspy.Predict, inputs: Mapping[str, str], step: TracedStep | None) -> None:
    """Adds a step that DSPy did not record to the caller's trace, if there is one."""
    trace = dspy.settings.trace
    if step is None or trace is None or dspy.settings.max_trace_size <= 0:
        return
    if len(trace) >= dspy.settings.max_trace_size:
        trace.pop(0)
    trace.append((predictor, dict(inputs), step))


def failure(
    error: Exception, run: RunReport, predictor: dspy.Predict, inputs: Mapping[str, str]
) -> RunFailedError:
    """Returns the exception for a run that ended without outputs, and adds the end to the trace.

    An unreachable LM is not the prompt's fault, so optimizers must not learn from it: it adds no entry.
    """
    message = (
        f"The run failed after {run.iterations} step(s): {type(error).__name__}: "
        f"{abridged(redact_secrets(str(error)), SHOWN_ERROR_CHARS)}\n"
    )
    if is_passing(error):
        return RunPausedError(f"{message}{_resumption(run)}", run=run)
    message = f"{message}What it found so far is in the `run` of this error."
    if isinstance(error, LMError):
        return RunFailedError(message, run=run)
    add_step(predictor, inputs, FailedStep(message, message, replied=False))
    signature = getattr(predictor, "signature", None)
    if not isinstance(error, NoTurnLeftError):
        return RunDiedError(message, run=run, signature=signature)
    died = RunExhaustedDiedError(message, run=run, signature=signature)
    died.limit = error.limit
    return died


def _resumption(run: RunReport) -> str:
    """Returns how a run goes on whose LM could not be reached."""
    journal = getattr(run, "journal", None)
    resume = (
        f"rlm.resume({str(journal)!r}) goes on from there"
        if journal
        else "with a journal, RLM(..., journal=True), rlm.resume(path) could go on from there"
    )
    return (
        f"It is paused: an LM could not be reached. When it answers again, {resume}. "
        "What it found so far is in the `run` of this error."
    )


@contextlib.contextmanager
def apart_from_outer_runs(predictor: dspy.Predict) -> Iterator[None]:
    """Keeps the steps of a nested run out of the outer trace where they could be confused with its own.

    GEPA attributes an entry to a predictor if the signatures are equal.

    With `disable_history`, steps stay out of the trace of the process too: DSPy keeps the last 10,000 of its entries, and
    each has a whole prompt.
    """
    if dspy.settings.disable_history and not collects_trace():
        with dspy.context(trace=None):
            yield
        return
    *outer, _own = dspy.settings.caller_modules or [None]
    own = getattr(predictor, "signature", None)
    if own is not None and any(
        _signature(module) and own.equals(_signature(module)) for module in outer
    ):
        with dspy.context(trace=[]):
            yield
    else:
        yield


def _signature(module: object) -> Any:
    return getattr(getattr(module, "generate_action", None), "signature", None)
