"""Every variant of the prompt, whole: a change of its text shows as a difference of a file in `prompt_texts/`.

`python -m tests.rlm.test_prompt_texts` writes the files anew; read the difference before you commit it.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from dspy_rlm import RLM, Limits
from dspy_rlm.budget.budget import Budget
from dspy_rlm.dspy_bridge.reply_adapter import reply_adapter
from dspy_rlm.lms.model_facts import ModelFacts
from dspy_rlm.lms.sub_lms import Models
from dspy_rlm.prompts.contract import Surroundings, contract
from dspy_rlm.prompts.history import render_steps
from dspy_rlm.prompts.instructions import extract_signature, iteration_line
from dspy_rlm.prompts.styles import STYLES
from dspy_rlm.prompts.variables import describe, render_variables
from dspy_rlm.reports.report import Step
from dspy_rlm.values.previews import DEFAULT_RULES

FOLDER = Path(__file__).parent / "prompt_texts"

PLAIN = "logs, question -> answer: str, lines: list[int]"

INPUTS = {"logs": "09:00 build started\n" * 3, "question": "Who broke the build?"}

STEPS = [
    Step("First I look at the log.", "print(logs[:19])\nlen(logs)", "09:00 build started\n60"),
    Step("", "line = logs[7", "SyntaxError: '[' was never closed\n", ""),
]


class Level(enum.Enum):
    """The severity of an event."""

    LOW = "low"
    HIGH = "high"


class Event(pydantic.BaseModel):
    """One event of a log."""

    __module__ = "app"  # its name is part of a prompt

    title: str
    level: Level = Level.LOW


class Described(pydantic.BaseModel):
    """An event whose field says more than its name."""

    title: str = pydantic.Field(description="at most five words")


class Triage(dspy.Signature):
    """Find what needs attention."""

    logs: str = dspy.InputField(desc="one event a line")
    events: list[Event] = dspy.OutputField(desc="the most severe first")
    total: int = dspy.OutputField(ge=0)


def fetch(key: str, limit: int = 5) -> list[str]:
    """Fetches documents.

    Slowly.
    """
    return [key] * limit


def whole_prompt(style: str, demos: int = 0, **options: Any) -> str:
    """Returns the messages of the third turn of a plain run."""
    rlm = RLM(PLAIN, style=style, **options)
    fields = rlm.signature.input_fields
    variables = [describe(name, INPUTS[name], fields[name], DEFAULT_RULES) for name in INPUTS]
    inputs = {
        "variables_info": render_variables(variables),
        "repl_history": render_steps(STEPS),
        "iteration": iteration_line(3, Budget(), {"llm_calls": 50}),
    }
    demo = {
        **inputs,
        "repl_history": render_steps(STEPS[:1]),
        "reasoning": "It is the first line.",
        "code": "```python\nSUBMIT('nobody', [1])\n```",
    }
    adapter = reply_adapter(dspy.ChatAdapter(), STYLES[style])
    messages = adapter.format(rlm.action_signature(), [demo] * demos, inputs)
    return "\n".join(map(rendered_message, messages))


def without_instructions(prompt: str) -> str:
    """Returns a prompt from its first user message on."""
    return prompt.partition("----- user -----\n")[2]


def rendered_message(message: Mapping[str, Any]) -> str:
    """Returns a message as text, with its calls of tools."""
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls", ())]
    return "\n".join([f"----- {message['role']} -----", message["content"], *calls])


def contract_of(signature: Any = PLAIN, style: str = "default", **facts: Any) -> str:
    """Returns the contract of a run in some surroundings."""
    task = dspy.Signature(signature) if isinstance(signature, str) else signature
    return contract(task, Surroundings(**facts), STYLES[style])


# The texts by the names of their files.
TEXTS: dict[str, Callable[[], str]] = {
    "plain": lambda: whole_prompt("default"),
    "paper": lambda: whole_prompt("paper"),
    "paper-with-a-demo": lambda: without_instructions(whole_prompt("paper", demos=1)),
    "tools": lambda: whole_prompt("tools"),
    "tools-with-a-demo": lambda: without_instructions(whole_prompt("tools", demos=1)),
    "with-a-tool": lambda: whole_prompt("default", tools=[fetch]).partition("----- user")[0],
    "contract-known-sub-lm": lambda: contract_of(
        facts={"": ModelFacts("mini", window=120_000, price=0.0625)}
    ),
    "contract-small-sub-lm": lambda: contract_of(facts={"": ModelFacts("tiny", window=8_000)}),
    "contract-several-sub-lms": lambda: contract_of(
        models=Models({"mini": None, "vision": None}, {"vision": "reads images"}),
        facts={"mini": ModelFacts("mini", window=120_000, price=0.0625)},
    ),
    "contract-media": lambda: contract_of("image: dspy.Image, question -> answer"),
    "contract-classes": lambda: contract_of(
        Triage, classes=["Event(title: str, level: Level)", "enum Level(LOW='low', HIGH='high')"]
    ),
    "contract-described-classes": lambda: contract_of(
        dspy.Signature({"event": (Described, dspy.OutputField())}, "Find it."),
        classes=["Described(title: str)"],
    ),
    "contract-sub-run": lambda: contract_of(depth=1, turns_take_prompts=True),
    "contract-packages-and-limits": lambda: contract_of(
        modules=["pandas", "numpy", "pydantic"],
        limits=Limits(cell_seconds=300, output_chars=20_000),
    ),
    "contract-budgets": lambda: contract_of(
        budget=Budget(
            7, 11, max_depth=0, max_cost=0.5, max_tokens=90_000, max_seconds=60, max_errors=3
        )
    ),
    "contract-foreign-interpreter": lambda: contract_of(foreign_rules="Plain Python runs."),
    "contract-opaque": lambda: contract_of(is_opaque=True),
    "contract-no-inputs": lambda: contract_of(
        dspy.Signature({"answer": (str, dspy.OutputField())}, "Answer.")
    ),
    "paper-contract-of-one-input": lambda: contract_of("document -> summary", style="paper"),
    "extraction": lambda: extract_signature(Triage).instructions,
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_whole_text(name):
    """A variant of the prompt is word for word the text in its file."""
    assert TEXTS[name]() == (FOLDER / f"{name}.txt").read_text("utf-8").removesuffix("\n")


def test_every_file_is_the_text_of_a_variant():
    """No file is left of a variant that no longer exists."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(TEXTS)


def test_the_plain_prompt_is_short():
    """The static part of a plain run's prompt has at most 3,500 characters; its author counts, not the reader."""
    system = whole_prompt("default").partition("----- user -----")[0]
    system = system.removeprefix("----- system -----\n").removesuffix("\n")

    assert len(system) <= 3_500


def test_the_page_explains_every_sentence():
    """docs/prompt.md has each line of the strategy and of the contract, whole and in order."""
    page = (Path(__file__).parents[2] / "docs" / "prompt.md").read_text("utf-8")
    rows = [row[2:] for row in page.replace(r"\|", "\0").splitlines() if row.startswith("| ")]
    explained = " ".join(row.split(" | ")[0].replace("\0", "|") for row in rows)
    objective = (
        whole_prompt("default").partition("----- user -----")[0].partition("objective is:")[2]
    )
    headings = ("Given the fields", "# The REPL", "Functions:", "Rules:")
    lines = [line.strip().removeprefix("- ") for line in objective.splitlines()]

    assert len(lines) > 20
    assert [line for line in lines if line not in explained and not line.startswith(headings)] == []


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in TEXTS.items():
        (FOLDER / f"{name}.txt").write_text(f"{text()}\n", "utf-8")
