"""The entry points of `dspy-rlm compare` and `dspy-rlm bench`: find mistakes that need no DSPy."""

from __future__ import annotations

import argparse
import math

from dspy_rlm.cli.exit_codes import USAGE, CommandError
from dspy_rlm.errors import InputError


def compare(options: argparse.Namespace) -> int:
    """Compares systems, or two recorded runs; returns the exit code.

    Raises:
        CommandError: An argument is wrong.
        InputError: A file does not exist.
    """
    items = options.data is not None or options.task is not None
    if not items:
        if options.a is None or options.b is None:
            raise CommandError(
                "Name two recorded runs, or what to compare systems on: --data FILE.jsonl --sig SIGNATURE, or --task NAME.",
                USAGE,
            )
        from dspy_rlm.cli.recorded.again import compare_runs

        return compare_runs(options)
    if options.a is not None:
        raise CommandError(
            f"{options.a!r} is a recorded run, and --data or --task are items for systems. Use one of them.",
            USAGE,
        )
    if (options.data is None) == (options.task is None):
        raise CommandError("--data and --task exclude each other.", USAGE)
    if options.data is not None:
        if options.signature is None:
            raise CommandError("--data needs --sig SIGNATURE, such as 'log -> count: int'.", USAGE)
        if not options.data.is_file():
            raise InputError(f"Cannot read {options.data}: there is no such file.")
    for path in options.output:
        if path.suffix not in (".html", ".json"):
            raise CommandError(f"--output {path} must end with .html or .json.", USAGE)
    check(options)
    from dspy_rlm.cli.comparing.run import run_compare

    return run_compare(options)


def bench(options: argparse.Namespace) -> int:
    """Runs a suite; returns the exit code.

    Raises:
        CommandError: An argument is wrong.
    """
    check(options)
    from dspy_rlm.cli.comparing.bench import run_bench

    return run_bench(options)


def check(options: argparse.Namespace) -> None:
    """Checks the arguments that both commands have.

    Raises:
        CommandError: One is wrong.
    """
    if options.threads < 1 or options.items < 1 or min(options.tokens) < 1:
        raise CommandError("--threads, --items and --tokens must be 1 or more.", USAGE)
    for name in ("max_cost", "max_seconds"):
        limit = getattr(options, name)
        if limit is not None and not 0 < limit < math.inf:
            raise CommandError(f"--{name.replace('_', '-')} must be more than 0.", USAGE)
