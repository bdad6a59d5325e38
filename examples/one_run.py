"""One run of an RLM, step by step: who broke the build, in a log of 20 MB?

    python examples/one_run.py

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import re

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, policy, rules

COMMITS = ["4be1d07", "9f2c1ab", "c5d20e9"]


def build_log() -> str:
    """Returns the log of a night of builds: half a million lines, and three failures of two kinds."""
    lines = [
        f"{n // 3600:04}:{n % 3600:04} worker-{n % 17:02} compiled unit {n * 7919 % 99_991}"
        for n in range(500_000)
    ]
    lines[88_122] = "0024:1722 worker-13 ERROR: disk quota reached while linking 4be1d07, retrying"
    lines[88_123] = "0024:1723 worker-14 ERROR: undefined symbol `flush_all` since 9f2c1ab"
    lines[90_550] = "0025:0550 worker-08 ERROR: 3 tests failed, first bad commit: 9f2c1ab"
    return "\n".join(lines)


@policy
def root(task):
    """Plays the root LM: looks, searches, asks the sub-LM about what it found, and answers."""
    yield Action(
        "I do not know this log. How long is it, and what does a line look like?",
        "lines = logs.splitlines()\nprint(len(logs), 'characters,', len(lines), 'lines')\nprint(lines[0])",
    )
    yield Action(
        "Too long to read. Lines of trouble usually say ERROR.",
        "errors = [(n, line) for n, line in enumerate(lines, 1) if 'ERROR' in line]\n"
        "for n, line in errors:\n    print(n, line)",
    )
    yield Action(
        "Not every error breaks a build. The sub-LM reads each one; the three calls run at the same time.",
        "verdicts = sub_llm_batched([\n"
        "    f'Which commit broke the build according to this line? Hash, or none.\\n{line}' for _, line in errors\n"
        "])\nprint(verdicts)",
    )
    yield Action(
        "Two of three name the same commit.",
        "from collections import Counter\n"
        "culprit, _ = Counter(v for v in verdicts if v != 'none').most_common(1)[0]\n"
        "SUBMIT(answer=culprit, lines=[n for (n, _), v in zip(errors, verdicts) if v == culprit])",
    )


sub = rules([("retrying", "none"), (r"([0-9a-f]{7})$", lambda match: match[1])], default="none")


def main() -> None:
    """Runs it, and prints each step as the root LM saw it."""
    models = choose_models(root, sub)
    rlm = dspy_rlm.RLM(
        "logs, question -> answer: str, lines: list[int]",
        sub_lm=models.sub,
        max_iterations=10,
        max_llm_calls=20,
    )
    with dspy.context(lm=models.root):
        prediction = rlm(logs=build_log(), question="Who broke the build?")

    prompt = models.root.history[0]["messages"][-1]["content"]
    shown = re.compile(r"Variable|Type|Size|0000:000[01]|\[\.\.\.|Who|Turn")
    print("--- the root LM sees, among other lines:")
    print("\n".join(line for line in prompt.splitlines() if shown.match(line)))
    for number, step in enumerate(prediction.run.steps, 1):
        print(f"--- turn {number}: {step.reasoning}")
        print("\n".join(f">>> {line}" for line in step.code.splitlines()))
        print(step.output.rstrip())
    print("---")
    print("answer:", prediction.answer, prediction.lines)
    run = prediction.run
    sent = sum(call.chars_in for call in run.sub_calls)
    print(
        f"{len(run.steps)} turns, {len(run.sub_calls)} calls of the sub-LM with {sent} characters in all"
    )


if __name__ == "__main__":
    main()
