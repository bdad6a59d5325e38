"""Prints what a long run's prompts take: `python -m benchmarks.context`.

A scripted policy plays the root LM for 200 steps, each of which prints 20 KB, and then answers from the REPL's variables and
from `history`. The server refuses each prompt that is longer than the window. Printed are the largest prompt, the
compactions, the refused requests, the turns lost, and the share of all prompts that a provider's cache can serve: the
longest beginning that a prompt shares with any before it. A token is counted as four characters, as the server does.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

CHARS_A_TOKEN = 4
WINDOW = 32_768

# Of the table of models: the only window that is known before the first prompt.
KNOWN, KNOWN_WINDOW = "gpt-3.5-turbo", 16_385

# The prompts before one that its beginning is compared with: older ones share less of it.
COMPARED = 40


@dataclass(frozen=True)
class Case:
    """A setting of the run."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    model: str = "root"
    window: int = WINDOW


CASES = (
    Case("window unknown, learned from a refusal"),
    Case("history_tokens=24_000", {"history_tokens": 24_000}),
    Case("history_tokens=24_000, summaries", {"history_tokens": 24_000, "compaction": "summary"}),
    Case("window of 16k known from the table", model=KNOWN, window=KNOWN_WINDOW),
    Case("opaque observations", {"observations": "opaque"}),
    Case("style paper, history_tokens=24_000", {"history_tokens": 24_000, "style": "paper"}),
)


@dataclass
class Figures:
    """The figures of one run."""

    prompts: list[str] = field(default_factory=list)
    """The accepted prompts, as text."""

    refused: int = 0
    turns_lost: int = 0
    compactions: int = 0
    summaries: int = 0
    answer: str = ""

    @property
    def largest(self) -> int:
        """Tokens of the largest prompt."""
        return max(map(len, self.prompts)) // CHARS_A_TOKEN

    @property
    def tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(map(len, self.prompts)) // CHARS_A_TOKEN

    @property
    def cached(self) -> float:
        """The share of the prompts that each one has in common with the beginning of one before."""
        same = 0
        for at, prompt in enumerate(self.prompts):
            earlier = self.prompts[max(at - COMPARED, 0) : at]
            same += max((common(prompt, other) for other in earlier), default=0)
        return same / max(sum(map(len, self.prompts)), 1)

    @property
    def cacheable(self) -> float:
        """The same if nothing had ever been shortened in a prompt: the new part of each step is new to any cache."""
        new = len(self.prompts[0]) + sum(
            max(len(two) - len(one), 0)
            for one, two in zip(self.prompts, self.prompts[1:], strict=False)
        )
        return 1 - new / max(sum(map(len, self.prompts)), 1)


def common(one: str, other: str) -> int:
    """Returns the number of characters that two texts begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def cells(steps: int) -> Iterator[str]:
    """Yields the cells of the policy."""
    for number in range(1, steps + 1):
        yield (
            f"n = {number}\nfound_{number} = {number} * 7\n"
            "print('\\n'.join(f'line {i:04} of step {n}: the lift is stuck' for i in range(512)))"
        )
    yield (
        "kept = [globals()[f'found_{i}'] for i in range(1, n + 1)]\n"
        "steps = history if 'history' in globals() else HISTORY()\n"
        "seen = [s['step'] for s in steps if f\"line 0511 of step {s['step']}:\" in s['output']]\n"
        "SUBMIT(f'{len(kept)} {sum(kept)} {len(seen)}')"
    )


def player(steps: int, figures: Figures) -> Callable[[Any], str]:
    """Returns the policy, which keeps the prompts that reach it."""
    moves = cells(steps)

    def play(request: Any) -> str:
        if "Summarize the steps" in request.system:
            figures.summaries += 1
            return "[[ ## summary ## ]]\nEach step printed 512 lines.\n\n[[ ## completed ## ]]"
        figures.prompts.append("\n".join(f"{m.role}: {m.text}" for m in request.messages))
        code = next(moves, "pass")
        fenced = f"```python\n{code}\n```"
        return (
            f"[[ ## reasoning ## ]]\nNext.\n\n[[ ## code ## ]]\n{fenced}\n\n[[ ## completed ## ]]"
        )

    return play


def measure(case: Case, steps: int) -> Figures:
    """Plays one case and returns its figures."""
    import dspy

    from dspy_rlm import RLM
    from dspy_rlm.testing import Fault, PolicyServer

    figures = Figures()
    too_long = Fault(
        status=400,
        message=f"This model's maximum context length is {case.window} tokens.",
        times=None,
        only=lambda r: sum(len(m.text) for m in r.messages) > case.window * CHARS_A_TOKEN,
    )
    with PolicyServer({case.model: player(steps, figures)}) as server:
        server.fail(case.model, too_long)
        with dspy.context(lm=server.lm(case.model), adapter=dspy.ChatAdapter()):
            rlm = RLM("question -> answer", max_iterations=steps + 5, **case.options)
            prediction = rlm(question="What is stuck?")
        figures.refused = sum(exchange.status != 200 for exchange in server.requests)
    figures.answer = prediction.answer
    figures.compactions = prediction.run.compactions
    figures.turns_lost = prediction.run.iterations - steps - 1
    return figures


def main(arguments: Sequence[str]) -> int:
    """Measures the cases, and fails if a run has not its answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="steps of the policy (200)")
    parser.add_argument("--only", help="the cases whose name has this text")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    steps = options.steps
    print(f"{steps} steps with 20 KB of output each, within a window of {WINDOW:,} tokens\n")
    print(
        "| case | largest prompt | tokens in all | compactions | summaries | refused | turns lost | cached | at most |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    right = f"{steps} {7 * steps * (steps + 1) // 2} {steps}"
    wrong = 0
    for case in CASES:
        if options.only and options.only not in case.name:
            continue
        one = measure(case, steps)
        print(
            f"| {case.name} | {one.largest:,} | {one.tokens:,} | {one.compactions} | {one.summaries} | {one.refused} | "
            f"{one.turns_lost} | {one.cached:.1%} | {one.cacheable:.1%} |",
            flush=True,
        )
        if one.answer != right:
            print(f"{case.name} answered {one.answer!r}, not {right!r}")
            wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
