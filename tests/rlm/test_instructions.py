"""The texts that the LM reads, word for word where it matters."""

from __future__ import annotations

import datetime
import enum

import dspy
import pydantic

from dspy_rlm.budget.budget import Budget
from dspy_rlm.lms.sub_lms import Models
from dspy_rlm.prompts.instructions import (
    compose,
    contract,
    extract_signature,
    iteration_line,
    policy_block,
    without_tools,
)
from dspy_rlm.tools.sources import normalize_tools


class Level(enum.Enum):
    LOW = "low"


class Event(pydantic.BaseModel):
    when: datetime.date
    level: Level


class Report(dspy.Signature):
    """Say what happened."""

    logs: str = dspy.InputField(desc="one event a line")
    events: list[Event] = dspy.OutputField(desc="in order")
    total: int = dspy.OutputField(ge=0)


def grep(pattern: str, limit: int = 5) -> list[str]:
    """Finds lines.

    Slowly.
    """
    return [pattern] * limit


TOOLS = normalize_tools([grep])


def test_the_block_holds_task_strategy_and_tools():
    """The policy block has everything except the facts of one run; optimizers start from it."""
    block = policy_block(Report, TOOLS.values())

    assert block.startswith("Say what happened.\n\nYou answer by working in a Python REPL.")
    assert block.endswith(
        "Tools you can call in the REPL:\n"
        "- `grep(pattern: str, limit: int = 5) -> list[str]`\n    Finds lines.\n\n    Slowly."
    )
    assert "max" not in block


def test_the_contract_names_all_that_is_true_of_the_run():
    """Variables with types, exact calls, SUBMIT with output types, rules, budget."""
    text = contract(Report, TOOLS, Budget(7, 11), "No threads.")

    for part in [
        "- `logs`: str (one event a line)",
        "- `sub_llm(prompt: str, *media, model=None) -> str`",
        "- `sub_llm_batched(prompts: list[str], model=None) -> list[str]`",
        "- `predict(signature, **inputs)`: asks for typed, validated outputs",
        "- `predict_batched(signature, rows, **inputs)`",
        "- `sub_rlm(signature, **inputs)`",
        "- `BUDGET() -> dict`: returns what is left of the budget.",
        "- `grep(pattern: str, limit: int = 5) -> list[str]`: a tool",
        "- `SUBMIT(events, total)`",
        "    - `events`: list[",
        "JSON schema: ",
        '"enum": ["low"]',
        "    - `total`: int (greater than or equal to: 0)",
        "- No threads.",
        "- Budget: 7 turns and 11 prompts to the sub-LM in all.",
    ]:
        assert part in text, part


class TestWholeInstruction:
    def test_the_contract_comes_after_the_block(self):
        """The contract follows the block and does not repeat its tools."""
        block = policy_block(Report, TOOLS.values())

        assert compose(block, TOOLS.values(), "Contract.") == f"{block}\n\nContract."

    def test_tools_that_an_optimizer_left_out_are_put_back(self):
        """The documents of tools that an optimizer dropped are added to the contract."""
        assert compose("Be quick.", TOOLS.values(), "Contract.") == (
            "Be quick.\n\nTools you can call in the REPL:\n"
            "- `grep(pattern: str, limit: int = 5) -> list[str]`\n    Finds lines.\n\n    Slowly."
            "\n\nContract."
        )
        assert compose("", {}, "Contract.") == "Contract."

    def test_a_contract_that_is_inside_already_is_not_repeated(self):
        """An instruction with an inlined contract is used unchanged."""
        assert (
            compose("Be quick.\n\nContract.", TOOLS.values(), "Contract.").count("Contract.") == 1
        )

    def test_the_tools_can_be_taken_out_of_the_block(self):
        """Without the tools, the block is the policy alone."""
        block = policy_block(Report, TOOLS.values())

        assert block.startswith(without_tools(block, TOOLS.values()))
        assert "grep" not in without_tools(block, TOOLS.values())


def test_the_contract_offers_what_there_is():
    """The contract lists sub-runs, sub-LMs and limits only where the run has them."""
    models = Models({"mini": None, "vision": None}, {"vision": "reads images"})
    budget = Budget(
        7, 11, max_depth=1, max_cost=0.5, max_tokens=90_000, max_seconds=60, max_errors=3
    )
    text = contract(Report, {}, budget, "", models, depth=1)

    assert "sub_rlm" not in text
    assert (
        "- Sub-LMs, for `model=` of the functions above (default: 'mini'):\n    - 'mini'\n"
        "    - 'vision': reads images"
    ) in text
    assert text.endswith(
        "- Budget: 7 turns and 11 prompts to the sub-LM in all; 90,000 tokens, $0.5, 60 seconds for "
        "everything together. What is left is in `iteration`. 3 failed turns in a row end the run."
    )


def test_the_contract_says_how_results_are_read():
    """The contract describes results as attributes in our sandbox, and as dicts in another interpreter."""
    ours, other = (contract(Report, {}, Budget(), "", records=ours) for ours in (True, False))

    assert "text=t).date`" in ours
    assert 'text=t)["date"]`' in other
    assert "results.failed" not in other


def test_the_last_turn_is_announced():
    """The prompt of the last turn says that no other follows."""
    left = {"llm_calls": 4}
    assert iteration_line(2, Budget(3, 9), left) == "2/3, 4 sub-LM prompts left"
    assert iteration_line(3, Budget(3, 9), left).endswith("This is the last turn: SUBMIT now.")


def test_the_strategy_knows_typed_extraction():
    """The strategy recommends `predict_batched` for facts from many pieces."""
    assert "many pieces, use `predict_batched`" in policy_block(Report, [])


def test_the_fallback_asks_for_the_typed_outputs():
    """The extraction's prompt has the task, the run so far, and the output fields with descriptions."""
    signature = extract_signature(Report)

    assert list(signature.input_fields) == ["variables_info", "repl_history"]
    assert signature.output_fields["events"].annotation == list[Event]
    assert signature.output_fields["events"].json_schema_extra["desc"] == "in order"
    assert "Say what happened." in signature.instructions
