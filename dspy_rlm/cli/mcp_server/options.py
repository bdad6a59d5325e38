"""The flags of `dspy-rlm mcp`. Imports nothing that takes time."""

from __future__ import annotations

import argparse
from pathlib import Path

from dspy_rlm.cli.options import describe_budgets, describe_models

DESCRIPTION = """\
Serves the tools `ask`, `runs` and `view` to an MCP client on stdin and stdout, or with --http on this machine.

Models and limits are those of this command line: a client can ask for less, never for more. It can read files below
the folders of --root only, and the runs that this server has recorded. A run may take 600 s, if --max-seconds sets no
other limit."""


def describe_mcp(mcp: argparse.ArgumentParser) -> None:
    """Adds the flags of `mcp`."""
    mcp.formatter_class = argparse.RawDescriptionHelpFormatter
    mcp.description = DESCRIPTION
    mcp.add_argument(
        "--root", dest="roots", metavar="DIR", action="append", type=Path, default=[],
        help="a folder whose files a client may ask about; may be repeated (default: none, only texts)",
    )  # fmt: skip
    mcp.add_argument(
        "--http", metavar="[HOST:]PORT", nargs="?", const="0",
        help="serve streamable HTTP on this machine instead of stdin and stdout; without PORT, on a free port. With "
        "DSPY_RLM_MCP_TOKEN in the environment, clients must send it as a bearer token",
    )  # fmt: skip
    mcp.add_argument(
        "--total-cost",
        type=float,
        metavar="N",
        help="US dollars of all runs of this server together",
    )
    mcp.add_argument(
        "--total-runs", type=int, metavar="N", help="runs that this server starts in all"
    )
    mcp.add_argument(
        "--parallel", type=int, default=2, metavar="N", help="runs at once; others wait (2)"
    )
    mcp.add_argument(
        "--journal", metavar="DIR",
        help="the folder where runs are recorded (default: the user's data folder)",
    )  # fmt: skip
    mcp.add_argument("--no-journal", action="store_true", help="record no runs")
    mcp.add_argument(
        "--all-runs", action="store_true",
        help="offer all runs of the journals' folder, not only those of this server",
    )  # fmt: skip
    describe_models(mcp)
    describe_budgets(mcp)
    mcp.set_defaults(max_seconds=600.0)
