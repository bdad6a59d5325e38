"""The styles of a prompt: how the steps of a run are written for a root LM, and how it is asked to reply.

`default` writes the fields of DSPy's adapter. `paper` writes a conversation with ```repl blocks, `context`, `FINAL`,
`FINAL_VAR` and `answer`, as models that were trained on trajectories of RLMs expect
(https://github.com/alexzhang13/rlm). `tools` writes a conversation in which each cell is a call of the tool `python`, for
models that are trained to call tools. All styles drive the same loop, and replies in any form are read in each.
"""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from dspy_rlm.errors import SignatureError
from dspy_rlm.prompts.history import ShownStep, split_steps
from dspy_rlm.values.python_text import syntax_tree

Message: TypeAlias = dict[str, Any]

# The name of the tool that runs a cell, and its definition as OpenAI's chat API has it.
CELL_TOOL = "python"
CELL_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": CELL_TOOL,
            "description": "Runs Python in the REPL and returns its output.",
            "parameters": {
                "type": "object",
                "properties": {"code": {"type": "string"}},
                "required": ["code"],
            },
        },
    }
]

# The output of the reply of a demo.
DEMO_END = "(The example ends here. Now the task itself.)"

_STEP_FIELDS = ("variables_info", "repl_history", "iteration")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The names under which the contract offers the functions of the REPL."""

    sub_llm: str = "sub_llm"
    sub_llm_batched: str = "sub_llm_batched"
    submit: str = "SUBMIT"
    """The name of the call that ends a run."""

    variables: str = "see `variables_info`"
    """The place of the descriptions of the inputs."""

    budget: str = "`iteration` says"
    """The place of the rest of the budget."""


# The variable by which newer versions of the paper's implementation end a run, `answer["ready"] = True`
# (https://github.com/alexzhang13/rlm): models that were trained on its trajectories write it.
ANSWER = "answer"
_SUBMIT_ANSWER = f'if type(globals().get("{ANSWER}")) is dict and {ANSWER}.get("ready"): SUBMIT({ANSWER}.get("content"))'


@dataclasses.dataclass(frozen=True)
class Style:
    """A way to write prompts."""

    name: str

    reply_rule: str
    """The rule of the contract on the form of a reply."""

    vocabulary: Vocabulary = Vocabulary()

    write_step: Callable[[ShownStep, int], list[Message]] | None = None
    """Returns the messages of a step, from its number; None where DSPy's adapter writes the prompt."""

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The options of the LM's call, which must not be changed."""

    repairs: frozenset[str] = frozenset()
    """The repairs of replies that are no repairs here: the prompt asks for this form."""

    papers_names: bool = False
    """True if the REPL has the names of the paper's own implementations: `context`, and `answer`, which ends a run."""

    def prelude(self, inputs: Collection[str]) -> str:
        """Returns the code that runs before the first turn; empty in most styles."""
        lines = [self._context(inputs)]
        if self.papers_names and ANSWER not in inputs:
            lines.append(f'{ANSWER} = {{"content": "", "ready": False}}')
        return "\n".join(filter(None, lines))

    def _context(self, inputs: Collection[str]) -> str:
        if not self.papers_names or not inputs or "context" in inputs:
            return ""
        if len(inputs) == 1:
            return f"context = {next(iter(inputs))}"
        return f"context = {{{', '.join(f'{name!r}: {name}' for name in inputs)}}}"

    def runnable(self, code: str, inputs: Collection[str], earlier: Iterable[str] = ()) -> str:
        """Returns the code to run for a cell: where the style has `answer`, setting `answer["ready"]` submits.

        `earlier` are the cells before it: one of them may have set it, with a content that did not fit. Code with a syntax error is left alone, so that the error is its own.
        """
        if not self.papers_names or ANSWER in inputs or ANSWER not in code:
            return code
        if not any("ready" in cell for cell in (code, *earlier)):
            return code
        try:
            syntax_tree(code, flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return code
        return f"{code}\n{_SUBMIT_ANSWER}"

    def context_lines(self, inputs: Collection[str]) -> list[str]:
        """Returns the contract's line on `context`, if the style has it."""
        if not self._context(inputs):
            return []
        names = list(inputs)
        return [
            f"`context` is the same as `{names[0]}`."
            if len(names) == 1
            else "`context` is a dict of them by name."
        ]

    @property
    def is_conversation(self) -> bool:
        """True if steps are messages of their own."""
        return self.write_step is not None

    def messages(
        self, instructions: str, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> list[Message]:
        """Returns the prompt of a turn as a conversation; a demo is an earlier one."""
        messages: list[Message] = [{"role": "system", "content": instructions}]
        for demo in demos:
            reply = ShownStep(str(demo.get("reasoning") or ""), _code_of(demo), DEMO_END)
            messages += self._turns(demo, [reply], len(messages))
        return _merged([*messages, *self._turns(inputs, [], len(messages))])

    def _turns(
        self, inputs: Mapping[str, Any], replies: Sequence[ShownStep], number: int
    ) -> list[Message]:
        """Returns the messages of a run up to its next turn, and those of the turn itself if it is known.

        `number` is that of the messages before them: the names of calls differ in a whole conversation.
        """
        variables, history, iteration = (str(inputs.get(name) or "") for name in _STEP_FIELDS)
        more = [
            f"{name}: {value}" for name, value in inputs.items() if name not in _more_names(inputs)
        ]
        messages = [_user("\n\n".join(filter(None, [variables, *more])))]
        for step in split_steps(history):
            messages += self._written(step, number + len(messages))
        # Last, because it alone changes with every turn: a cache holds everything before it.
        messages.append(_user(iteration))
        for step in replies:
            messages += self._written(step, number + len(messages))
        return messages

    def _written(self, step: ShownStep, number: int) -> list[Message]:
        if self.write_step is None:
            raise ValueError(f"The style {self.name!r} writes no steps.")
        return self.write_step(step, number)


def _more_names(inputs: Mapping[str, Any]) -> set[str]:
    """Returns the names that are no further inputs of a turn, such as the advice of `dspy.Refine`."""
    empty = {name for name, value in inputs.items() if not value}
    return {*_STEP_FIELDS, "reasoning", "code", "output", "augmented", *empty}


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _merged(messages: Sequence[Message]) -> list[Message]:
    """Joins messages of the user that follow one another: some servers take only alternating roles."""
    merged: list[Message] = []
    for message in messages:
        if merged and message["role"] == merged[-1]["role"] == "user":
            merged[-1] = _user(f"{merged[-1]['content']}\n\n{message['content']}")
        else:
            merged.append(message)
    return merged


def _code_of(demo: Mapping[str, Any]) -> str:
    code = str(demo.get("code") or "").strip()
    return (
        code.removeprefix("```python").removesuffix("```").strip()
        if code.startswith("```")
        else code
    )


def _write_block(step: ShownStep, _number: int) -> list[Message]:
    """Writes a step as a reply with a ```repl block, and its output as the answer."""
    reply = "\n\n".join(filter(None, [step.reasoning, f"```repl\n{step.code}\n```"]))
    return [{"role": "assistant", "content": reply}, _user(f"REPL output:\n{step.output}")]


def _write_call(step: ShownStep, number: int) -> list[Message]:
    """Writes a step as a call of the tool `python`, and its output as the tool's result."""
    identifier = f"call_{number}"
    call = {
        "id": identifier,
        "type": "function",
        "function": {
            "name": CELL_TOOL,
            "arguments": json.dumps({"code": step.code}, ensure_ascii=False),
        },
    }
    return [
        {"role": "assistant", "content": step.reasoning, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": identifier, "content": step.output},
    ]


DEFAULT = Style("default", "Write one ```python block per turn.")

_IN_MESSAGES = ("described in the first message", "each message says")

PAPER = Style(
    "paper",
    "Think step by step, then write one ```repl block of Python per turn.",
    Vocabulary("llm_query", "llm_query_batched", "FINAL", *_IN_MESSAGES),
    _write_block,
    papers_names=True,
)

TOOLS = Style(
    "tools",
    f"Call the tool `{CELL_TOOL}` with the code of one cell per turn.",
    Vocabulary(variables=_IN_MESSAGES[0], budget=_IN_MESSAGES[1]),
    write_step=_write_call,
    repairs=frozenset({"tool_call"}),
    options={"tools": CELL_TOOLS, "tool_choice": "auto"},
)

STYLES = {style.name: style for style in (DEFAULT, PAPER, TOOLS)}


def checked_style(style: Any) -> str:
    """Returns the name of the prompt's style. Raises `SignatureError` for one that does not exist."""
    if isinstance(style, str) and style in STYLES:
        return style
    names = ", ".join(map(repr, STYLES))
    raise SignatureError(f"style must be one of {names}, not {style!r}.")
