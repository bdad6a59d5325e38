"""A proposer for GEPA that rewrites the policy block and leaves the contract alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import dspy

from dspy_rlm.dspy_internals.gepa import InstructionProposer
from dspy_rlm.prompts.contract import CONTRACT_HEADING
from dspy_rlm.prompts.history import abridge_history
from dspy_rlm.prompts.untrusted_text import as_data
from dspy_rlm.values.previews import preview

# A proposer reads many runs at once, so each field is shortened to what is needed to follow the work.
OUTPUT_CHARS = 600
FIELD_CHARS = 8_000

Reflections: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
Proposer: TypeAlias = Callable[[dict[str, str], Reflections, list[str]], dict[str, str]]


class ProposePolicy(dspy.Signature):
    """Improve the policy of an agent that answers by writing Python in a REPL, one cell a turn.

    You see its policy and some turns of its runs, each with its result and with feedback. Write the
    whole new policy: the goal, how to approach it, what is worth knowing about tasks of this kind, which
    habits to keep and which to drop. Keep the descriptions of tools, and clarify them where they were
    misleading. Write what will help with new inputs, not the answers of these runs.

    After the policy, the program itself states correctly at every call: the variables, the functions and
    their types, how to submit, the rules of the sandbox, the budget, and the format of replies. None of
    that is yours: do not repeat it and do not change it.
    """

    current_policy: str = dspy.InputField()
    turns: str = dspy.InputField(desc="turns of runs under that policy, with feedback")
    new_policy: str = dspy.OutputField(desc="the whole new policy, as plain text")


def instruction_proposer() -> Proposer:
    """Returns a proposer for `dspy.GEPA(instruction_proposer=...)`, which needs a `reflection_lm`.

    Predictors that do not belong to an RLM are left to DSPy's own proposer.
    """

    def propose(
        candidate: dict[str, str],
        reflective_dataset: Reflections,
        components_to_update: list[str],
    ) -> dict[str, str]:
        names = [name for name in components_to_update if reflective_dataset.get(name)]
        ours = [name for name in names if _is_rlm(reflective_dataset[name])]
        others = [name for name in names if name not in ours]
        proposed: dict[str, str] = {}
        if others:
            proposed |= InstructionProposer()(
                candidate=candidate,
                reflective_dataset=reflective_dataset,
                components_to_update=others,
            )
        for name in ours:
            proposed[name] = _propose(candidate[name], reflective_dataset[name])
        return proposed

    return propose


def _propose(policy: str, turns: Sequence[Mapping[str, Any]]) -> str:
    text = "\n\n".join(render_turn(number, turn) for number, turn in enumerate(turns, 1))
    with dspy.context(trace=[]):
        reply = dspy.Predict(ProposePolicy)(current_policy=policy, turns=text)
    return policy_in(str(reply.new_policy)) or policy


def policy_in(reply: str) -> str:
    """Returns the policy in a proposer's reply, without a fence around it or a contract after it."""
    text = reply.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.removesuffix("```").partition("\n")[2]
    return text.partition(CONTRACT_HEADING)[0].strip()


def render_turn(number: int, turn: Mapping[str, Any]) -> str:
    """Returns a turn as the proposer reads it, with long outputs shortened."""
    inputs, outputs = turn.get("Inputs", {}), turn.get("Generated Outputs", {})
    outputs = outputs if isinstance(outputs, Mapping) else {"reply": outputs}
    fields = [*inputs.items(), *outputs.items(), ("feedback", turn.get("Feedback", ""))]
    return "\n".join([f"# Turn {number}", *(f"## {name}\n{_cut(name, v)}" for name, v in fields)])


def _cut(name: str, value: Any) -> str:
    text = as_data(str(value)) if name == "output" else str(value)
    if name == "repl_history":
        text = abridge_history(text, OUTPUT_CHARS)
    return preview(text, FIELD_CHARS)


def _is_rlm(turns: Sequence[Mapping[str, Any]]) -> bool:
    return "repl_history" in turns[0].get("Inputs", {})
