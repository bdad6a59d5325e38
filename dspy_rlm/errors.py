"""The exceptions of `dspy_rlm`.

A mistake of the LM is an observation for the LM, never an exception. The tree:

    RLMError
    ├── SignatureError        an argument of the constructor is invalid (also a ValueError)
    ├── InputError            a call's inputs do not fit the signature (also a ValueError)
    ├── BudgetExceededError   a limit was reached; raised inside the REPL, where the LM sees it
    │   └── PriceUnknownError the price of a model is unknown, so `max_cost` cannot be enforced
    ├── SubCallError          a sub-call had no usable result; raised inside the REPL (also a ValueError)
    ├── RunEndedError         a call for a run that has ended; raised in the threads that outlive it
    └── RunFailedError        a run ended without outputs; carries its report
        └── RunPausedError    an LM could not be reached for a while; the run itself has not failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_rlm.report import RunReport


class RLMError(Exception):
    """Base class of all errors of `dspy_rlm`."""


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


class SubCallError(RLMError, ValueError):
    """A sub-call had no usable result: no reply fitted the signature, or a sub-run failed."""


class RunEndedError(RLMError):
    """The run of a call has ended or was cancelled. Nothing was sent."""


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
