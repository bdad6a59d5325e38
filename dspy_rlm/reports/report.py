"""Records of a run: its steps, its LM calls, and the report at its end. Data only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic_core import to_jsonable_python

from dspy_rlm.reports.provenance import InputCoverage, Lineage

# The `error` of a call that was still in flight when the run ended.
UNDER_WAY = "Not answered yet when the run ended."


@dataclasses.dataclass(frozen=True)
class Call:
    """One LM call: its purpose and its cost."""

    kind: str
    """The caller: `action`, `extract` or `compact` (a summary of old steps) for the run's own, else the name of the
    REPL's function."""

    model: str
    """The name of the model, as in `dspy.LM`."""

    depth: int
    """The depth of the run that made the call: 0 is the root."""

    chars_in: int = 0
    """Characters of the prompt."""
    chars_out: int = 0
    """Characters of the reply."""
    seconds: float = 0.0
    """Wall time of the call."""
    input_tokens: int | None = None
    """None: not reported, or the reply was not waited for."""
    output_tokens: int | None = None
    """None: as for `input_tokens`."""
    cost: float | None = None
    """US dollars; None: the price is unknown, or the reply was not waited for."""
    cached: bool = False
    """True if DSPy's cache replied, at no cost."""
    error: str = ""
    """The error, or an empty string."""

    @property
    def is_sub_call(self) -> bool:
        """True for a call that code caused; false for the root run's own turns."""
        return self.depth > 0 or self.kind not in ("action", "extract", "compact")


@dataclasses.dataclass(frozen=True)
class Usage:
    """The totals of one model's calls at one depth."""

    model: str
    """The name of the model, as in `dspy.LM`."""

    depth: int
    """0 for the calls of the root run, 1 and below for those of sub-runs."""

    calls: int = 0
    """Calls that were sent."""
    cached: int = 0
    """Calls that a cache answered, at no cost."""
    input_tokens: int | None = 0
    """None: a call did not report them."""
    output_tokens: int | None = 0
    """None: a call did not report them."""

    cost: float | None = 0.0
    """US dollars; None: the price of a call is unknown."""

    def plus(self, call: Call) -> Usage:
        """Returns the totals with one more call."""
        if call.cached:
            return dataclasses.replace(self, cached=self.cached + 1)
        return dataclasses.replace(
            self,
            calls=self.calls + 1,
            input_tokens=added(self.input_tokens, call.input_tokens),
            output_tokens=added(self.output_tokens, call.output_tokens),
            cost=added(self.cost, call.cost),
        )


def added(one: Any, other: Any) -> Any:
    """Returns the sum; None if a part of it is unknown."""
    return None if one is None or other is None else one + other


def tokens_of(usages: Iterable[Usage]) -> int | None:
    """Returns the tokens of prompts and replies; None if a part of them is unknown."""
    total: int | None = 0
    for usage in usages:
        total = added(total, added(usage.input_tokens, usage.output_tokens))
    return total


# Incremented when a saved trajectory can no longer be read in the same way.
FORMAT_VERSION = 1


Status = Literal["running", "submitted", "extracted", "partial", "failed"]


