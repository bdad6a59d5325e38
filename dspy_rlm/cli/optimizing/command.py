"""The entry point of `dspy-rlm optimize`: finds mistakes that need no DSPy."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from dspy_rlm.cli.exit_codes import CONFIGURATION, USAGE, CommandError
from dspy_rlm.cli.programs.command import check_names_one
from dspy_rlm.errors import InputError


def optimize(options: argparse.Namespace) -> int:
    """Optimizes an RLM; returns the exit code.

    Raises:
        CommandError: An argument is wrong.
        InputError: A file does not exist.
    """
    check(options)
    from dspy_rlm.cli.optimizing.run import run_optimize

    return run_optimize(options)


def check(options: argparse.Namespace) -> None:
    """Checks the arguments.

    Raises:
        CommandError: An argument is wrong.
        InputError: A file does not exist.
    """
    check_names_one(
        options,
        "Name what to optimize: an RLM of a program, as in program.py:rlm, or --sig SIGNATURE.",
    )
    for path in (options.trainset, options.holdout):
        if path is not None and not path.is_file():
            raise InputError(f"Cannot read {path}: there is no such file.")
    if options.threads < 1 or options.max_runs < 1:
        raise CommandError("--threads and --max-runs must be 1 or more.", USAGE)
    total = options.max_total_cost
    if total is not None and not 0 < total < math.inf:
        raise CommandError("--max-total-cost must be more than 0.", USAGE)
    _check_output(options.output)


def _check_output(path: Path) -> None:
    if path.suffix != ".json":
        raise CommandError(f"--output {path} must end with .json.", USAGE)
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise CommandError(
            f"The state cannot be written to {path}. Name a file in a folder that exists.",
            CONFIGURATION,
        )
