"""The flags of `dspy-rlm run`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dspy_rlm.cli.options import (
    EXIT_CODES,
    add_journal,
    describe_budgets,
    describe_models,
    describe_output,
)

DESCRIPTION = """\
Runs an RLM that a program defines: `dspy-rlm run program.py:rlm --question "..." --docs @big.txt`. Its inputs are
flags by their names. A text is taken as it is, any other type is JSON, and @FILE is the content of a file. All
flags below apply, before or after the program; models and limits are the program's own where no flag has others.

Without a name after the file, runs the whole program with dspy.RLM replaced by this package's RLM. All arguments
after it are the program's own, and of the flags only --journal applies."""


def describe_run(run: argparse.ArgumentParser) -> None:
    """Adds the flags of `run`."""
    run.formatter_class = argparse.RawDescriptionHelpFormatter
    run.description = DESCRIPTION
    run.epilog = f"The answer goes to stdout, everything else to stderr.\n\n{EXIT_CODES}"
    run.add_argument("-m", dest="as_module", action="store_true", help="PROGRAM is a module's name")
    run.add_argument(
        "program",
        metavar="PROGRAM[:RLM]",
        help="a file, or with -m a module; and the name of its RLM",
    )
    run.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    describe_own(run)


def describe_own(run: argparse.ArgumentParser) -> None:
    """Adds the flags that apply to an RLM of a program."""
    inputs = run.add_argument_group("inputs")
    inputs.add_argument(
        "--input",
        dest="named_inputs",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an input whose name is that of another flag; may be repeated",
    )
    inputs.add_argument(
        "--inputs",
        metavar="JSON",
        help="inputs by name as one JSON object; also @FILE, or - for stdin",
    )
    run.add_argument(
        "--state", metavar="FILE.json", help="a state that an optimizer has saved, for this RLM"
    )
    describe_models(run)
    describe_budgets(run)
    describe_output(run)
    run.add_argument(
        "--tools",
        metavar="MODULE:FUNCTION",
        action="append",
        default=[],
        help="a Python function that the code can call besides the program's tools; may be repeated",
    )
    run.add_argument(
        "--mcp",
        metavar="CONFIG",
        action="append",
        type=Path,
        default=[],
        help='MCP servers whose tools the code can call: a JSON file with "mcpServers"; may be repeated',
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="print sizes, the most that the run could cost, and the first prompt; no model is called",
    )
    add_journal(run)
    run.add_argument(
        "--resume",
        metavar="RUN",
        help="resume a recorded run of this RLM: its journal, or its id",
    )
