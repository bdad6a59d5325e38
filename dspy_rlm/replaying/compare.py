"""Compares two recorded runs: the place where they part, and what each took. Reads journals only."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Literal

from dspy_rlm.journal import load
from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import RunRecord, StepRecord, read_text
from dspy_rlm.recorded.differences import Difference
from dspy_rlm.recorded.keys import value_key_of
from dspy_rlm.reports.report import added
from dspy_rlm.reports.text import count

Part = Literal["inputs", "prompt", "reply", "code", "output", "shown", "length", "outputs"]

_TITLES = {
    "inputs": "They have other inputs",
    "prompt": "The root LM was asked something else",
    "reply": "The root LM replied something else",
    "code": "The root LM wrote other code",
    "output": "The cell ended in another way",
    "shown": "The root LM saw something else of the output",
    "length": "One of them ended",
    "outputs": "They ended with other outputs",
}


@dataclasses.dataclass(frozen=True)
class Taken:
    """The amounts that a recorded run took."""

    path: str
    steps: int
    llm_calls: int
    """All LM calls that were sent, those of the root LM too."""

    input_tokens: int | None
    """None: a call did not report them. The same holds for the next two."""

    output_tokens: int | None
    cost: float | None
    """US dollars."""

    cached: int = 0
    """Calls that a cache answered."""

    status: str = "crashed"
    """The end of the run; `crashed` if its journal has no end."""

    @classmethod
    def of(cls, record: RunRecord) -> Taken:
        """Returns what a run with its sub-runs took."""
        sent, cached = 0, 0
        tokens_in: Any = 0
        tokens_out: Any = 0
        cost: Any = 0.0
        for call in record.calls():
            for attempt in call.attempts:
                if attempt.cached:
                    cached += 1
                    continue
                sent += 1
                tokens_in = added(tokens_in, attempt.input_tokens)
                tokens_out = added(tokens_out, attempt.output_tokens)
                cost = added(cost, attempt.cost)
        status = str(record.ended.get("status", "")) if record.ended else "crashed"
        return cls(
            record.path, len(record.steps), sent, tokens_in, tokens_out, cost, cached, status
        )

    def __str__(self) -> str:
        tokens = (
            "tokens unknown"
            if self.input_tokens is None or self.output_tokens is None
            else f"{self.input_tokens:,} + {self.output_tokens:,} tokens"
        )
        cost = "cost unknown" if self.cost is None else f"${self.cost:.4f}"
        calls = count(self.llm_calls, "LM call")
        return f"{self.status} after {count(self.steps, 'step')}, {calls}, {tokens}, {cost}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The place where two runs part, and the amounts that each took."""

    a: Taken
    b: Taken
    parted_at: int | None = None
    """The number of the first step that differs; None if no step does. 0: their inputs differ."""

    part: Part | None = None
    """The first difference; None if nothing does."""

    of_a: str = ""
    of_b: str = ""
    same_steps: int = 0
    """The steps before."""

    @property
    def same(self) -> bool:
        """True if the runs do not differ."""
        return self.part is None

    def __str__(self) -> str:
        lines = [f"a: {self.a}", f"b: {self.b}"]
        if self.part is None:
            return "\n".join([*lines, f"The runs are the same in {count(self.a.steps, 'step')}."])
        where = f"at step {self.parted_at}" if self.parted_at else "at their ends"
        where = "before their first step" if self.parted_at == 0 else where
        difference = Difference("end", None, self.of_a, self.of_b).diff("a", "b")
        return "\n".join([*lines, f"They part {where}: {_TITLES[self.part]}.", difference])


def compare(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> Comparison:
    """Returns where two recorded runs part, and what each took.

    Args:
        a: The journal of a run.
        b: That of the other one.

    Raises:
        JournalError: A file is no journal.
    """
    one, other = load(a), load(b)
    whole = Comparison(Taken.of(one), Taken.of(other))
    if (inputs := _inputs(one)) != _inputs(other):
        return dataclasses.replace(
            whole, parted_at=0, part="inputs", of_a=str(inputs), of_b=str(_inputs(other))
        )
    for step, counterpart in zip(one.steps, other.steps, strict=False):
        if (found := _parted(step, counterpart)) is not None:
            part, of_a, of_b = found
            return dataclasses.replace(
                whole,
                parted_at=step.number,
                part=part,
                of_a=of_a,
                of_b=of_b,
                same_steps=step.number - 1,
            )
    same = min(len(one.steps), len(other.steps))
    whole = dataclasses.replace(whole, same_steps=same)
    if len(one.steps) != len(other.steps):
        return dataclasses.replace(
            whole, parted_at=same + 1, part="length", of_a=str(whole.a), of_b=str(whole.b)
        )
    if (outputs := _outputs(one)) != _outputs(other):
        return dataclasses.replace(whole, part="outputs", of_a=outputs, of_b=_outputs(other))
    return whole


def _inputs(record: RunRecord) -> dict[str, str]:
    return {name: value_key_of(value) for name, value in record.inputs.items()}


def _outputs(record: RunRecord) -> str:
    if record.outputs is None:
        return "no outputs"
    lines = []
    for name, value in record.outputs.items():
        try:
            lines.append(f"{name} = {record.value(value)!r}")
        except MissingValueError:
            lines.append(f"{name} = {value_key_of(value)}")
    return "\n".join(lines)


def _parted(a: StepRecord, b: StepRecord) -> tuple[Part, str, str] | None:
    """Returns the first part in which two steps differ, with both sides."""
    for one, other in zip(a.root_calls, b.root_calls, strict=False):
        # Their digests also depend on the model and its options, which may differ without a difference.
        if (
            one.digest != other.digest
            and (texts := (one.prompt.text(), other.prompt.text()))[0] != texts[1]
        ):
            return "prompt", *texts
    pairs: list[tuple[Part, str, str]] = [
        ("reply", read_text(a.reasoning), read_text(b.reasoning)),
        ("code", read_text(a.code), read_text(b.code)),
        ("output", _output(a), _output(b)),
        ("shown", read_text(a.shown), read_text(b.shown)),
    ]
    # The code says more than the reasoning before it.
    pairs.sort(key=lambda pair: pair[0] != "code")
    return next((pair for pair in pairs if pair[1] != pair[2]), None)


def _output(step: StepRecord) -> str:
    cell = step.cell
    if cell is None:
        return ""
    return f"{read_text(cell.output)}{read_text(cell.traceback) or read_text(cell.message)}"
