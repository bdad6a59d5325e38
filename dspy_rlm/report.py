"""Records of a run: its steps, its calls of LMs, and the report at its end. Data; decides nothing."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any, Literal

# What the report says of a call that was still under way when the run ended.
UNDER_WAY = "Not answered yet when the run ended."


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an LM: what it was for, and what it took."""

    kind: str
    """What asked: `action` and `extract` of a run, or the name of a function of the REPL."""

    model: str
    depth: int
    """Of the run that it was made for: 0 is the root."""

    chars_in: int = 0
    chars_out: int = 0
    seconds: float = 0.0
    input_tokens: int | None = None
    """None: not reported, or not waited for."""
    output_tokens: int | None = None
    cost: float | None = None
    """US dollars; None: the price is unknown, or the answer was not waited for."""
    cached: bool = False
    """Answered from DSPy's cache, for nothing."""
    error: str = ""
    """What went wrong, if anything did."""

    @property
    def is_sub_call(self) -> bool:
        """True for what code asked for; false for the root run's own turns."""
        return self.depth > 0 or self.kind not in ("action", "extract")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What the calls of one model at one depth took together."""

    model: str
    depth: int
    calls: int = 0
    """Calls that were sent."""
    cached: int = 0
    """Calls that a cache answered, for nothing."""
    input_tokens: int | None = 0
    """None: a call did not report them."""
    output_tokens: int | None = 0
    cost: float | None = 0.0
    """US dollars; None: the price of a call is unknown."""

    def plus(self, call: Call) -> Usage:
        """With one call more."""
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
    """The sum; None where a part of it is not known."""
    return None if one is None or other is None else one + other


# Changes when a saved trajectory can no longer be read the same way.
FORMAT_VERSION = 1


Status = Literal["running", "submitted", "extracted", "failed"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One turn: what the root LM thought and wrote, and what came of it, as it came."""

    reasoning: str
    code: str
    output: str

    note: str = dataclasses.field(default="", compare=False)
    """The end of the output that is the harness's own words, which a prompt shows as they are."""


@dataclasses.dataclass(frozen=True)
class RunReport:
    """How a run went; `prediction.run`, and the `run` of an error that ended one."""

    status: Status
    """`submitted` by the LM, `extracted` after the last iteration, or `failed`."""

    stopped_by: str
    """What ended the run: `SUBMIT`, the name of a limit, or the name of an exception."""

    steps: tuple[Step, ...] = dataclasses.field(repr=False)
    llm_calls: int
    """Calls of LMs that the run's code has caused, those of sub-runs among them."""

    seconds: float
    """Wall time from the inputs to here."""

    started_at: datetime | None = None
    """When the run began."""

    usage: tuple[Usage, ...] = ()
    """Calls, tokens and cost, by depth and model. Sub-runs are at depth 1 and below."""

    cost: float | None = None
    """US dollars in all; None if what a call costs is unknown, or it was under way at the end."""

    sub_calls: tuple[Call, ...] = dataclasses.field(default=(), repr=False)
    """The calls that code has caused, one by one."""

    under_way: tuple[Call, ...] = dataclasses.field(default=(), repr=False)
    """The calls that were not answered when the run ended: they are in `usage`, and `cost` is None with them."""

    cost_at_most: float | None = None
    """US dollars in all, with the most that calls can cost whose end nobody waited for. None: no bound is
    known, as where `max_cost` did not ask for one."""

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
        """The report as plain data, with its format version, for files."""
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
            "under_way": [dataclasses.asdict(call) for call in self.under_way],
            "trajectory": self.trajectory,
        }
