"""Runs scripted policies on the tasks of `dspy_rlm.tasks`: what the engine lets a policy reach, and what it does about mistakes.

    python -m benchmarks.tasks                                    # everything, up to a million tokens
    python -m benchmarks.tasks --tokens 8000 --only oolong-pairs  # one task at one length
    python -m benchmarks.tasks --part failures                    # the ways to fail only

No language model takes part. The first table has honest policies, whose ceiling is a score of 1: less would be a fault of the engine. The
second has two outputs of tens of thousands and of millions of pairs. The third has policies that fail, and the reaction of the engine. Tokens
are characters by four. Exits with 1 if a score is not the ceiling of its policy, or not what is known of its way to fail.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.task_policies.asking import ASKING
from benchmarks.task_policies.failing import FAILURES, extract, reactions
from benchmarks.task_policies.honest import CEILING, HONEST
from benchmarks.task_policies.running import Outcome, run
from benchmarks.task_policies.tables import (
    FailedRow,
    Row,
    failed_table,
    honest_table,
    tokens_table,
    ways_table,
)
from dspy_rlm import tasks

LENGTHS = (8_000, 128_000, 1_000_000)
FAILING_TOKENS = 32_000

# Users who all have a line with one of two labels: 262 of them are 34,191 pairs, 2,829 are 4,000,206.
PAIRS = (
    (34_191, {"tokens": 128_000, "users": 262, "seed": 1}),
    (4_000_206, {"tokens": 1_000_000, "users": 2_829, "seed": 0}),
)


def row_of(task: tasks.Task, tokens: int, outcomes: Sequence[Outcome]) -> Row:
    """Returns the means of the outcomes."""
    mean = statistics.fmean
    return Row(
        task.name,
        tokens,
        len(outcomes),
        mean(outcome.score for outcome in outcomes),
        mean(outcome.official for outcome in outcomes),
        mean(outcome.turns for outcome in outcomes),
        mean(outcome.calls for outcome in outcomes),
        sum(outcome.root_tokens for outcome in outcomes)
        / sum(outcome.turns for outcome in outcomes),
        mean(outcome.sub_tokens for outcome in outcomes),
        mean(outcome.seconds for outcome in outcomes),
    )


def honest(names: Sequence[str], lengths: Sequence[int]) -> Iterator[Row]:
    """Yields a row for each task and length."""
    for tokens in lengths:
        for name in names:
            task = tasks.load(name, tokens=tokens, n=2 if tokens < 100_000 else 1, seed=1)
            yield row_of(task, tokens, run(task, HONEST[name]))


def many_pairs() -> Iterator[tuple[int, Row]]:
    """Yields the number of pairs and the row of each large output."""
    for pairs, options in PAIRS:
        tokens = options["tokens"]
        task = tasks.load("oolong-pairs", n=1, conditions=(6,), **options)
        yield len(task.examples[0].answer), row_of(task, tokens, run(task, HONEST["oolong-pairs"]))
        if len(task.examples[0].answer) != pairs:
            raise AssertionError(
                f"the task has {len(task.examples[0].answer):,} pairs, not {pairs:,}"
            )


def failures(names: Sequence[str], tokens: int, journal: Path) -> Iterator[FailedRow]:
    """Yields a row for each task and each way to fail that applies to it. Runs are recorded in the folder `journal`."""
    for name in names:
        task = failing_task(name, tokens)
        (good,) = run(task, HONEST[name])
        for failure in FAILURES:
            if failure.sub_calls and name not in ASKING:
                continue
            player = extract(name)
            (bad,) = run(
                task, failure.make(name), extract=player, journal=journal, **failure.settings
            )
            yield FailedRow(
                name,
                failure.name,
                bad.score,
                failure.known(name),
                bad.official,
                bad.ended,
                bad.turns,
                bad.calls,
                bad.root_tokens + bad.sub_tokens,
                good.root_tokens + good.sub_tokens,
                reactions(bad.outputs),
                list(bad.reported),
            )


def failing_task(name: str, tokens: int = FAILING_TOKENS) -> tasks.Task:
    """Returns the task with one example: of the counting ones, one whose answer is a plain count."""
    task = tasks.load(name, tokens=tokens, n=8, seed=1)
    plain = [x for x in task.examples if x.question.startswith("How many lines should")]
    return replace(task, examples=tuple((plain or task.examples)[:1]))


def main(arguments: Sequence[str]) -> int:
    """Runs what was asked for and prints the tables; returns 1 if a score is not what it has to be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--only", nargs="+", choices=tasks.names(), default=list(tasks.names()))
    parser.add_argument("--part", choices=("honest", "pairs", "failures"), help="one table only")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    print("Scripted policies, no language model: the engine's ceiling and overhead.\n")
    rows: list[Row] = []
    failed: list[FailedRow] = []
    if options.part in (None, "honest"):
        print("\n".join(honest_table([])), flush=True)
        for row in honest(options.only, options.tokens):
            print(honest_table([row])[-1], flush=True)
            rows.append(row)
    if options.part in (None, "pairs") and "oolong-pairs" in options.only:
        large = list(many_pairs())
        print("\n" + "\n".join(honest_table([row for _, row in large])))
        print(
            f"\nPairs through SUBMIT: {', '.join(f'{count:,}' for count, _ in large)}.", flush=True
        )
        rows += [row for _, row in large]
    if options.part in (None, "failures"):
        print("\n" + "\n".join(failed_table([])), flush=True)
        with TemporaryDirectory() as folder:
            for case in failures(options.only, FAILING_TOKENS, Path(folder)):
                print(failed_table([case])[-1], flush=True)
                failed.append(case)
        print("\n" + "\n".join([*ways_table(failed), "", *tokens_table(failed)]))
    took = sum(os.times()[:4])  # of this process, and of the sandboxes that have ended
    print(f"\n{time.perf_counter() - start:.0f} s; {took:.0f} s of CPU time")
    if options.json:
        record = {
            "honest": [asdict(row) for row in rows],
            "failures": [asdict(row) for row in failed],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    missed = [
        f"{row.task} at {row.tokens:,} tokens: {row.score}, and the ceiling is {CEILING}"
        for row in rows
        if row.score != CEILING
    ]
    for case in failed:
        low, high = case.known
        if not low <= case.score <= high:
            missed.append(f"{case.task}, {case.failure}: {case.score}, not {low:g} to {high:g}")
    print("\n".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
