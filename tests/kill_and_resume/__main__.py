"""See the package."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

from tests.trials import numbers, trial_options

from .programs import PROGRAMS, server
from .trial import trial, undisturbed


def main() -> int:
    """Runs the trials and prints their results."""
    parser = trial_options("kill_and_resume")
    parser.add_argument("--program", choices=sorted(PROGRAMS))
    options = parser.parse_args()
    began, failed, counts = time.monotonic(), 0, Counter[str]()
    with server() as served:
        names = [options.program] if options.program else list(PROGRAMS)
        expected = {name: undisturbed(served, name) for name in names}
        done = 0
        for number in numbers(options):
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
