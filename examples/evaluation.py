"""Evaluate an RLM program, and keep it from breaking in CI: two kinds of test that answer different questions.

    python examples/evaluation.py                                         # scripted: does the program work?
    DSPY_RLM_MODEL=openai/gpt-5-mini python examples/evaluation.py        # a model: how good are its answers?

The first belongs in CI: it costs nothing and is the same each time. The second costs money, and its score has an interval.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, policy, rules

SIGNATURE = "log, question -> count: int, days: list[int]"
MOST_DOLLARS, MOST_CALLS = 0.05, 5


def examples(count: int) -> list[dspy.Example]:
    """Returns logs with a known number of failures, made from seeds: no model has seen them."""
    made = []
    for seed in range(count):
        draw = random.Random(seed)
        lines = [
            f"day {day:02} job {job} {'FAILED' if draw.random() < 0.02 else 'ok'}"
            for day in range(1, 31)
            for job in range(200)
        ]
        days = sorted({int(line[4:6]) for line in lines if line.endswith("FAILED")})
        failures = sum(line.endswith("FAILED") for line in lines)
        example = dspy.Example(
            log="\n".join(lines),
            question="How many jobs FAILED, and on which days?",
            count=failures,
            days=days,
        )
        made.append(example.with_inputs("log", "question"))
    return made


def metric(example, prediction, trace=None) -> float:
    """Half a point for the count, half for the days."""
    return 0.5 * (prediction.count == example.count) + 0.5 * (
        sorted(prediction.days) == example.days
    )


@policy
def root(task):
    """Plays the root LM: it filters by a word, and is corrected by what it sees."""
    yield Action("What does a line look like?", "print(log[:60])")
    yield Action(
        "Filter, and look.",
        "bad = [l for l in log.splitlines() if 'FAILED' in l]\nprint(len(bad), bad[:2])",
    )
    yield Action(
        "Count the days once.", "SUBMIT(count=len(bad), days=sorted({int(l[4:6]) for l in bad}))"
    )


def interval(scores: list[float]) -> float:
    """Returns half the width of a 95 % interval of the mean."""
    mean = sum(scores) / len(scores)
    return 1.96 * math.sqrt(
        sum((score - mean) ** 2 for score in scores) / (len(scores) - 1) / len(scores)
    )


def main() -> int:
    """Evaluates; returns 1 if a bound is broken, which fails a CI job."""
    models = choose_models(root, rules([], default="?"))
    with tempfile.TemporaryDirectory() as folder, dspy.context(lm=models.root):
        rlm = dspy_rlm.RLM(
            SIGNATURE, sub_lm=models.sub, max_iterations=8, max_llm_calls=MOST_CALLS, journal=folder
        )
        evaluate = dspy.Evaluate(
            devset=examples(12), metric=metric, num_threads=4, display_progress=False
        )
        result = evaluate(rlm)
        predictions, scores = [row[1] for row in result.results], [row[2] for row in result.results]
        turns = [len(prediction.run.steps) for prediction in predictions]
        costs = [prediction.run.cost or 0.0 for prediction in predictions]
        print(
            f"score {result.score:.0f} %, +-{100 * interval(scores):.0f} (95 %, {len(scores)} examples)"
        )
        print(
            f"turns {min(turns)} to {max(turns)}; ended by {sorted({p.run.stopped_by for p in predictions})}"
        )

        # A recorded run, played again without any model: it fails if prompts, sandbox or parsing changed.
        again = dspy_rlm.replay(predictions[0].run.journal, rlm=rlm)
        print("replay of a recorded run is the same:", again.same)

    broken = [
        name
        for name, holds in {
            "the score": result.score == 100 or not models.scripted,
            "the turns": max(turns) <= 8,
            "the cost": max(costs) <= MOST_DOLLARS,
            "the replay": again.same,
        }.items()
        if not holds
    ]
    print("broken:", ", ".join(broken) or "nothing")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
