"""Shared fixtures of `dspy_rlm.testing`'s tests: a REPL, its history, and a run that calls an LM over HTTP.

The run is the smallest honest loop: `dspy.Predict` with DSPy's field names, real `exec`, and the
history rendered as a root LM's prompt shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy
import pytest
from dspy.primitives.repl_types import REPLHistory

from dspy_rlm.testing import Action, Fault, Player, PolicyServer

Render = Callable[[list[tuple[str, str, str]]], Any]


class RootStep(dspy.Signature):
    """Answer by writing code."""

    variables_info: str = dspy.InputField()
    repl_history: str = dspy.InputField()
    iteration: str = dspy.InputField()
    reasoning: str = dspy.OutputField()
    code: str = dspy.OutputField()


class RootStepOfDSPy(RootStep):
    """Answer by writing code, with the history as dspy.RLM types it."""

    repl_history: REPLHistory = dspy.InputField()


def render_history(steps: list[tuple[str, str, str]]) -> str:
    """Our rendering: the stated length is the number of characters shown."""
    if not steps:
        return "You have not interacted with the REPL environment yet."
    return "\n".join(
        f"=== Step {number} ===\n"
        + (f"Reasoning: {reasoning}\n" if reasoning else "")
        + f"Code:\n```python\n{code}\n```\nOutput ({len(output):,} chars):\n{output}"
        for number, (reasoning, code, output) in enumerate(steps, 1)
    )


def history_of_dspy(steps: list[tuple[str, str, str]]) -> REPLHistory:
    """DSPy's own rendering, cut at 200 characters."""
    history = REPLHistory(max_output_chars=200)
    for reasoning, code, output in steps:
        history = history.append(reasoning=reasoning, code=code, output=output)
    return history


@dataclass
class Run:
    """A root LM's run: asks, executes, records."""

    lm: Any
    variables: Mapping[str, object] = field(default_factory=dict)
    variables_info: str = "Variable: `text`"
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    render: Render = render_history
    signature: Any = RootStep
    adapter: Any = None

    def __post_init__(self) -> None:
        self._namespace = {**self.variables, "print": self._print}
        self._printed: list[str] = []

    def ask(self) -> Action:
        """One request; returns the reply as DSPy read it, without the fence."""
        with dspy.context(lm=self.lm, adapter=self.adapter or dspy.ChatAdapter()):
            reply = dspy.Predict(self.signature)(
                variables_info=self.variables_info,
                repl_history=self.render(self.steps),
                iteration=f"{len(self.steps) + 1}/20",
            )
        code = reply.code.removeprefix("```python\n").removesuffix("\n```")
        return Action(reply.reasoning, code)

    def step(self) -> str:
        """One turn of the loop; returns the cell's output."""
        action = self.ask()
        self._printed.clear()
        exec(action.code, self._namespace)
        output = "".join(self._printed)
        self.steps.append((action.reasoning, action.code, output))
        return output

    def _print(self, *values: object, end: str = "\n") -> None:
        self._printed.append(" ".join(map(str, values)) + end)


@pytest.fixture
def serve() -> Iterator[Callable[..., PolicyServer]]:
    """Opens servers and closes them after the test."""
    servers: list[PolicyServer] = []

    def start(faults: Mapping[str, Fault] | None = None, **models: Player) -> PolicyServer:
        servers.append(PolicyServer(models, faults=faults))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def run_of(serve: Callable[..., PolicyServer]) -> Callable[..., Run]:
    """Starts a run whose root LM is a player, with a server of its own unless `lm` is given."""

    def start(
        player: Player | None = None, *, lm: Any = None, rendering: str = "ours", **settings: Any
    ) -> Run:
        if rendering == "dspy":
            settings = {"render": history_of_dspy, "signature": RootStepOfDSPy, **settings}
        return Run(lm or serve(root=player).lm("root"), **settings)

    return start
