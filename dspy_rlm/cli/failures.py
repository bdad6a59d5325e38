"""Errors in words: what is wrong, why, and what to do."""

from __future__ import annotations

from urllib.parse import urlsplit

from dspy_rlm.cli import exit_codes
from dspy_rlm.cli.asking.request import Request

_ADVICE = {
    exit_codes.BUDGET: "Raise the limit, such as --max-iterations, --max-cost or --max-seconds; --on-exhausted partial returns "
    "what there is.",
    exit_codes.SANDBOX: "`dspy-rlm doctor` says which parts work on this machine.",
}


def explain(error: Exception, request: Request | None = None) -> str:
    """Returns the text for an error of a command.

    Args:
        error: An error that has an exit code.
        request: The request of `ask`; None for another command.
    """
    code = exit_codes.code_of(error)
    run = getattr(error, "run", None)
    is_of_run = run is not None or _is_of_lm(error)
    lines = [f"no answer. {named(error)}" if is_of_run else str(error)]
    if run is not None:
        from dspy_rlm.reports.text import spending

        lines.append(f"Spent: {spending(run)}.")
        if run.journal and code in (exit_codes.MODEL, exit_codes.AUTHENTICATION):
            lines.append(f"The run can be resumed: dspy-rlm ask --resume {run.journal}")
    if code in _ADVICE:
        lines.append(_ADVICE[code])
    if code == exit_codes.AUTHENTICATION:
        from dspy_rlm.cli.asking.models import how_to_configure

        model = _model(error) or (request.model if request else None)
        lines.append(f"\n{how_to_configure(model) if model else how_to_configure()}")
    api_base = request.api_base if request else None
    if run is not None and api_base and not urlsplit(api_base).path.strip("/"):
        lines.append("The --api-base has no path. That of most servers ends with /v1.")
    return "\n".join(lines)


def named(error: BaseException) -> str:
    """Returns the class and the text of an error; those of its cause, if a run has ended with it."""
    shown = (
        error.__cause__ if getattr(error, "run", None) is not None and error.__cause__ else error
    )
    return f"{type(shown).__name__}: {shown}"


def _is_of_lm(error: Exception) -> bool:
    return exit_codes.code_of(error) in (exit_codes.MODEL, exit_codes.AUTHENTICATION)


def _model(error: Exception) -> str | None:
    """Returns the model of an LM's error."""
    for one in (error, error.__cause__):
        model = getattr(one, "model", None)
        if isinstance(model, str) and model:
            return model
    return None
