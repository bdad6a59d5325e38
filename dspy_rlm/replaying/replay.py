"""Repeats a recorded run with its recorded answers: as a regression test, or with something changed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from dspy_rlm.budget.budget import Price
from dspy_rlm.errors import RunFailedError
from dspy_rlm.journal import load
from dspy_rlm.journal.records import CallRecord, RunRecord
from dspy_rlm.recorded.differences import Difference
from dspy_rlm.recorded.endings import report_of
from dspy_rlm.recorded.exceptions import EndOfRecordError
from dspy_rlm.recorded.inputs import recorded_inputs
from dspy_rlm.recorded.keys import value_key, value_key_of
from dspy_rlm.recorded.pooled import PooledPlayback
from dspy_rlm.recorded.run_playback import Policy, RunPlayback
from dspy_rlm.replaying.compare import Taken
from dspy_rlm.replaying.stand_ins import module_for, unknown_types
from dspy_rlm.reports.report import RunReport, added
from dspy_rlm.rlm import RLM

# DSPy's adapters that need no arguments.
_ADAPTERS = ("ChatAdapter", "JSONAdapter", "XMLAdapter")


@dataclasses.dataclass(frozen=True)
class Replay:
    """The result of a replay."""

    differences: Sequence[Difference]
    """The places where it parted from the record, in their order."""

    run: RunReport | None
    """The report of the repeated run; None if it could not start, or the record has no end."""

    steps: int
    """The steps that were repeated."""

    recorded_cost: float | None
    """US dollars of the recorded run; None: a price is unknown."""

    cost: float | None
    """US dollars that it would have taken now: recorded answers at their price, or at that of `prices`."""

    reused: int = 0
    """LM calls that had a recorded answer."""

    sent: int = 0
    """LM calls that were sent, because the record has no answer to them."""

    outputs: Mapping[str, Any] | None = None
    """The outputs of the repeated run; None if it had none."""

    notes: tuple[str, ...] = ()
    """The parts that could not be compared."""

    @property
    def same(self) -> bool:
        """True if nothing differs."""
        return not self.differences

    @property
    def first(self) -> Difference | None:
        """The first difference; None if nothing differs."""
        return self.differences[0] if self.differences else None

    def __str__(self) -> str:
        head = f"{self.steps} steps repeated with {self.reused} recorded answers"
        if self.sent:
            head += f" and {self.sent} new ones"
        costs = f"{_dollars(self.recorded_cost)} recorded, {_dollars(self.cost)} now"
        found = "the same" if self.first is None else str(self.first)
        more = len(self.differences) - 1
        tail = [f"and {more} more differences"] if more > 0 else []
        return "\n".join([f"{head}; {costs}.", found, *tail, *self.notes])


def _dollars(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:.4f}"


def replay(
    journal: str | os.PathLike[str],
    /,
    *,
    rlm: RLM | None = None,
    lm: dspy.BaseLM | None = None,
    instructions: str | None = None,
    prices: Mapping[str, tuple[float, float]] | None = None,
    prompts: bool = True,
    **inputs: Any,
) -> Replay:
    """Repeats a recorded run in a new sandbox, with the recorded answers of its LMs and tools.

        assert replay("run.jsonl").same

    Without `lm` and `instructions`, nothing is sent, and no LM, key or tool is needed. With one of them the root LM is
    called, for its answers may be others; its sub-calls have the recorded answers as far as they ask the same.

    Args:
        journal: The journal of the run.
        rlm: The RLM to repeat it with, with its own types, tools and prompts. None: one is built from the journal.
        lm: The LM that writes the code.
        instructions: The instructions of the task.
        prices: US dollars per million tokens of prompts and of replies, by model.
        prompts: Whether the prompts of the root LM are compared too. They differ between versions of this package.
        **inputs: The inputs that the journal does not hold.

    Raises:
        JournalError: It is no journal.
        InputError: An input is missing.
    """
    record = load(journal)
    if lm is not None or instructions is not None:
        return _counterfactual(record, rlm, lm, instructions, prices, inputs)
    module = module_for(record, rlm)
    differences: list[Difference] = []
    unknown = [] if rlm is not None else unknown_types(record)
    until = None if record.ended else len(record.steps)
    policy = Policy(
        until=until,
        live=False,
        retries=False,
        restores=False,
        compares_prompts=prompts and not unknown,
        by_content=True,
    )
    playback = RunPlayback(record, policy, differences)
    values = recorded_inputs(record, module.signature, inputs)
    with dspy.context(adapter=dspy.settings.adapter if rlm is not None else _adapter_of(record)):
        run, outputs = _run(module, playback, values)
    if run is not None and record.ended is not None:
        differences += _ends(record, run, outputs)
    notes = [
        f"The journal has only the fields of the classes in {', '.join(unknown)}; pass rlm= to compare prompts too."
    ] * bool(unknown)
    return Replay(
        tuple(differences),
        run,
        playback.played,
        Taken.of(record).cost,
        _cost_at(record, prices),
        sum(call.answered for call in record.calls()),
        outputs=outputs,
        notes=tuple(notes),
    )


def _adapter_of(record: RunRecord) -> dspy.Adapter | None:
    """Returns the adapter that the run had, if it is one of DSPy's own without settings."""
    name = record.config.get("adapter")
    cls = getattr(dspy, name) if name in _ADAPTERS else None
    return cls() if cls is not None else None


