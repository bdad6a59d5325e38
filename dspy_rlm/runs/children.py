"""Starts sub-runs: an RLM one level below, with the settings of the run that requests it."""

from __future__ import annotations

import dataclasses

import dspy

from dspy_rlm.budget.budget import Budget
from dspy_rlm.dspy_bridge.interpreter_factory import ours_if_lent
from dspy_rlm.prompts import instructions
from dspy_rlm.prompts.contract import CONTRACT_HEADING
from dspy_rlm.repl.sub_rlm import SubRun
from dspy_rlm.run_context import RunContext
from dspy_rlm.runs.blueprint import Blueprint
from dspy_rlm.signatures.inputs import check_inputs


def start_child(blueprint: Blueprint, context: RunContext, sub_run: SubRun) -> dspy.Prediction:
    """Runs a sub-run, one level below, that a cell of the run with this context has requested."""
    config = blueprint.config
    playback = context.playback and context.playback.child(
        sub_run.signature, check_inputs(sub_run.signature, sub_run.inputs, config.types)
    )
    child = blueprint.spawn(
        dataclasses.replace(
            config,
            signature=sub_run.signature,
            tools={name: config.tools[name] for name in sub_run.tools},
            budget=_budget(config.budget, sub_run),
            sub_lm=config.sub_lm or sub_run.lm,
            interpreter_factory=ours_if_lent(context.interpreter_factory),
            validators=(),
            require_coverage=None,
        ),
        context.child(sub_run.setup, sub_run.lm, sub_run.allowance, playback),
    )
    child.set_lm(sub_run.lm)
    compiled = getattr(blueprint.predictor, "signature", None) is not None
    if compiled and _is_same_task(sub_run.signature, config.signature):
        _share_compiled(blueprint, child.generate_action)
    with dspy.context(trace=[]):
        return child(**sub_run.inputs)


def _budget(budget: Budget, sub_run: SubRun) -> Budget:
    """Returns the limits that a sub-run's prompt states; its first turn is charged already, and its extraction.

    Each turn takes a call, so there are no more turns than calls.
    """
    turns = min(sub_run.max_iterations or budget.max_iterations, budget.max_iterations)
    if (allowance := sub_run.allowance) is None:
        return dataclasses.replace(budget, max_iterations=turns)
    together = allowance.turns.shown_calls_left + 1
    return dataclasses.replace(
        budget,
        max_iterations=min(turns, together),
        max_llm_calls=together if allowance.most_by_code is None else allowance.shown_calls_left,
    )


def _is_same_task(signature: type[dspy.Signature], whole: type[dspy.Signature]) -> bool:
    """Returns True if a part of the task is done as the whole is: same fields, no instructions of its own."""
    fields = [
        [(name, field.annotation) for name, field in side.items()]
        for one in (signature, whole)
        for side in (one.input_fields, one.output_fields)
    ]
    plain = dspy.Signature(
        f"{', '.join(signature.input_fields)} -> {', '.join(signature.output_fields)}"
    )
    accepted = (plain.instructions, whole.instructions)
    return fields[:2] == fields[2:] and signature.instructions in accepted


def _share_compiled(blueprint: Blueprint, predictor: dspy.Predict) -> None:
    """Copies to a sub-run's predictor the policy block and the demos of the run above, without tool documents."""
    compiled = blueprint.predictor
    tools = blueprint.config.tools.values()
    block = instructions.without_tools(compiled.signature.instructions, tools)
    if CONTRACT_HEADING in block:
        return  # an inlined contract is that of the run above
    predictor.signature = predictor.signature.with_instructions(block)
    predictor.demos = compiled.demos
