"""The entry point of `dspy-rlm batch`: finds mistakes that need no DSPy."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dspy_rlm.cli.batching.rates import numbers_by_model
from dspy_rlm.cli.exit_codes import USAGE, CommandError
from dspy_rlm.cli.programs.command import check_names_one
from dspy_rlm.errors import InputError


def batch(options: argparse.Namespace) -> int:
    """Runs a job; returns the exit code.

    Raises:
        CommandError: An argument is wrong.
        InputError: The rows cannot be read.
        KeyboardInterrupt: Ctrl-C. Everything is kept.
    """
    check(options)
    from dspy_rlm.cli.batching.run import run_batch

    return run_batch(options)


def check(options: argparse.Namespace) -> None:
    """Checks the arguments.

    Raises:
        CommandError: An argument is wrong.
        InputError: A file does not exist.
    """
    check_names_one(
        options,
        'Say what to run: --sig SIGNATURE, such as "text -> label", or --program FILE.py:RLM.',
    )
    if options.rows != "-" and not Path(options.rows).exists():
        raise InputError(f"There is no file {options.rows!r}.")
    if options.job_cost is not None and not 0 < options.job_cost < math.inf:
        raise CommandError("--max-cost must be more than 0.", USAGE)
    for name in ("concurrency", "attempts", "sample"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise CommandError(f"--{name} must be 1 or more.", USAGE)
    if options.sample is not None and not options.dry_run:
        raise CommandError("--sample belongs to --dry-run.", USAGE)
    if options.dry_run and options.rows == "-":
        raise CommandError("--dry-run needs a file of rows: stdin can be read only once.", USAGE)
    for name in ("rpm", "tpm"):
        numbers_by_model(getattr(options, name), name)
