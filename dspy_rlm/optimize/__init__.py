"""Feedback, proposals and training data for DSPy's optimizers and GEPA.

def metric(gold, pred, trace=None, pred_name=None, pred_trace=None):
    right = float(pred.answer == gold.answer)
    return feedback(right, pred, example=gold, trace=trace, pred_trace=pred_trace)

gepa = dspy.GEPA(metric=metric, instruction_proposer=instruction_proposer(), reflection_lm=lm, ...)
with no_stragglers():
    better = gepa.compile(RLM("logs -> answer"), trainset=trainset, valset=valset)
"""

from dspy_rlm.dspy_internals.stragglers import no_stragglers
from dspy_rlm.optimize.candidates import components, evaluator, with_components
from dspy_rlm.optimize.diagnosing import diagnosis
from dspy_rlm.optimize.export import collect, export, inline_contract
from dspy_rlm.optimize.feedback import Feedback, feedback, objective_scores
from dspy_rlm.optimize.proposer import instruction_proposer

__all__ = [
    "Feedback",
    "collect",
    "components",
    "diagnosis",
    "evaluator",
    "export",
    "feedback",
    "inline_contract",
    "instruction_proposer",
    "no_stragglers",
    "objective_scores",
    "with_components",
]
