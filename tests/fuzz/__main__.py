"""`python -m tests.fuzz --seconds N [--target T]`: see the package."""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path

# How long one target runs before the next has its turn.
TURN_SECONDS = 60.0

# Every so many inputs memory is measured as well, which makes Python ten times slower.
MEMORY_EVERY = 10

# Inputs that took longest stay among those that others are made of.
KEPT_INPUTS = 200


def main() -> int:
    """Fuzzes for some time. Ends with 1 at the first finding, whose input is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="in all (600)")
    parser.add_argument("--target", help="one of them alone")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the mutations; else another each time"
    )
    parser.add_argument(
        "--findings", type=Path, default=Path("fuzz-findings"), help="where they go"
    )
    parser.add_argument(
        "--own", action="store_true", help="without atheris, also where it is installed"
    )
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") and given.target and not given.own:
        return _by_atheris(given.target, given.seconds)
    from .targets import TARGETS

    if given.target and given.target not in TARGETS:
        parser.error(f"there is no target {given.target!r}, only {', '.join(TARGETS)}")
    return _by_mutation(
        [given.target] if given.target else list(TARGETS), given.seconds, given.seed, given.findings
    )


def _by_mutation(names: list[str], seconds: float, seed: int | None, findings: Path) -> int:
    from .targets import TARGETS, seeds

    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    dice = random.Random(seed)
    known = {name: list(seeds(name).values()) for name in names}
    counts = dict.fromkeys(names, 0)
    over = time.monotonic() + seconds
    turn = min(TURN_SECONDS, seconds / len(names))
    print(f"seed {seed}; targets {', '.join(names)}", flush=True)
    while time.monotonic() < over:
        for name in names:
            found = _turn(
                TARGETS[name], known[name], dice, min(over, time.monotonic() + turn), counts, name
            )
            if found is not None:
                data, error = found
                findings.mkdir(exist_ok=True)
                kept = findings / f"{name}-{time.time_ns():x}"
                kept.write_bytes(data)
                print(
                    f"{name}: {type(error).__name__}: {error}\nthe input is in {kept}", flush=True
                )
                return 1
        print(", ".join(f"{name} {count:,}" for name, count in counts.items()), flush=True)
    return 0


def _turn(target, known, dice, over, counts, name):  # type: ignore[no-untyped-def]
    """Runs one target for a while. The input of a finding and its error, or None."""
    from .mutations import next_input
    from .oracle import run

    slow = 0.0
    while time.monotonic() < over:
        data = next_input(known, dice)
        counts[name] += 1
        try:
            took = run(target, data, memory=counts[name] % MEMORY_EVERY == 0)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return data, error
        # What costs most for its size is nearest to a finding.
        cost = took / (len(data) + 100)
        if cost > slow:
            slow = cost
            known.append(data)
            del known[:-KEPT_INPUTS]
    return None


def _by_atheris(name: str, seconds: float) -> int:
    import atheris

    with atheris.instrument_imports(include=["sandbox_runtime", "dspy_rlm"]):
        from .targets import TARGETS, seeds
    from .oracle import run

    with tempfile.TemporaryDirectory() as folder:
        for at, data in enumerate(seeds(name).values()):
            Path(folder, str(at)).write_bytes(data)
        options = [sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=200000", folder]
        atheris.Setup(options, lambda data: run(TARGETS[name], data, memory=False))
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
