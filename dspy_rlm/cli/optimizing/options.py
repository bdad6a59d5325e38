"""The flags of `dspy-rlm optimize`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dspy_rlm.cli.options import add_journal, describe_budgets, describe_models

DESCRIPTION = """\
Optimizes the instructions (and with MIPROv2 the demos) of an RLM on examples. A part of the examples is held out: the RLM
is measured on it before and after, and the difference is printed with its interval. The state is saved for rlm.load(FILE)
and `dspy-rlm run program.py:rlm --state FILE`.

TRAINSET has one JSON object a line, with the inputs and the expected outputs by name. An input {"file": "PATH"} is a file
beside the trainset. The same command continues an interrupted optimization: no answered call is paid twice."""


def describe_optimize(optimize: argparse.ArgumentParser) -> None:
    """Adds the flags of `optimize`."""
    optimize.formatter_class = argparse.RawDescriptionHelpFormatter
    optimize.description = DESCRIPTION
    optimize.add_argument(
        "program", metavar="PROGRAM:RLM", nargs="?", help="a file and the name of its RLM; or --sig"
    )
    optimize.add_argument(
        "--sig",
        dest="signature",
        metavar="SIGNATURE",
        help='an RLM of this signature, such as "log -> count: int"',
    )
    optimize.add_argument(
        "--trainset", metavar="FILE.jsonl", type=Path, required=True, help="the examples"
    )
    optimize.add_argument(
        "--holdout",
        metavar="FILE.jsonl",
        type=Path,
        help="the examples to measure on (default: a third of the trainset)",
    )
    optimize.add_argument(
        "--metric",
        metavar="MODULE:FUNCTION",
        help="a function of the example and the prediction that returns a score from 0 to 1; also FILE.py:FUNCTION. "
        "Without one, outputs are compared with the expected ones",
    )
    optimize.add_argument(
        "--optimizer", choices=("gepa", "mipro"), default="gepa", help="GEPA (default) or MIPROv2"
    )
    optimize.add_argument(
        "--reflection-model",
        metavar="MODEL",
        help="the LM that writes instructions (default: that of the RLM)",
    )
    optimize.add_argument(
        "--output",
        metavar="FILE.json",
        type=Path,
        default=Path("optimized.json"),
        help="the state (optimized.json)",
    )
    optimize.add_argument(
        "--folder",
        metavar="DIR",
        type=Path,
        help="the answers so far (default: beside the state)",
    )
    limits = optimize.add_argument_group("limits of the whole optimization")
    limits.add_argument(
        "--max-runs",
        type=int,
        default=100,
        metavar="N",
        help="runs of the optimizer, besides the two measurements (100)",
    )
    limits.add_argument(
        "--max-total-cost",
        type=float,
        metavar="N",
        help="US dollars of everything; with --max-cost no run exceeds it",
    )
    limits.add_argument("--threads", type=int, default=4, metavar="N", help="runs at once (4)")
    optimize.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the split and of the optimizer (0)"
    )
    optimize.add_argument(
        "--dry-run",
        action="store_true",
        help="print the runs and the most that they could cost; no model is called",
    )
    optimize.add_argument("--json", action="store_true", help="print one JSON object")
    optimize.add_argument("--quiet", action="store_true", help="do not show the progress")
    optimize.add_argument(
        "--plain", action="store_true", help="show the progress also if stderr is not a terminal"
    )
    optimize.add_argument(
        "--tools",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="a Python function that the code can call",
    )
    describe_models(optimize)
    describe_budgets(optimize)
    add_journal(optimize)
