"""The signature that the root LM is asked with: the block that optimizers own, then the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dspy

from dspy_rlm.dspy_bridge.interpreter_factory import InterpreterFactory, is_ours
from dspy_rlm.lms.sub_lms import named_models
from dspy_rlm.prompts import instructions
from dspy_rlm.prompts.variables import class_lines

if TYPE_CHECKING:
    from dspy_rlm.rlm import RLM


def composed_signature(rlm: RLM, factory: InterpreterFactory | None) -> type[dspy.Signature]:
    """The predictor's signature as a run with this factory needs it."""
    ours = is_ours(factory)
    rules = (
        instructions.sandbox_rules(
            rlm.packages.imports if rlm.packages else (),
            class_lines(rlm.annotations(), rlm._types),
        )
        if ours
        else getattr(factory, "execution_instructions", "")
    )
    depth = rlm._place.depth if rlm._place else 0
    text = instructions.contract(
        rlm.signature, rlm._tools, rlm.budget, rules, named_models(rlm.sub_lm), depth, records=ours
    )
    own = getattr(rlm.generate_action, "signature", None) or rlm.first_signature()
    whole = instructions.compose(own.instructions, rlm._tools.values(), text)
    composed: type[dspy.Signature] = own.with_instructions(whole)
    return composed
