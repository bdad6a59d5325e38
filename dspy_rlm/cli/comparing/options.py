"""The flags of `dspy-rlm compare` and `dspy-rlm bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dspy_rlm.cli.options import describe_models
from dspy_rlm.cli.recorded.options import describe_recorded

COMPARE = """\
Runs several systems on the same items: an RLM, a direct call, retrieval, compaction, or your own. Prints scores with
intervals, costs, times and failures, and which system to use at which length. Items are examples (--data) or a generated
task (--task). What a system has answered is kept in a file: the same command goes on with what is missing.

With two recorded runs, A and B, it shows their first difference instead, and what each took. The exit code is 1 if they
differ."""

BENCH = """\
Runs a suite of long-context tasks, and writes a page with the published figures beside yours. The expected bill comes
first; --dry-run prints nothing else. The same command goes on with an interrupted suite. The tasks follow published
benchmarks in their form and are generated here: figures on other data are not comparable one by one."""


def describe_compare(compare: argparse.ArgumentParser) -> None:
    """Adds the flags of `compare`."""
    compare.formatter_class = argparse.RawDescriptionHelpFormatter
    describe_recorded(compare)
    compare.description = COMPARE
    items = compare.add_argument_group("items")
    items.add_argument(
        "--data",
        metavar="FILE.jsonl",
        type=Path,
        help="examples: one JSON object a line, with the inputs and the expected outputs by name; an input "
        '{"file": "PATH"} is a file beside it',
    )
    items.add_argument(
        "--sig",
        dest="signature",
        metavar="SIGNATURE",
        help='with --data: such as "log -> count: int"',
    )
    items.add_argument("--task", metavar="NAME", help="a task of dspy_rlm.tasks, such as s-niah")
    _add_size(items, tokens=(8_000, 32_000, 128_000))
    items.add_argument(
        "--metric",
        metavar="MODULE:FUNCTION",
        help="a function of the example and the prediction that returns a score; also FILE.py:FUNCTION. Without one, a task "
        "has its own, and outputs are compared with the expected ones",
    )
    compare.add_argument(
        "--system",
        dest="own_systems",
        metavar="NAME=FILE.py:OBJECT",
        action="append",
        default=[],
        help="a system of your own: a module of DSPy or a function",
    )
    compare.add_argument(
        "--rows",
        metavar="FILE.jsonl",
        type=Path,
        default=Path("comparison.rows.jsonl"),
        help="where the answers are kept (comparison.rows.jsonl)",
    )
    compare.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="also write the result to a page (.html) or to a file (.json)",
    )
    _add_running(compare, "rlm,direct")


def describe_bench(bench: argparse.ArgumentParser) -> None:
    """Adds the flags of `bench`."""
    bench.formatter_class = argparse.RawDescriptionHelpFormatter
    bench.description = BENCH
    bench.add_argument(
        "--suite", choices=("paper-mini",), default="paper-mini", help="the suite (paper-mini)"
    )
    _add_size(bench, tokens=(32_000,))
    bench.add_argument(
        "--folder",
        metavar="DIR",
        type=Path,
        help="where answers and pages are kept (default: bench-SUITE)",
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    _add_running(bench, "rlm,direct")


def _add_size(group: argparse._ActionsContainer, tokens: tuple[int, ...]) -> None:
    """Adds the flags for the size of generated tasks."""
    default = " ".join(f"{number:,}" for number in tokens)
    group.add_argument(
        "--tokens",
        type=int,
        nargs="+",
        metavar="N",
        default=[*tokens],
        help=f"lengths of a task's contexts ({default})",
    )
    group.add_argument(
        "--items", type=int, default=20, metavar="N", help="items of a task at each length (20)"
    )


def _add_running(command: argparse.ArgumentParser, systems: str) -> None:
    """Adds the flags that both commands have."""
    command.add_argument(
        "--systems",
        metavar="LIST",
        default=systems,
        help="ready-made systems: rlm, direct, chain-of-thought, retrieval, compaction, dspy.RLM "
        f"(default: {systems})",
    )
    limits = command.add_argument_group("limits of the whole comparison")
    limits.add_argument("--max-cost", type=float, metavar="N", help="US dollars of everything")
    limits.add_argument(
        "--max-seconds", type=float, metavar="N", help="wall time after which nothing begins"
    )
    limits.add_argument("--threads", type=int, default=4, metavar="N", help="runs at once (4)")
    limits.add_argument(
        "--price",
        dest="prices",
        metavar="MODEL=PROMPT,REPLY",
        action="append",
        default=[],
        help="US dollars for a million tokens of a model whose price is unknown",
    )
    command.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of tasks and intervals (0)"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the expected bill; no model is called"
    )
    command.add_argument("--quiet", action="store_true", help="do not show the progress")
    describe_models(command)
