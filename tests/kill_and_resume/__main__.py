"""See the package."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from .programs import PROGRAMS, server
from .trial import trial, undisturbed


def main() -> int:
    """Runs the trials and prints what they found."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_and_resume", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first run")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long")
    parser.add_argument("--program", choices=sorted(PROGRAMS))
    options = parser.parse_args()
    began, failed, counts = time.monotonic(), 0, Counter[str]()
    with server() as served:
        names = [options.program] if options.program else list(PROGRAMS)
        expected = {name: undisturbed(served, name) for name in names}
        done = 0
        for number in range(options.first, options.first + options.runs):
            if options.seconds and time.monotonic() - began > options.seconds:
                break
            dice = random.Random(f"{options.seed} {number}")
            name = names[number % len(names)]
            one = trial(served, name, expected[name], dice)
            done += 1
            failed += bool(one.problems)
            counts.update(
                kills=one.kills,
                sandboxes=one.sandbox_kills,
                resumes=one.resumes,
                sent_again=one.exempt,
            )
            for problem in one.problems:
                sys.stdout.write(f"run {number} ({name}): {problem}\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"{done} runs, {failed} failed; {counts['kills']} kills of the process, {counts['sandboxes']} of a sandbox, "
        f"{counts['resumes']} resumes, {counts['sent_again']} requests sent again because their answers had not "
        f"arrived; {time.monotonic() - began:.0f} s\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
