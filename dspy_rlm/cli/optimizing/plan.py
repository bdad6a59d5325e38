"""The plan of an optimization: its examples in three parts, its runs, and the most that they can cost. No I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dspy_rlm.cli.exit_codes import USAGE, CommandError

T = TypeVar("T")

# The part of a trainset that is held out, where no other file has the examples to measure on.
HELD_OUT = 1 / 3

# Below so many examples, an optimizer learns from the same ones that it chooses by.
LEAST_TO_DIVIDE = 8

# Examples of one reflection of GEPA: a run says more than an answer.
REFLECTED = 3

# Instructions, and sets of demos, that MIPROv2 tries.
CANDIDATES = 4


@dataclass(frozen=True)
class Parts(Generic[T]):
    """The examples, divided."""

    train: Sequence[T]
    """The examples that the optimizer learns from."""

    validation: Sequence[T]
    """The examples by which it selects candidates."""

    held_out: Sequence[T]
    """The held-out examples, which it does not see."""


def divided(examples: Sequence[T], held_out: Sequence[T] | None, seed: int) -> Parts[T]:
    """Returns the parts of the examples.

    Raises:
        CommandError: There are too few.
    """
    if len(examples) < (1 if held_out else 3):
        raise CommandError(
            f"The trainset has {len(examples)} of the 3 examples that are needed at least. Add some.",
            USAGE,
        )
    mixed = list(examples)
    random.Random(seed).shuffle(mixed)  # noqa: S311 - no secret
    if held_out is None:
        apart = max(1, round(len(mixed) * HELD_OUT))
        held_out, mixed = mixed[:apart], mixed[apart:]
    if len(mixed) < LEAST_TO_DIVIDE:
        return Parts(mixed, mixed, held_out)
    half = len(mixed) // 2
    return Parts(mixed[:half], mixed[half:], held_out)


@dataclass(frozen=True)
class Runs:
    """The runs of an optimization."""

    measured: int
    """Those on the examples that are held out, before and after."""

    most: int
    """Those of the optimizer, at most."""

    steps: int
    """For GEPA the calls of the metric after which it begins nothing new; for MIPROv2 its trials."""

    proposals: int
    """Requests to the LM that writes instructions, at most."""

    @property
    def total(self) -> int:
        """All runs, at most."""
        return self.measured + self.most


def planned(optimizer: str, parts: Parts[Any], max_runs: int) -> Runs:
    """Returns the runs that fit a limit.

    Raises:
        CommandError: None do.
    """
    validation, train = len(parts.validation), len(parts.train)
    if optimizer == "gepa":
        # Each step runs a few examples with the old and the new instruction, and a good one on all to choose by.
        step = 2 * REFLECTED + validation
        least, steps = validation + step, max_runs - step + 1
        proposals = max(0, (max_runs - validation)) // (2 * REFLECTED)
    else:
        # Demos come from runs on the trainset; then each trial, and the start, runs all to choose by.
        begin = (CANDIDATES - 1) * train + validation
        least, steps = begin + validation, (max_runs - begin) // validation
        # A description of the program and its parts, tips, and an instruction for each candidate.
        proposals = 4 * CANDIDATES
    if max_runs < least:
        raise CommandError(
            f"--max-runs {max_runs} is too few for {validation} examples to choose by: {least} are needed at least. Raise it, "
            "or give fewer examples.",
            USAGE,
        )
    return Runs(2 * len(parts.held_out), max_runs, steps, proposals)
