"""The command `python -m tests.fuzz --seconds N [--target T]`: see the package."""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path

# Seconds for one target before the next one.
TURN_SECONDS = 60.0

# Memory is measured for one input in this many, because tracing makes Python ten times slower.
MEMORY_EVERY = 10

# The number of slowest inputs kept as sources of mutations.
KEPT_INPUTS = 200


def main() -> int:
    """Fuzzes for the requested time. Exits with 1 at the first finding, and keeps its input."""
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
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") and options.target and not options.own:
        return _by_atheris(options.target, options.seconds)
    from .targets import TARGETS

    if options.target and options.target not in TARGETS:
        parser.error(f"there is no target {options.target!r}, only {', '.join(TARGETS)}")
    return _by_mutation(
        [options.target] if options.target else list(TARGETS),
        options.seconds,
        options.seed,
        options.findings,
    )


def _by_mutation(names: list[str], seconds: float, seed: int | None, findings: Path) -> int:
    from .targets import TARGETS, seeds

    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    dice = random.Random(seed)
    inputs = {name: list(seeds(name).values()) for name in names}
    counts = dict.fromkeys(names, 0)
    end = time.monotonic() + seconds
    turn = min(TURN_SECONDS, seconds / len(names))
    print(f"seed {seed}; targets {', '.join(names)}", flush=True)
    while time.monotonic() < end:
        for name in names:
            finding = _turn(
                TARGETS[name], inputs[name], dice, min(end, time.monotonic() + turn), counts, name
            )
            if finding is not None:
                data, error = finding
                findings.mkdir(exist_ok=True)
                kept = findings / f"{name}-{time.time_ns():x}"
                kept.write_bytes(data)
                print(
                    f"{name}: {type(error).__name__}: {error}\nthe input is in {kept}", flush=True
                )
                return 1
        print(", ".join(f"{name} {count:,}" for name, count in counts.items()), flush=True)
    return 0


def _turn(target, inputs, dice, end, counts, name):  # type: ignore[no-untyped-def]
    """Runs one target for a while. Returns the input and error of a finding, or None."""
    from .mutations import next_input
    from .oracle import run

    slow = 0.0
    while time.monotonic() < end:
        data = next_input(inputs, dice)
        counts[name] += 1
        try:
            took = run(target, data, memory=counts[name] % MEMORY_EVERY == 0)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return data, error
        # The inputs with the highest cost per byte are nearest to a finding.
        cost = took / (len(data) + 100)
        if cost > slow:
            slow = cost
            inputs.append(data)
            del inputs[:-KEPT_INPUTS]
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