def _run(module: RLM, playback: Any, values: Mapping[str, Any]) -> tuple[RunReport | None, Any]:
    """Runs the module. Returns its report, and its outputs if it has any."""
    module._config = dataclasses.replace(module._config, playback=playback)
    try:
        prediction = module(**values)
    except EndOfRecordError:
        return None, None
    except RunFailedError as error:
        cause = error.__cause__
        if isinstance(cause, EndOfRecordError):
            return None, None
        return error.run, None
    outputs = {name: prediction[name] for name in module.signature.output_fields}
    return prediction.run, outputs


def _ends(record: RunRecord, run: RunReport, outputs: Any) -> list[Difference]:
    """Returns the difference between the recorded end and that of the repeated run."""
    recorded = report_of(record)
    sides = [f"{one.status} ({one.stopped_by})" for one in (recorded, run)]
    if sides[0] != sides[1]:
        return [Difference("end", None, sides[0], sides[1], record.run_id)]
    found = []
    for name, value in (record.outputs or {}).items():
        now = (outputs or {}).get(name)
        if value_key_of(value) == value_key(now) or value.kind == "not_stored":
            continue
        before = record.value(value)
        if _plain(before) != _plain(now):
            shown = f"{name} = {before!r}", f"{name} = {now!r}"
            found.append(Difference("end", None, shown[0], shown[1], record.run_id))
    return found


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, fallback=repr)


def _cost_at(record: RunRecord, prices: Mapping[str, tuple[float, float]] | None) -> float | None:
    """Returns what the recorded calls cost, at other prices if there are any for their models."""
    total: float | None = 0.0
    for call in record.calls():
        total = added(total, _call_cost(call, (prices or {}).get(call.model)))
    return total


def _call_cost(call: CallRecord, price: tuple[float, float] | None) -> float | None:
    if price is None:
        return call.cost
    own = Price(price[0] / 1_000_000, price[1] / 1_000_000)
    total: float | None = 0.0
    for attempt in call.attempts:
        if not attempt.cached:
            tokens = attempt.input_tokens, attempt.output_tokens
            cost = None if tokens[0] is None or tokens[1] is None else own.of(tokens[0], tokens[1])
            total = added(total, cost)
    return total


def _counterfactual(
    record: RunRecord,
    rlm: RLM | None,
    lm: dspy.BaseLM | None,
    instructions: str | None,
    prices: Mapping[str, tuple[float, float]] | None,
    inputs: Mapping[str, Any],
) -> Replay:
    """Runs with another root LM or other instructions, and the recorded sub-answers."""
    module = module_for(
        record, rlm, lm=lm or dspy.settings.lm, instructions=instructions, prices=prices
    )
    values = recorded_inputs(record, module.signature, inputs)
    playback = PooledPlayback(record)
    run, outputs = _run(module, playback, values)
    differences = _other_steps(record, run) if run is not None else []
    if run is not None and record.ended is not None:
        differences += _ends(record, run, outputs)
    return Replay(
        tuple(differences),
        run,
        run.iterations if run else 0,
        Taken.of(record).cost,
        run.cost if run else None,
        playback.reused,
        playback.sent,
        outputs,
    )


def _other_steps(record: RunRecord, run: RunReport) -> list[Difference]:
    """Returns the first step that is another, if there is one."""
    recorded = report_of(record).steps if record.ended else ()
    for number, (before, now) in enumerate(zip(recorded, run.steps, strict=False), start=1):
        if before.code != now.code:
            return [Difference("code", number, before.code, now.code, record.run_id)]
        if before.output != now.output:
            return [Difference("output", number, before.output, now.output, record.run_id)]
    if len(recorded) != len(run.steps):
        sides = f"{len(recorded)} steps", f"{len(run.steps)} steps"
        at = min(len(recorded), len(run.steps)) + 1
        return [Difference("code", at, *sides, record.run_id)]
    return []
