"""The signatures of a run's two predictors: of its steps (the policy block, and the contract after it), of the extraction."""

from __future__ import annotations

import dataclasses

import dspy

from dspy_rlm.dspy_bridge.interpreter_factory import InterpreterFactory, is_ours
from dspy_rlm.dspy_internals.adapters import read_advice
from dspy_rlm.lms.model_facts import facts_of
from dspy_rlm.prompts import instructions
from dspy_rlm.prompts.class_lines import class_lines
from dspy_rlm.prompts.contract import Surroundings, contract
from dspy_rlm.prompts.styles import STYLES
from dspy_rlm.settings.config import RLMConfig
from dspy_rlm.signatures.served_tools import is_served

# The name of the field by which Refine gives its advice, and its advice to a predictor that needs none.
HINT, _NO_ADVICE = "hint_", "N/A"


def default_signature(config: RLMConfig) -> type[dspy.Signature]:
    """Returns the predictor's signature before an optimizer has changed it."""
    style = STYLES[config.style]
    # Those of servers are known only to a run: `compose` adds them.
    tools = [tool for tool in config.tools.values() if not is_served(tool)]
    block = instructions.policy_block(
        config.signature, tools, style, is_opaque=config.view.is_opaque
    )
    return instructions.action_signature(block)


def default_extractor(signature: type[dspy.Signature], predictor: dspy.Predict) -> dspy.Predict:
    """Returns a predictor of the outputs for when no turn is left. It has the LM of the steps' predictor."""
    extractor = dspy.Predict(instructions.extract_signature(signature))
    extractor.lm = getattr(predictor, "lm", None)
    return extractor


def composed_signature(
    config: RLMConfig,
    predictor: dspy.Predict,
    factory: InterpreterFactory | None,
    depth: int,
    *,
    turns_take_prompts: bool = False,
) -> type[dspy.Signature]:
    """Returns the predictor's signature with the contract of a run in this factory's interpreters."""
    surroundings = _surroundings(config, predictor, factory, depth)
    surroundings = dataclasses.replace(surroundings, turns_take_prompts=turns_take_prompts)
    text = contract(config.signature, surroundings, STYLES[config.style])
    own = getattr(predictor, "signature", None) or default_signature(config)
    whole = instructions.compose(own.instructions, config.tools.values(), text)
    composed: type[dspy.Signature] = own.with_instructions(whole)
    return composed


def with_hint(
    signature: type[dspy.Signature], predictor: dspy.Predict
) -> tuple[type[dspy.Signature], dict[str, str]]:
    """Returns the signature and the inputs with the advice that `dspy.Refine` has for this predictor, if any.

    Refine's own adapter looks for the advice by the predictor's signature, which a run extends.
    """
    advice = read_advice(dspy.settings.adapter)
    text = advice and advice.by_name.get(advice.names.get(predictor.signature, ""))
    if not text or text == _NO_ADVICE:
        return signature, {}
    field = dspy.InputField(desc="Advice from an earlier attempt at this task")
    return signature.append(HINT, field, type_=str), {HINT: text}


def _surroundings(
    config: RLMConfig,
    predictor: dspy.Predict,
    factory: InterpreterFactory | None,
    depth: int,
) -> Surroundings:
    """Returns what the contract states besides the signature."""
    lms = config.models.by_name if config.models else {"": _own_lm(predictor)}
    return Surroundings(
        budget=config.budget,
        limits=config.limits,
        tools=config.tools,
        models=config.models,
        facts={name: facts_of(lm, config.budget) for name, lm in lms.items() if lm is not None},
        depth=depth,
        modules=config.packages.imports if config.packages else (),
        has_numpy=config.packages is not None
        and "numpy" in {package.name for package in config.packages.packages},
        classes=class_lines(config.annotations, config.types),
        is_opaque=config.view.is_opaque,
        coverage=config.require_coverage,
        reads_variables=depth == 0 and config.on_exhausted != "extract",
        foreign_rules=None if is_ours(factory) else getattr(factory, "execution_instructions", ""),
    )


def _own_lm(predictor: dspy.Predict) -> dspy.BaseLM | None:
    """Returns the LM that writes the code, which is the sub-LM too if there is no other."""
    lm = getattr(predictor, "lm", None) or dspy.settings.lm
    return lm if isinstance(lm, dspy.BaseLM) else None
