"""The upper bound of what an optimization can spend, computed before it starts. No LM is called."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import dspy

from dspy_rlm.budget.bill import Bill, LMFacts, worst_case
from dspy_rlm.budget.token_bounds import prompt_of
from dspy_rlm.cli.asking.dry_run import SendsNothing, first_request
from dspy_rlm.cli.asking.models import lm_of
from dspy_rlm.cli.optimizing.plan import Parts, Runs
from dspy_rlm.lms.model_facts import bounds_of
from dspy_rlm.reports.text import dollars
from dspy_rlm.rlm import RLM


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The upper bounds of an optimization."""

    runs: int
    proposals: int
    """Requests to the LM that writes instructions."""

    a_run: Bill
    cost: float | None
    """US dollars; None: nothing bounds them."""

    unknown: tuple[str, ...]


def estimate(
    module: RLM,
    lm: dspy.LM,
    reflection: dspy.LM,
    examples: Sequence[dspy.Example],
    runs: Runs,
    limit: float | None,
) -> Estimate:
    """Returns the most that the runs and the proposals can take."""
    bill = _bill_of_a_run(module, lm, examples)
    proposing = bounds_of(reflection, module.budget)
    proposals = _cost_of_a_proposal(proposing)
    cost: float | None = None
    if bill.cost is not None and proposals is not None:
        cost = runs.total * bill.cost + runs.proposals * proposals
    if limit is not None and (cost is None or limit < cost):
        cost = limit
    unknown = () if cost is not None else bill.unknown or (f"the price of {proposing.model}",)
    return Estimate(runs.total, runs.proposals, bill, cost, unknown)


def _bill_of_a_run(module: RLM, lm: dspy.LM, examples: Sequence[dspy.Example]) -> Bill:
    silent = lm_of(str(lm.model), None, SendsNothing)
    quiet: RLM = copy.copy(module)
    models = quiet._config.models
    subs = {} if models is None else dict(models.by_name)
    replaced = {name: lm_of(str(one.model), None, SendsNothing) for name, one in subs.items()}
    quiet._config = dataclasses.replace(
        quiet._config,
        sub_lm=replaced.get("") or replaced or None,
        journal=False,
    )
    longest = max(
        examples, key=lambda one: sum(len(str(value)) for value in one.inputs().toDict().values())
    )
    first = first_request(quiet, silent, longest.inputs().toDict())
    prompt = prompt_of(None, {**first.options, "messages": first.messages})
    budget = module.budget
    below = [bounds_of(one, budget) for one in subs.values()] or [bounds_of(lm, budget)]
    return worst_case(budget, bounds_of(lm, budget), below, prompt.bytes, module.max_output_chars)


def _cost_of_a_proposal(lm: LMFacts) -> float | None:
    if lm.window is None or lm.reply is None or lm.price is None:
        return None
    return lm.price.of(lm.window, lm.reply)


def estimate_text(found: Estimate, parts: Parts[Any], runs: Runs) -> str:
    """Returns the estimate in words."""
    cost = "unknown" if found.cost is None else dollars(found.cost)
    a_run = "unknown" if found.a_run.cost is None else dollars(found.a_run.cost)
    same = " (the same ones)" if parts.train is parts.validation else ""
    lines = [
        f"examples:  {len(parts.train)} to learn from, {len(parts.validation)} to choose by{same}, "
        f"{len(parts.held_out)} held out",
        f"runs:      at most {runs.total}: {runs.most} of the optimizer, {runs.measured} to measure",
        f"proposals: at most {runs.proposals} requests to the LM that writes instructions",
        f"a run:     at most {a_run}",
        f"cost:      at most {cost}",
    ]
    if found.unknown:
        lines.append(
            f"Not known: {', '.join(found.unknown)}. --max-total-cost bounds everything, --max-cost a run; --price "
            "says what is not known."
        )
    return "\n".join(lines)
