"""Turns tracing on and off for all runs of the process."""

from __future__ import annotations

from typing import Any

from dspy_rlm.errors import SignatureError
from dspy_rlm.process_settings import process_settings, replace_process_settings
from dspy_rlm.tracing.attributes import Content
from dspy_rlm.tracing.backends import Backend
from dspy_rlm.tracing.others import mlflow_shares_provider, mlflow_traces_dspy


class _Choice:
    """Chooses the backend of a run that begins."""

    def __init__(self, provider: Any, content: Content, has_dspys_spans: bool | None) -> None:
        from dspy_rlm.tracing.otel import OtelBackend

        self._otel = OtelBackend(provider, content, has_dspys_spans)
        self._follows_mlflow = provider is None
        self._content = content

    def backend(self) -> Backend | None:
        """Returns MLflow's traces if it traces DSPy to a place of its own, else OpenTelemetry's, if they are not suppressed."""
        if self._follows_mlflow and mlflow_traces_dspy() and not mlflow_shares_provider():
            from dspy_rlm.tracing.mlflow_spans import MlflowBackend

            return MlflowBackend(self._content)
        return None if self._otel.is_suppressed() else self._otel


def instrument(
    tracer_provider: Any = None,
    *,
    content: bool = True,
    max_chars: int = 50_000,
    dspy_is_traced: bool | None = None,
) -> None:
    """Makes spans of all runs that begin from now on, until `uninstrument`. A second call replaces the first.

    Args:
        tracer_provider: Of OpenTelemetry. None: the traces of MLflow while `mlflow.dspy.autolog()` is on, else the global provider.
        content: Whether spans have prompts, replies, code, outputs, arguments and results.
        max_chars: The characters of each of these that a span has.
        dspy_is_traced: Whether another instrumentation makes spans of DSPy's modules, LM calls and tools in the same place. Then
            only iterations, cells and functions of the REPL are added. None: it is, while MLflow's autolog or Phoenix's
            `DSPyInstrumentor` is on.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed: `pip install "dspy-rlm[otel]"`.
        SignatureError: `max_chars` is not positive.
    """
    if max_chars < 1:
        raise SignatureError(f"max_chars must be positive, and is {max_chars}.")
    try:
        choice = _Choice(tracer_provider, Content(content, max_chars), dspy_is_traced)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Tracing needs OpenTelemetry. Install it: pip install "dspy-rlm[otel]".',
            name=error.name,
        ) from error
    replace_process_settings(tracing=choice)


def uninstrument() -> None:
    """Makes no spans of runs that begin from now on."""
    replace_process_settings(tracing=None)


def current_backend() -> Backend | None:
    """Returns the backend for a run that begins; None if runs are not traced."""
    choice = process_settings().tracing
    return choice.backend() if isinstance(choice, _Choice) else None
