"""The texts of an RLM for `gepa.optimize_anything`: its policy and the description of every tool.

result = optimize_anything(
    seed_candidate=components(rlm), evaluator=evaluator(rlm, metric), dataset=trainset, ...
)
better = with_components(rlm, result.best_candidate)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import dspy

from dspy_rlm.errors import RunFailedError
from dspy_rlm.optimize.digest import digest
from dspy_rlm.optimize.feedback import Feedback, feedback
from dspy_rlm.prompts.instructions import without_tools
from dspy_rlm.rlm import RLM

POLICY = "policy"
TOOL = "tool:"

Metric = Callable[[dspy.Example, dspy.Prediction], Any]


def components(rlm: RLM) -> dict[str, str]:
    """Returns the texts that may be rewritten: `policy`, and `tool:<name>` for each tool."""
    block = without_tools(rlm.generate_action.signature.instructions, rlm.tools.values())
    return {POLICY: block, **{f"{TOOL}{name}": tool.desc for name, tool in rlm.tools.items()}}


def with_components(rlm: RLM, candidate: Mapping[str, str]) -> RLM:
    """Returns a copy of the RLM with these texts. Texts that the candidate lacks stay unchanged.

    Raises:
        KeyError: The candidate has a text for an unknown tool.
    """
    old = components(rlm)
    if unknown := candidate.keys() - old.keys():
        raise KeyError(f"The RLM has no {', '.join(sorted(unknown))}; it has {', '.join(old)}.")
    texts = {**old, **candidate}
    new: RLM = rlm.deepcopy()
    tools = {
        name: tool.model_copy(update={"desc": texts[f"{TOOL}{name}"]})
        for name, tool in rlm.tools.items()
    }
    new._config = dataclasses.replace(new._config, tools=tools)
    predictor = new.generate_action
    predictor.signature = predictor.signature.with_instructions(texts[POLICY])
    return new


def evaluator(
    rlm: RLM, metric: Metric
) -> Callable[[Mapping[str, str], dspy.Example], tuple[float, dict[str, Any]]]:
    """Returns a function for `gepa.optimize_anything` that runs the RLM with a candidate's texts on one example.

    Args:
        rlm: The RLM, whose own texts are not changed.
        metric: A function of the example and the prediction that returns a number or a `Feedback`.

    Returns:
        A function of the candidate (see `components`) and the example that returns the score, 0.0 for a failed run, and a
        dict with the feedback.
    """

    def evaluate(
        candidate: Mapping[str, str], example: dspy.Example
    ) -> tuple[float, dict[str, Any]]:
        try:
            prediction = with_components(rlm, candidate)(**example.inputs())
        except RunFailedError as error:
            return 0.0, {"error": str(error), "steps": digest(error.run.steps)}
        judged = metric(example, prediction)
        if not isinstance(judged, Feedback):
            judged = feedback(float(judged), prediction, example=example)
        return float(judged), {"feedback": judged.feedback, "scores": judged.objective_scores}

    return evaluate
