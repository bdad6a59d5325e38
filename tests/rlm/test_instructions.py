"""The texts that the LM reads, word for word where it matters."""

from __future__ import annotations

import datetime
import enum

import dspy
import pydantic
import pytest

from dspy_rlm.budget.budget import Budget
from dspy_rlm.lms.sub_lms import Models
from dspy_rlm.prompts.contract import Surroundings, contract
from dspy_rlm.prompts.instructions import (
    SharedCalls,
    compose,
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

    assert block.startswith("Say what happened.\n\nThe inputs are variables in a Python REPL")
    assert block.endswith(
        "Tools you can call in the REPL:\n"
        "- `grep(pattern: str, limit: int = 5) -> list[str]`\n    Finds lines.\n\n    Slowly."
    )
    assert "max" not in block


def test_the_contract_names_all_that_is_true_of_the_run():
    """Variables, exact calls, SUBMIT with output types, rules, budget."""
    text = contract(Report, Surroundings(tools=TOOLS, budget=Budget(7, 11)))

    for part in [
        "Variables (see `variables_info`): `logs`.",
        "- `sub_llm(prompt) -> str`",
        "- `sub_llm_batched(prompts) -> list[str]`",
        "- `predict(signature, **inputs)`: asks for typed outputs",
        "- `predict_batched(signature, rows, **inputs)`",
        "- `sub_rlm(signature, **inputs)`, `sub_rlm_batched(signature, rows)`",
        "`grep.batched(items)`",
        "- `SUBMIT(events: list[",
        "JSON schema: ",
        '"enum": ["low"]',
        "    - `total`: greater than or equal to: 0",
        "no network or subprocesses",
        "- Budget: 7 turns, 11 sub-LM prompts.",
    ]:
        assert part in text, part


class TestWhatARunCanUse:
    """The contract lists only what a run can use."""

    def test_media_only_where_an_input_is_media(self):
        """Without images, audio or files among the inputs, no word is about them."""
        with_image = contract(
            dspy.Signature("page: list[dspy.Image] | None -> text"), Surroundings()
        )

        assert "`sub_llm(text, image)`" in with_image
        assert "media" not in contract(Report, Surroundings())

    def test_tools_only_where_there_are_tools(self):
        """Without tools, neither `.batched` nor `help` is offered."""
        assert ".batched(" not in contract(Report, Surroundings())

    def test_a_choice_of_models_only_where_there_is_one(self):
        """With one sub-LM, `model=` is not offered."""
        assert "model=" not in contract(Report, Surroundings())

    def test_numpy_only_where_it_is(self):
        """The contract warns of NumPy's 32-bit integers where a package brings NumPy."""
        with_pandas = contract(Report, Surroundings(modules=["pandas"], has_numpy=True))

        assert "- NumPy's default integers have 32 bits here" in with_pandas
        assert "NumPy" not in contract(Report, Surroundings(modules=["networkx"]))

    def test_many_modules_of_a_package_are_counted(self):
        """A package chooses how many modules it has; a prompt names fifty."""
        few = contract(Report, Surroundings(modules=["a", "b"]))
        many = contract(Report, Surroundings(modules=[f"m{n:03}" for n in range(52)]))

        assert "standard library, `a` and `b`; no network" in few
        assert "`m048`, `m049` and 2 other modules; no network" in many
        assert "m050" not in many

    def test_outputs_with_a_default_are_shown_as_such(self):
        """SUBMIT shows what may be left out, unless the interpreter is not ours, which demands all."""
        task = dspy.Signature(
            {"a": (str, dspy.OutputField()), "b": (int, dspy.OutputField(default=3))}
        )

        assert "`SUBMIT(a: str, b: int = ...)`" in contract(task, Surroundings())
        assert "`SUBMIT(a: str, b: int)`" in contract(task, Surroundings(foreign_rules=""))

    def test_the_schema_of_a_class_that_cells_can_call_is_left_out(self):
        """The class line says the same as the JSON schema, in fewer words."""
        classes = ["Event(when: datetime.date, level: Level)", "enum Level(LOW='low')"]

        assert "JSON schema" not in contract(Report, Surroundings(classes=classes))
        assert "JSON schema" in contract(Report, Surroundings(classes=classes[:1]))

    def test_the_schema_of_a_class_whose_line_is_cut_stays(self):
        """A description that is too long for the class line is read in the schema."""
        field = pydantic.Field(description="word " * 60)
        long = pydantic.create_model("Long", text=(str, field))
        task = dspy.Signature({"out": (long, dspy.OutputField())}, "Find it.")

        assert "word word" in contract(task, Surroundings(classes=["Long(text: str)"]))


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
    text = contract(Report, Surroundings(budget=budget, models=models, depth=1))

    assert "sub_rlm" not in text
    assert (
        "- Sub-LMs, for `model=` of the functions above (default: 'mini'):\n    - 'mini'\n"
        "    - 'vision': reads images"
    ) in text
    assert text.endswith(
        "- Budget: 7 turns, 11 sub-LM prompts; 90,000 tokens, $0.5, 60 seconds for everything together. "
        "`iteration` says what is left. 3 failed turns in a row end the run."
    )


def test_the_contract_says_how_results_are_read():
    """The contract describes results as attributes in our sandbox, and as dicts in another interpreter."""
    ours, other = (contract(Report, Surroundings(foreign_rules=rules)) for rules in (None, ""))

    assert "text=t).date`" in ours
    assert 'text=t)["date"]`' in other
    assert "results.failed" not in other


class TestIteration:
    LEFT = {"llm_calls": 4}  # noqa: RUF012

    def test_the_last_turn_is_announced(self):
        """The prompt of the last turn says that no other follows."""
        assert iteration_line(2, Budget(3, 9), self.LEFT) == "Turn 2 of 3; 4 sub-LM prompts left"
        assert iteration_line(3, Budget(3, 9), self.LEFT).endswith(
            "This is the last turn: SUBMIT now."
        )

    @pytest.mark.parametrize(
        ("prompts", "shared", "expected"),
        [
            (4, SharedCalls(4), "4 sub-LM prompts left, shared with other parts; each further turn takes one"),
            (4, SharedCalls(4, is_share=True), "4 sub-LM prompts left; each further turn takes one"),
            (1, SharedCalls(1), "1 sub-LM prompt left, shared with other parts; each further turn takes one"),
            (2, SharedCalls(9), "2 sub-LM prompts left"),  # a limit of its code, and enough for all turns
            (2, SharedCalls(3, is_share=True), "2 sub-LM prompts left; 3 together with further turns"),
            (0, SharedCalls(0), "0 sub-LM prompts left. This is the last turn: SUBMIT now."),
        ],
    )  # fmt: skip
    def test_a_sub_run_knows_what_its_turns_take(self, prompts, shared, expected):
        """The turns of a sub-run take prompts of the whole run; at the last prompt it has to submit."""
        line = iteration_line(2, Budget(9, 9), {"llm_calls": prompts}, shared=shared)

        assert line == f"Turn 2 of 9; {expected}"

    def test_one_prompt_is_singular(self):
        """The text is English for one prompt too."""
        assert "; 1 sub-LM prompt left" in iteration_line(1, Budget(9, 9), {"llm_calls": 1})


def test_the_strategy_knows_typed_extraction():
    """The strategy recommends `predict_batched` for many pieces."""
    assert "pieces in one batch (`predict_batched`)" in policy_block(Report, [])


def test_the_fallback_asks_for_the_typed_outputs():
    """The extraction's prompt has the task, the run so far, and the output fields with descriptions."""
    signature = extract_signature(Report)

    assert list(signature.input_fields) == ["variables_info", "repl_history"]
    assert signature.output_fields["events"].annotation == list[Event]
    assert signature.output_fields["events"].json_schema_extra["desc"] == "in order"
    assert "Say what happened." in signature.instructions
