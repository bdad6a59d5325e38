"""The exit codes of the command line, and the errors that lead to them.

Errors are recognized by the names of their classes, so that a command that fails early imports neither DSPy nor the
sandbox.
"""

from __future__ import annotations

COMPLETE = 0
"""The outputs were submitted; or are not, with `--allow-partial`."""

FAILED = 1
"""A check that a command makes has a negative result: a wrong answer of the demo, two runs that differ."""

USAGE = 2
"""An invalid argument."""

NOT_SUBMITTED = 3
"""There are outputs, but partial or extracted ones."""

BUDGET = 4
"""A limit was reached without an answer."""

INPUT = 10
"""An input, or a recorded run, cannot be read or used."""

CONFIGURATION = 11
"""No model, an unknown one, one without a price; a tool or a folder that cannot be used."""

MODEL = 20
"""The server of a model failed, or refused the request."""

AUTHENTICATION = 21
"""A key is missing or wrong."""

SANDBOX = 30
"""The sandbox could not be started, or died."""

INTERRUPTED = 130
"""Ctrl-C, also where there is an answer: 128 and the number of SIGINT, as shells have it."""

# The first that fits applies, so a class stands before its bases. By package: our own names and DSPy's must not mix.
_CODES = (
    (("dspy_rlm", "PriceUnknownError"), CONFIGURATION),
    (("dspy_rlm", "BudgetExceededError"), BUDGET),
    (("dspy_rlm", "RunExhaustedError"), BUDGET),
    (("dspy_rlm", "RunInterruptedError"), INTERRUPTED),
    (("dspy_rlm", "JournalError"), INPUT),
    (("dspy_rlm", "InputError"), INPUT),
    (("dspy_rlm", "ViewerError"), CONFIGURATION),
    (("dspy_rlm", "JobError"), CONFIGURATION),
    (("dspy_rlm", "SignatureError"), USAGE),
    (("dspy_rlm", "ToolServerError"), CONFIGURATION),
    (("dspy", "LMAuthError"), AUTHENTICATION),
    (("dspy", "LMConfigurationError"), AUTHENTICATION),
    (("dspy", "LMError"), MODEL),
    (("dspy", "AdapterParseError"), MODEL),
    (("dspy", "CodeInterpreterError"), SANDBOX),
    # A file in place that changed, or whose compressed data is damaged further on.
    (("sandbox_runtime", "TextChangedError"), INPUT),
    (("sandbox_runtime", "UnreadableTextError"), INPUT),
    (("sandbox_runtime", "SandboxError"), SANDBOX),
    (("builtins", "KeyboardInterrupt"), INTERRUPTED),
)


class CommandError(Exception):
    """An error with an exit code of its own. Its text says what is wrong, why, and what to do.

    Attributes:
        code: The exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: BaseException) -> int | None:
    """Returns the exit code of an error; None for one that the command line does not expect."""
    if isinstance(error, CommandError):
        return error.code
    names = _names(error)
    if ("dspy_rlm", "RunFailedError") in names and ("dspy_rlm", "RunExhaustedError") not in names:
        return _code_of_run(error)
    return next((code for name, code in _CODES if name in names), None)


def _code_of_run(error: BaseException) -> int:
    cause = error.__cause__
    if cause is None:
        return MODEL
    if ("dspy", "AdapterParseError") in _names(cause):
        # A turn whose reply cannot be read is lost, no more. So this one was the extraction, after the last turn.
        return BUDGET
    return code_of(cause) or MODEL


def _names(error: BaseException) -> set[tuple[str, str]]:
    return {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(error).__mro__}


def code_of_answer(status: str, stopped_by: str, *, allow_partial: bool) -> int:
    """Returns the exit code of a run with outputs."""
    if stopped_by == "interrupted":
        return INTERRUPTED
    return COMPLETE if status == "submitted" or allow_partial else NOT_SUBMITTED
