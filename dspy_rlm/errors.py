"""The exceptions of `dspy_rlm`.

A mistake of the LM is an observation for the LM, never an exception. The tree:

    RLMError
    ├── SignatureError        an argument of the constructor is invalid (also a ValueError)
    ├── InputError            a call's inputs do not fit the signature (also a ValueError)
    ├── BudgetExceededError   a limit was reached; raised inside the REPL, where the LM sees it
    │   ├── PriceUnknownError the price of a model is unknown, so `max_cost` cannot be enforced
    │   └── NoTurnLeftError   the cause of a `RunExhaustedError`
    ├── SubCallError          a sub-call had no usable result; raised inside the REPL (also a ValueError)
    ├── ToolServerError       an MCP server cannot be started or reached
    ├── ValidatorError        a validator failed with an exception that is no objection
    ├── RunEndedError         a call for a run that has ended; raised in the threads that outlive it
    ├── JobStoppedError       a call for a job whose money is used up; the cause of a `RunFailedError`
    ├── JobError              a job of `dspy_rlm.batch` cannot begin or go on; no row was lost
    ├── RunInterruptedError   a signal has stopped the work of a run that may still answer; never leaves the run
    └── RunFailedError        a run ended without outputs; carries its report
        ├── RunExhaustedError a limit allows no further turn, and `on_exhausted="raise"`
        └── RunPausedError    an LM could not be reached for a while; the run itself has not failed
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspy_rlm.reports.report import RunReport


class RLMError(Exception):
    """Base class of all errors of `dspy_rlm`."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the message and the attributes, whatever the constructor of a subclass asks for."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(cls: type[RLMError], args: tuple[Any, ...], attributes: dict[str, Any]) -> RLMError:
    """Returns an unpickled exception."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class SignatureError(RLMError, ValueError):
    """A signature, a tool or a limit is invalid; raised by the constructor."""


class InputError(RLMError, ValueError):
    """An input is missing, unknown, of the wrong type, or cannot enter the sandbox."""


class BudgetExceededError(RLMError, RuntimeError):
    """A limit was reached. A call that would exceed it is refused before any money is spent.

    Attributes:
        limit: The name of the limit, such as `max_llm_calls`.
    """

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class PriceUnknownError(BudgetExceededError):
    """A limit in dollars cannot be enforced: the LM has replied, at an unknown price."""


class NoTurnLeftError(BudgetExceededError):
    """A limit allows no further turn, and the outputs may not be extracted."""


class SubCallError(RLMError, ValueError):
    """A sub-call had no usable result: no reply fitted the signature, or a sub-run failed."""


class ToolServerError(RLMError):
    """An MCP server cannot be started or reached, or does not keep to the protocol; no LM was called.

    Attributes:
        server: The name of the server.
        was_sent: False if a call of a tool certainly did not reach the server, so that it can be sent again.
    """

    def __init__(self, message: str, *, server: str = "", was_sent: bool = True) -> None:
        super().__init__(message)
        self.server = server
        self.was_sent = was_sent


class ValidatorError(RLMError):
    """A validator failed with an exception that is no objection; the cause is chained. It ends the run.

    Attributes:
        outputs: The outputs that it was called with.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.outputs: Mapping[str, Any] = {}


class RunEndedError(RLMError):
    """The run of a call has ended or was cancelled. Nothing was sent."""


class JobStoppedError(RLMError):
    """The job that the run is a part of has stopped: its `max_cost` is used up, or cannot be kept. Nothing was sent, and the
    run can be resumed."""


class JobError(RLMError):
    """A job of `dspy_rlm.batch` cannot begin or go on. Finished rows are kept.

    Attributes:
        report: The report so far; None if no row was begun.
    """

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class RunInterruptedError(RLMError):
    """Ctrl-C or SIGTERM has stopped the work of a run. The run itself goes on, with its last turn."""


class RunFailedError(RLMError):
    """A run ended without outputs: an LM or the sandbox failed. The cause is chained.

    Attributes:
        run: The report: trajectory, spending, and the reason for the end.
    """

    def __init__(self, message: str, *, run: RunReport) -> None:
        super().__init__(message)
        self.run = run


class RunPausedError(RunFailedError):
    """A run ended without outputs because an LM's server, its gateway or the connection failed, after the retries.

    Nothing is wrong with the run itself: with a journal it goes on from its last step.
    """


class RunExhaustedError(RunFailedError):
    """A limit allows no further turn, nothing was submitted, and `on_exhausted="raise"`.

    The outputs that are there nevertheless are `run.partial_outputs`.

    Attributes:
        limit: The name of the limit, such as `max_iterations`.
    """

    def __init__(self, message: str, *, run: RunReport, limit: str) -> None:
        super().__init__(message, run=run)
        self.limit = limit
