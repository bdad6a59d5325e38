"""Everything that `dspy_rlm` raises.

What the LM does wrong is an observation for the LM, never an exception. The tree:

    RLMError
    ├── SignatureError        the constructor was given what cannot work (also a ValueError)
    ├── InputError            a call's inputs do not fit the signature (also a ValueError)
    ├── BudgetExceededError   a limit was reached; raised inside the REPL, where the LM sees it
    │   └── PriceUnknownError the price of a model is not known, so that dollars cannot be limited
    ├── SubCallError          a sub-call gave nothing usable; raised inside the REPL (also a ValueError)
    ├── RunEndedError         something was asked for a run that has ended; raised in what it left behind
    └── RunFailedError        a run ended without outputs; carries all that there is of it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_rlm.report import RunReport


class RLMError(Exception):
    """Base class of all errors of `dspy_rlm`."""


class SignatureError(RLMError, ValueError):
    """A signature, a tool or a limit cannot be used; raised by the constructor."""


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
    """A limit in dollars cannot be kept: the LM has answered, and nobody knows for how much."""


class SubCallError(RLMError, ValueError):
    """A sub-call gave nothing usable: no reply fitted the signature, or a sub-run failed."""


class RunEndedError(RLMError):
    """The run that a call was for has ended or was cancelled. Nothing was sent."""


class RunFailedError(RLMError):
    """A run ended without outputs: an LM or the sandbox failed. The cause is chained.

    Attributes:
        run: The trajectory, the spending and what stopped the run.
    """

    def __init__(self, message: str, *, run: RunReport) -> None:
        super().__init__(message)
        self.run = run
