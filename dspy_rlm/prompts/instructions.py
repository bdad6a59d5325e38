"""The prompts of the root LM: the policy block, which optimizers rewrite, and the fields of a turn.

The policy block is the instruction of the predictor: the task, and how to approach it. The contract of
`contract.py` is computed at every call and appended to the block, so that rewriting the block cannot break a
run. The REPL as the LM's view of its inputs follows the RLM paper, https://arxiv.org/abs/2512.24601.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import dspy
import pydantic

from dspy_rlm.budget.budget import Budget, left_text
from dspy_rlm.prompts.styles import DEFAULT, Style
from dspy_rlm.prompts.tool_docs import document

STRATEGY = """\
The inputs are variables in a Python REPL. They may be far larger than you can read: explore them by code.
1. Look first: print types, sizes and small samples.
2. Work in steps: one piece of code per turn. Variables, functions and imports persist.
3. Let code search, count and compute; let the sub-LM understand. Narrow down by code, then ask about many \
pieces in one batch (`predict_batched`).
4. Submit long or exact values from variables; do not retype them.
5. Check before you submit: print it. No results, or the same answer everywhere, are usually a mistake in \
the code. If you looked properly and the answer is not there, submit that (None, an empty list, "not \
found", as the type allows), never a guess. SUBMIT as soon as you are sure."""

OPAQUE_STRATEGY = """\
The inputs are variables in a Python REPL. You write the program that solves the task, and do not see the values \
that it works on.
1. Work in steps: one piece of code per turn. Variables, functions and imports persist.
2. Split the task into parts that each fit one prompt of a sub-LM, whatever the size of the inputs, and ask about \
all parts in one batch (`predict_batched`).
3. Let code split, filter, count and combine; keep each result in a variable.
4. Let code decide: test values with `if` and `assert`, so that an error shows you what is not as you assumed.
5. Submit from variables. If the answer is not there, submit that (None, an empty list, "not found", as the type \
allows), never a guess. SUBMIT as soon as you are sure."""

TOOLS_HEADING = "Tools you can call in the REPL:"

EXTRACT = """\
The run below ended before it submitted. Produce the outputs from what its steps found. Where they found a \
part, give that part. Where they found nothing, use None, an empty value or "not found", if the type allows \
it; do not make up facts."""


def policy_block(
    signature: type[dspy.Signature],
    tools: Iterable[dspy.Tool],
    style: Style = DEFAULT,
    *,
    is_opaque: bool = False,
) -> str:
    """Returns the block that optimizers start from: the task, the strategy, the tools in full."""
    strategy = (OPAQUE_STRATEGY if is_opaque else STRATEGY).replace(
        "SUBMIT", style.vocabulary.submit
    )
    parts = [signature.instructions.strip(), strategy]
    documents = [document(tool) for tool in tools]
    if documents:
        parts.append("\n".join([TOOLS_HEADING, *documents]))
    return "\n\n".join(part for part in parts if part)


def compose(block: str, tools: Iterable[dspy.Tool], contract: str) -> str:
    """Returns the whole instruction of a call: the block, tools that an optimizer dropped, the contract.

    A block that already contains this contract (see `dspy_rlm.optimize.inline_contract`) is returned as it is.
    """
    if contract in block:
        return block
    documented = [document(tool) for tool in tools]
    left_out = [text for text in documented if text not in block]
    if left_out and any(block.endswith(text) for text in documented):
        # The tools of servers follow the others, under the same heading.
        return "\n\n".join(["\n".join([block, *left_out]), contract])
    documents = "\n".join([TOOLS_HEADING, *left_out]) if left_out else ""
    return "\n\n".join(part for part in (block, documents, contract) if part)


def without_tools(block: str, tools: Iterable[dspy.Tool]) -> str:
    """Removes the documentation of the tools from a block, if it is there as `policy_block` wrote it."""
    documents = "\n".join([TOOLS_HEADING, *(document(tool) for tool in tools)])
    return block.replace(documents, "").strip()


def action_signature(block: str) -> type[dspy.Signature]:
    """Returns the signature of the predictor. Its fields are named as in `dspy.RLM`, so saved states load."""
    fields: dict[str, Any] = {
        **{
            name: (str, dspy.InputField())
            for name in ("variables_info", "repl_history", "iteration")
        },
        "reasoning": (
            str,
            dspy.OutputField(desc="what you know, and what comes next"),
        ),
        "code": (str, dspy.OutputField()),
    }
    result: type[dspy.Signature] = dspy.Signature(fields, block)
    return result


def extract_signature(signature: type[dspy.Signature]) -> type[dspy.Signature]:
    """Returns the signature of the fallback that extracts the outputs from the trajectory."""
    task = signature.instructions.strip()
    text = f"{EXTRACT}\n\nThe task was:\n{task}" if task else EXTRACT
    inputs: dict[str, Any] = {
        "variables_info": (
            str,
            dspy.InputField(desc="The inputs of the run, with their types, sizes and previews"),
        ),
        "repl_history": (str, dspy.InputField(desc="The steps of the run")),
    }
    outputs = {
        name: (field.annotation if is_readable(field.annotation) else Any, field)
        for name, field in signature.output_fields.items()
    }
    result: type[dspy.Signature] = dspy.Signature({**inputs, **outputs}, text)
    return result


def is_readable(annotation: Any) -> bool:
    """Returns whether an adapter can parse the type from a reply."""
    try:
        pydantic.TypeAdapter(annotation)
    except pydantic.errors.PydanticUserError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class SharedCalls:
    """The LM calls of a sub-run, whose turns take of them too."""

    left: int
    """The calls left for later turns and for code together."""

    is_share: bool = False
    """True if no other part can take them."""


def stopping_line(number: int, budget: Budget) -> str:
    """Returns the line of the last turn of a run that its user stops; see `iteration_line`."""
    return (
        f"Turn {number} of {max(budget.max_iterations, number)}. The user stops the run: this is the last turn, and only "
        "seconds are left. SUBMIT now what you have found so far, without any other work."
    )


def iteration_line(
    number: int,
    budget: Budget,
    left: Mapping[str, Any],
    failures: int = 0,
    note: str = "",
    shared: SharedCalls | None = None,
) -> str:
    """Returns the input that, besides the history, changes with every step.

    Args:
        number: The number of the turn, from 1.
        budget: The limits.
        left: The remaining budget, as returned by `Ledger.left`.
        failures: The number of failed turns in a row just before this one.
        note: A remark on the prompt.
        shared: The calls of a sub-run; None for a root run, whose turns take none.
    """
    if number > budget.max_iterations:
        return "One more turn, only to SUBMIT again."
    about_turns = _about_turns(shared, left["llm_calls"], budget.max_iterations - number)
    line = f"Turn {number} of {budget.max_iterations}; {left_text(left, budget, about_turns)}"
    if budget.max_errors is not None and failures:
        line += f"; {failures} of {budget.max_errors} failed turns in a row"
    if note:
        line += f". {note}"
    is_last = number == budget.max_iterations or (shared is not None and not shared.left)
    return f"{line}. This is the last turn: SUBMIT now." if is_last else line


def _about_turns(shared: SharedCalls | None, prompts: int, turns: int) -> str:
    """Returns what later turns take of the prompts of a sub-run; empty if they take none that its code could use."""
    if shared is None or not turns or shared.left >= prompts + turns:
        return ""
    others = "" if shared.is_share else ", shared with other parts"
    if shared.left > prompts:
        return f"; {shared.left} together with further turns{others}"
    return f"{others}; each further turn takes one" if shared.left else ""
