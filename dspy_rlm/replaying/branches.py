"""Several ways on from one exploration: the steps so far are paid once, and each way has its own end.

The runs begin with copies of one saved REPL, not with repeated cells. The idea of choosing among several programs over
one context, by agreement or by the model's own confidence, is that of self-reflective program search ("SRLM",
https://arxiv.org/abs/2603.15653).
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from dspy_rlm.errors import InputError, RunFailedError
from dspy_rlm.journal import load
from dspy_rlm.journal.records import RunRecord
from dspy_rlm.recorded.inputs import recorded_inputs
from dspy_rlm.recorded.run_playback import Policy, RunPlayback
from dspy_rlm.replaying.fork import check_step, live_module
from dspy_rlm.replaying.open_repl import Repl
from dspy_rlm.reports.report import added
from dspy_rlm.rlm import RLM
from sandbox_runtime.helpers import DaemonPool

# Ways at the same time. Each has a sandbox, of about 200 MB.
MAX_AT_ONCE = 4

Choose = Callable[[Sequence[dspy.Prediction]], dspy.Prediction]
"""Returns one of the predictions."""


@dataclasses.dataclass(frozen=True)
class Branches:
    """Several ways on from one step."""

    prediction: dspy.Prediction
    """The prediction that was chosen."""

    predictions: Sequence[dspy.Prediction]
    """Those of all ways that ended with outputs, in their order."""

    failures: Sequence[RunFailedError] = ()
    """The ends of the others."""

    votes: int = 0
    """The ways that ended with the same outputs as the chosen one."""

    cost: float | None = None
    """US dollars of all ways together, without the steps that they share; None: a price is unknown."""


def branches(
    journal: str | os.PathLike[str],
    /,
    *,
    step: int,
    k: int = 5,
    choose: Choose | None = None,
    rlm: RLM | None = None,
    lm: dspy.BaseLM | None = None,
    temperature: float | None = 1.0,
    **inputs: Any,
) -> Branches:
    """Goes on with a recorded run from a step in several ways, and chooses among their outputs.

    Args:
        journal: The journal of the run. It is not changed.
        step: The last step that they share.
        k: The number of ways.
        choose: Returns the best of the predictions. None: the outputs that most ways agree on; the first of equal ones.
        rlm: The RLM to go on with. None: one is built from the journal, with the configured LM.
        lm: The LM that writes the code after the step.
        temperature: The temperature of that LM, so that the ways differ; None: its own.
        **inputs: The inputs that the journal does not hold.

    Raises:
        JournalError: It is no journal.
        InputError: There is no such step, or an input is missing.
        RunFailedError: No way ended with outputs; that of the last one.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k must be a whole number, 1 or more, not {k!r}.")
    record = load(journal)
    check_step(record, step)
    module = live_module(record, rlm, lm=lm)
    values = recorded_inputs(record, module.signature, inputs)
    policy = Policy(until=step, forks=True, by_content=rlm is None)
    with Repl(record, step, module, values, policy) as explored:
        state = explored.checkpoint()

    def follow(number: int) -> dspy.Prediction | RunFailedError:
        playback = RunPlayback(record, policy, state=state)
        try:
            return _module_with(module, playback)(**values, **_options(temperature, number))
        except RunFailedError as error:
            return error

    pool = DaemonPool(min(k, MAX_AT_ONCE), "rlm-branches")
    try:
        jobs = [pool.submit(functools.partial(follow, number)) for number in range(k)]
        ends = [job.result() for job in jobs]
    finally:
        pool.close(cancel_queued=True)
    done = [end for end in ends if not isinstance(end, RunFailedError)]
    failures = [end for end in ends if isinstance(end, RunFailedError)]
    if not done:
        raise failures[-1]
    names = list(module.signature.output_fields)
    counts = Counter(_key(end, names) for end in done)
    best = choose(done) if choose is not None else max(done, key=lambda e: counts[_key(e, names)])
    return Branches(
        best, done, failures, counts[_key(best, names)], _cost(_shared(record, step), ends)
    )


def _module_with(module: RLM, playback: RunPlayback) -> RLM:
    own: RLM = copy.copy(module)
    own._config = dataclasses.replace(module._config, playback=playback)
    return own


def _options(temperature: float | None, number: int) -> dict[str, Any]:
    """Returns the options of a way's call. With its own `rollout_id`, DSPy's cache has no answer of another way."""
    if temperature is None:
        return {}
    return {"config": {"temperature": temperature, "rollout_id": number}}


def _key(prediction: dspy.Prediction, names: Sequence[str]) -> str:
    """Returns a text that equal outputs share."""
    plain = to_jsonable_python({name: prediction[name] for name in names}, fallback=repr)
    return json.dumps(plain, sort_keys=True)


def _shared(record: RunRecord, step: int) -> float | None:
    """Returns the dollars of the recorded steps."""
    total: float | None = 0.0
    for one in record.steps[:step]:
        calls = [*one.calls, *(call for run in one.sub_runs for call in run.calls())]
        for call in calls:
            total = added(total, call.cost)
    return total


def _cost(shared: float | None, ends: Sequence[dspy.Prediction | RunFailedError]) -> float | None:
    """Returns the dollars of all ways, without those of the steps that they share."""
    total: float | None = 0.0
    for end in ends:
        own = None if end.run.cost is None or shared is None else end.run.cost - shared
        total = added(total, own)
    return total