# The ways in which a run ends when no turn is left.
OnExhausted = Literal["extract", "partial", "raise"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One turn: the root LM's reasoning and code, and the output."""

    reasoning: str
    """The reasoning of the root LM."""

    code: str
    """The code of the cell."""

    output: str
    """The output of the cell, as the root LM saw it."""

    note: str = dataclasses.field(default="", compare=False)
    """The end of the output if the harness itself wrote it: a prompt shows it without quoting."""

    gap: int = dataclasses.field(default=0, compare=False)
    """The position in the output of the harness's line about omitted characters; 0 if there is none."""

    printed: str = dataclasses.field(default="", compare=False, repr=False)
    """All that the cell printed and the harness's notes, if `output`, which the LM saw, is not all; else empty."""

    @property
    def whole(self) -> str:
        """All that the cell printed and the harness's notes, whatever the LM saw of it."""
        return self.printed or self.output


@dataclasses.dataclass(frozen=True)
class RunReport:
    """The report of a run: `prediction.run`, or the `run` of the exception that ended it."""

    status: Status
    """`submitted` by the LM, `extracted` when no turn was left, `partial` if some outputs may be missing, or `failed`."""

    stopped_by: str
    """The reason for the end: `SUBMIT`, the name of a limit, `interrupted`, or the name of an exception."""

    steps: tuple[Step, ...] = dataclasses.field(repr=False)
    """The turns of the root LM, first to last."""

    llm_calls: int
    """LM calls that the run's code caused, including those of sub-runs."""

    seconds: float
    """Wall time from the inputs to the end."""

    started_at: datetime | None = None
    """The time at which the run began."""

    usage: tuple[Usage, ...] = ()
    """Calls, tokens and cost, by depth and model. Sub-runs are at depth 1 and below."""

    cost: float | None = None
    """Total in US dollars; None if the cost of a call is unknown, or a call was in flight at the end."""

    sub_calls: tuple[Call, ...] = dataclasses.field(default=(), repr=False)
    """The calls that code caused, one by one."""

    under_way: tuple[Call, ...] = dataclasses.field(default=(), repr=False)
    """The calls in flight when the run ended. They are included in `usage`, and make `cost` None."""

    cost_at_most: float | None = None
    """Total in US dollars, with an upper bound for calls that were not waited for. None: no bound is known,
    as without `max_cost`."""

    repairs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The count of each repair of a reply, by the names in docs/replies.md."""

    turns_lost: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Turns that the form of a reply cost, by cause: `unreadable`, `empty`, `quoted`, `cut_off`, `filtered`,
    `refused`, `other_language`, `shell`, `too_long`, `syntax_error`, `refused_submit`."""

    overflows: int = 0
    """Requests that the root LM refused because the prompt was longer than its context window. The history was
    shortened each time, and the request repeated."""

    compactions: int = 0
    """Times that older steps were shortened so that the prompts of the run fit; see docs/context.md."""

    retries: int = 0
    """Requests of the root LM that failed and were sent again. Those of sub-calls are in `sub_calls`, with their errors."""

    journal: str | None = None
    """The file of the run's journal; None without one. See docs/journal.md."""

    journal_problem: str = ""
    """The reason for which the journal is not complete, such as a full disk; empty if it is."""

    partial_outputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The outputs of a partial or failed run that are there: extracted, submitted or assigned, and of the right type."""

    missing: tuple[str, ...] = ()
    """The names of the other outputs. In a partial prediction they are None."""

    coverage: Mapping[str, InputCoverage] = dataclasses.field(default_factory=dict, repr=False)
    """The part of each input with text that LMs were shown, by name; empty if it was not tracked."""

    lineage: Mapping[str, Lineage] = dataclasses.field(default_factory=dict, repr=False)
    """The origins of each output, by name, as far as they were tracked; empty if the run failed."""

    @property
    def iterations(self) -> int:
        """Turns of the root LM."""
        return len(self.steps)

    @property
    def trajectory(self) -> list[dict[str, str]]:
        """The steps as plain dicts with the keys `reasoning`, `code` and `output`."""
        return [
            {"reasoning": step.reasoning, "code": step.code, "output": step.output}
            for step in self.steps
        ]

    def dump(self) -> dict[str, Any]:
        """Returns the report as plain data for JSON: the fields by name, `trajectory`, and the format version."""
        return {
            "format": FORMAT_VERSION,
            "status": self.status,
            "stopped_by": self.stopped_by,
            "iterations": self.iterations,
            "llm_calls": self.llm_calls,
            "seconds": self.seconds,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "cost": self.cost,
            "cost_at_most": self.cost_at_most,
            "usage": [dataclasses.asdict(usage) for usage in self.usage],
            "sub_calls": [dataclasses.asdict(call) for call in self.sub_calls],
            "repairs": dict(self.repairs),
            "turns_lost": dict(self.turns_lost),
            "overflows": self.overflows,
            "compactions": self.compactions,
            "retries": self.retries,
            "journal": self.journal,
            "journal_problem": self.journal_problem,
            "partial_outputs": to_jsonable_python(
                dict(self.partial_outputs), fallback=str, serialize_unknown=True
            ),
            "missing": list(self.missing),
            "coverage": {name: one.dump() for name, one in self.coverage.items()},
            "lineage": {name: one.dump() for name, one in self.lineage.items()},
            "under_way": [dataclasses.asdict(call) for call in self.under_way],
            "trajectory": self.trajectory,
        }
