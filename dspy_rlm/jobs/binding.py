"""The program of a job: a copy of the RLM with the LMs bound to it that its runs would find in DSPy's settings."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import dspy

from dspy_rlm.dspy_internals.credentials import check_key
from dspy_rlm.errors import SignatureError
from dspy_rlm.lms.faults import read_fault
from dspy_rlm.lms.model_facts import check_price
from dspy_rlm.rlm import RLM


def bound(rlm: Any) -> RLM:
    """Returns a copy of the RLM with the LM that writes its code.

    Raises:
        SignatureError: It is no RLM.
        LMNotConfiguredError: It has no LM, and DSPy's settings have none.
    """
    if not isinstance(rlm, RLM):
        raise SignatureError(
            f"batch needs a dspy_rlm.RLM, not {type(rlm).__name__}. Other modules have no signature that says "
            "what a row must hold and what comes out."
        )
    program = copy.deepcopy(rlm)
    predictor: Any = program.generate_action
    if getattr(predictor, "lm", None) is None:
        if not isinstance(dspy.settings.lm, dspy.BaseLM):
            raise dspy.LMNotConfiguredError(
                "No LM is configured, so nothing can write code. Configure one with "
                "dspy.configure(lm=dspy.LM('openai/gpt-4o-mini')), or set it with rlm.set_lm(lm)."
            )
        predictor.lm = dspy.settings.lm
    return program


def lms_of(rlm: RLM) -> Iterator[dspy.BaseLM]:
    """Yields the LMs of an RLM, each once: the one that writes code first."""
    own = getattr(rlm.generate_action, "lm", None) or dspy.settings.lm
    models = rlm._config.models
    seen: set[int] = set()
    for lm in (own, *(models.by_name.values() if models else ())):
        if isinstance(lm, dspy.BaseLM) and id(lm) not in seen:
            seen.add(id(lm))
            yield lm


def check_lms(rlm: RLM, max_cost: float | None = None) -> None:
    """Finds what would fail for every row, before the first one.

    Args:
        rlm: The RLM.
        max_cost: The cap of the job.

    Raises:
        LMNotConfiguredError: There is no LM, or one has no key.
        PriceUnknownError: There is a cap in dollars, and the price of an LM is unknown.
    """
    budget = rlm._config.budget
    caps = [cap for cap in (max_cost, budget.max_cost) if cap is not None]
    lms = list(lms_of(rlm))
    if not lms:
        raise dspy.LMNotConfiguredError("No LM is configured, so nothing can write code.")
    for lm in lms:
        try:
            check_key(lm)
        except dspy.LMError as error:
            raise read_fault(error) from None
        check_price(lm, dataclasses.replace(budget, max_cost=min(caps, default=None)))
