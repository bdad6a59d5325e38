"""Options and pace of the commands that repeat a random trial many times: `tests.accounting`, `tests.kill_and_resume`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator


def trial_options(command: str) -> argparse.ArgumentParser:
    """Returns a parser with the options of all such commands."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.{command}")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first run")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long")
    return parser


def numbers(options: argparse.Namespace) -> Iterator[int]:
    """Yields the numbers of the trials until they are done or their time is over."""
    began = time.monotonic()
    for number in range(options.first, options.first + options.runs):
        if options.seconds and time.monotonic() - began > options.seconds:
            return
        yield number
