"""The runs that are killed: scripted policies with batches, nesting, tools and random numbers.

All players are functions of the prompt, so an answer is the same in any process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from dspy_rlm import RLM
from dspy_rlm.testing import (
    Action,
    ChatRequest,
    Observation,
    Player,
    PolicyServer,
    Task,
    asks_for,
    fields,
    policy,
    route,
)

Script = Generator[Action, Observation, None]

LINES = [f"line {number}: {number * 7919 % 1009}" for number in range(24)]

# A sub-call takes so long, so that a kill finds some in flight.
SUB_SECONDS = 0.01


def number_of(text: str) -> int:
    """A number that depends on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big") % 1000


def answer(request: ChatRequest) -> str:
    """The sub-LM's answer to a plain prompt."""
    time.sleep(SUB_SECONDS)
    return str(number_of(request.prompt))


def typed_answer(inputs: Mapping[str, str]) -> dict[str, Any]:
    """Its answer to a typed one."""
    time.sleep(SUB_SECONDS)
    return {"score": number_of(inputs["line"])}


def done(reasoning: str, code: str) -> Generator[Action, Observation, Observation]:
    """Runs a cell again if its sandbox was killed, as an LM would."""
    seen = yield Action(reasoning, code)
    while "The sandbox ended" in seen.output:
        seen = yield Action(reasoning, code)
    return seen


def batches(_task: Task) -> Script:
    """Plain and typed batches, and random numbers that later cells check."""
    yield from done(
        "Ask about each line.",
        "import random\nlines = text.splitlines()\n"
        "numbers = [int(n) for n in sub_llm_batched([f'Rate: {line}' for line in lines])]\n"
        "print(sum(numbers))",
    )
    seen = yield from done(
        "Score some of them.",
        "picked = random.sample(range(len(lines)), 5)\n"
        "rows = predict_batched('line -> score: int', [{'line': line} for line in lines[:8]])\n"
        "scores = [row.score for row in rows]\nprint(picked, sum(scores))",
    )
    picked = seen.output.partition("]")[0].lstrip("[")
    yield from done("One more.", "last = int(sub_llm(f'Last: {numbers[-1]}'))\nprint(last)")
    yield from done(
        "Submit.",
        f"SUBMIT(total=sum(numbers) + sum(scores) + last, same=picked == [{picked}])",
    )


def nested(_task: Task) -> Script:
    """Sub-runs, in a batch and alone, each with sub-calls of its own."""
    yield from done(
        "Split.",
        "lines = text.splitlines()\nparts = [lines[:2], lines[2:4], lines[4:6]]\nprint(len(parts))",
    )
    yield from done(
        "Let sub-runs work.",
        "done = sub_rlm_batched('part: list[str] -> total: int', [{'part': part} for part in parts])\n"
        "totals = [one.total for one in done]\nprint(totals)",
    )
    yield from done(
        "One more.",
        "one = sub_rlm('part: list[str] -> total: int', part=lines[6:8])\nprint(one.total, one.status)",
    )
    yield from done("Submit.", "SUBMIT(total=sum(totals) + one.total, same=True)")


def part(_task: Task) -> Script:
    """The script of each sub-run."""
    yield from done(
        "Ask.", "found = sub_llm_batched([f'Part: {line}' for line in part])\nprint(found)"
    )
    yield from done("Submit.", "SUBMIT(total=sum(map(int, found)))")


def tools(_task: Task) -> Script:
    """A tool that counts its calls, an error that the LM makes, and a fallback to the extraction."""
    yield from done(
        "Look up.", "found = [lookup(key=line) for line in text.splitlines()[:4]]\nprint(found)"
    )
    yield from done("A mistake.", "print(undefined_name)")
    yield from done(
        "Ask in a loop.",
        "answers = []\nfor value in found:\n    answers.append(sub_llm(f'Value {value}'))\nprint(answers)",
    )
    while True:
        yield from done("Print.", "total = sum(found) + sum(map(int, answers))\nprint(total)")


def lookup(key: str) -> int:
    """Returns a number for a key."""
    return number_of(f"tool {key}")


def extracted(inputs: Mapping[str, str]) -> dict[str, Any]:
    """The outputs, from the last line of the history."""
    return {"total": 4711, "same": True}


@dataclasses.dataclass(frozen=True)
class Program:
    """One kind of run."""

    script: Callable[[Task], Script]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


PROGRAMS = {
    "batches": Program(batches, {"max_llm_calls": 150}),
    "nested": Program(nested, {"max_llm_calls": 150}),
    "tools": Program(tools, {"max_iterations": 7, "tools": [lookup]}),
}


def server() -> PolicyServer:
    """A server that plays all programs, one root LM each."""
    outputs = fields(extracted)
    models: dict[str, Player] = {
        name: route((asks_for("code"), policy(program.script)), otherwise=outputs)
        for name, program in PROGRAMS.items()
    }
    sub = route(
        (asks_for("code"), policy(part)),
        (asks_for("score"), fields(typed_answer)),
        otherwise=answer,
    )
    return PolicyServer({**models, "sub": sub})


def rlm(name: str, sub_lm: Any, **options: Any) -> RLM:
    """The RLM of a program."""
    program = PROGRAMS[name]
    return RLM("text -> total: int, same: bool", sub_lm=sub_lm, **{**program.options, **options})
