"""The records of LM calls, with their attempts, and of calls of tools."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from dspy_rlm.journal.records.references import (
    Prompt,
    Text,
    ValueRecord,
    read_refs,
)


@dataclasses.dataclass(frozen=True)
class ErrorRecord:
    """An exception."""

    type: str
    """The name of its class."""

    message: Text
    """The text of the exception."""

    status: int | None = None
    """The HTTP status, if a server has answered with one."""


@dataclasses.dataclass(frozen=True)
class AttemptRecord:
    """One request of a call, as it is booked on the ledger."""

    started_at: float
    """Seconds since the epoch."""

    seconds: float
    """Wall time of the request."""

    error: str = ""
    """The class and the text of the error; empty if there was a reply."""

    cached: bool = False
    """True if DSPy's cache replied."""

    input_tokens: int | None = None
    """None: not reported, or the reply was not waited for. The same holds for the next two."""

    output_tokens: int | None = None
    """None: as for `input_tokens`."""

    cost: float | None = None
    """US dollars."""

    chars_in: int = 0
    """Characters of the prompt."""

    chars_out: int = 0
    """Characters of the reply."""

    reply_bytes: int = 0
    """Bytes of the reply in UTF-8."""

    discounted: bool = False
    """True if a part of the prompt was charged at a lower price, as with a provider's cache."""

    replayed: tuple[float, float] | None = None
    """The tokens and the dollars that a cached reply had taken when it was computed; None if they do not count."""

    was_cut: bool = False
    """True if the reply ended at its limit of tokens."""

    refusal: Text = ""
    """The words of a refusal, if they are beside the text of the reply."""

    is_final: bool = True
    """False if the reply was cut by the budget, and the call sent again."""

    reserved: tuple[float, float] | None = None
    """The tokens and the dollars that were reserved for it; zeros without a limit that needs them."""


@dataclasses.dataclass(frozen=True)
class CallRecord:
    """One LM call."""

    seq: int
    """The number of the event of its start."""

    call_id: str
    """Unique in the journal."""

    run_id: str
    """The run that made it."""

    iteration: int | None
    """The number of the step; None for an extraction."""

    parent_call: str | None
    """The `call_id` of the REPL's function that made it; None for the run's own turns."""

    kind: str
    """`action`, `extract` or `adapter` for the run's own turns, else the name of the REPL's function."""

    model: str
    """The name of the model, as in `dspy.LM`."""

    depth: int
    """The depth of the run that made it: 0 is the root."""

    digest: str
    """Equal for calls of the same kind, model, prompt and options."""

    prompt: Prompt
    """The messages that were sent."""

    options: Mapping[str, Any]
    """The options of the LM and of the call, without keys and addresses."""

    attempts: tuple[AttemptRecord, ...] = ()
    """Its requests, first to last."""

    outputs: tuple[Any, ...] | None = None
    """The outputs as DSPy returns them, each a text or a dict; long texts are references. None: there is no reply."""

    finish_reason: str = ""
    """The reason for the end of the reply, as the server says; empty if it does not."""

    error: ErrorRecord | None = None
    """The error that the call ended with; None if it was answered, or under way when the journal ends."""

    started_at: float = 0.0
    """Seconds since the epoch."""

    lost: tuple[float, float] | None = None
    """The tokens and the dollars that were reserved for a request of which there is no end: the process was killed, or did
    not wait for it. None if there is no such request."""

    @property
    def answered(self) -> bool:
        """True if there is a reply."""
        return self.outputs is not None

    @property
    def reply(self) -> list[Any]:
        """The outputs with all texts read.

        Raises:
            ValueError: There is no reply.
            MissingValueError: A text is not beside the journal, or damaged.
        """
        if self.outputs is None:
            raise ValueError(f"The call {self.call_id} has no reply.")
        replies: list[Any] = read_refs(self.outputs)
        return replies

    @property
    def was_cut(self) -> bool:
        """True if the reply ended at its limit of tokens."""
        return bool(self.attempts) and self.attempts[-1].was_cut

    @property
    def cached(self) -> bool:
        """True if DSPy's cache replied."""
        return bool(self.attempts) and self.attempts[-1].cached

    @property
    def is_sub_call(self) -> bool:
        """True for a call that code caused; false for the run's own turns."""
        return self.parent_call is not None

    @property
    def input_tokens(self) -> int | None:
        """The tokens of the prompts of all attempts; None if a part is unknown."""
        tokens: int | None = _total(attempt.input_tokens for attempt in self.attempts)
        return tokens

    @property
    def output_tokens(self) -> int | None:
        """The tokens of the replies of all attempts; None if a part is unknown."""
        tokens: int | None = _total(attempt.output_tokens for attempt in self.attempts)
        return tokens

    @property
    def cost(self) -> float | None:
        """US dollars of all attempts; None if a part is unknown."""
        cost: float | None = _total(attempt.cost for attempt in self.attempts)
        return cost


def _total(parts: Iterator[Any]) -> Any:
    known = list(parts)
    return None if None in known else sum(known)


@dataclasses.dataclass(frozen=True)
class ToolRecord:
    """One call of a user's tool, or of a function of the REPL."""

    seq: int
    """The number of the event of its start."""

    call_id: str
    """Unique in the journal."""

    run_id: str
    """The run whose code made it."""

    iteration: int | None
    """The number of the step; None outside of one."""

    name: str
    """The name in the REPL."""

    is_tool: bool
    """True for a tool of the user; false for a function of the REPL, whose LM calls are recorded instead of its
    arguments and its result."""

    arguments: ValueRecord | None = None
    """The positional arguments and those by name, as JSON: `[[...], {...}]`."""

    result: ValueRecord | None = None
    """None: it failed, was under way when the journal ends, or is a function of the REPL."""

    error: ErrorRecord | None = None
    """The exception that it raised; None if it returned."""

    started_at: float = 0.0
    """Seconds since the epoch."""

    seconds: float | None = None
    """None: it was under way when the journal ends."""
