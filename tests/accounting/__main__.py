"""See the package."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

from tests.trials import numbers, trial_options


def main() -> int:
    """Runs the trials and prints their results."""
    parser = trial_options("accounting")
    parser.add_argument("--verbose", action="store_true", help="print the setup of each run")
    options = parser.parse_args()
    # DSPy would ask the network for its table of models.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"
    from tests.thrifty_pool import ThriftyPool

    from .trial import trial

    began, failed, done, counts = time.monotonic(), 0, 0, Counter[str]()
    ends: Counter[str] = Counter()
    pool = ThriftyPool()
    for number in numbers(options):
        one = trial(number, options.seed, pool)
        done += 1
        failed += bool(one.problems)
        ends[one.ended_by.partition(",")[0]] += 1
        counts.update(
            requests=one.requests,
            failed=one.failed_requests,
            abandoned=one.abandoned,
            resumes=one.resumes,
        )
        if one.problems or options.verbose:
            sys.stdout.write(f"run {number}: {one.ended_by}: {one.setup}\n")
        for problem in one.problems:
            sys.stdout.write(f"    {problem}\n")
        sys.stdout.flush()
    pool.close()
    sys.stdout.write(
        f"{done} runs, {failed} failed; {counts['requests']} requests, {counts['failed']} of them failed, "
        f"{counts['abandoned']} abandoned; {counts['resumes']} resumes; {dict(ends)}; "
        f"{time.monotonic() - began:.0f} s\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
