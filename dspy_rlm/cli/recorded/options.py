"""The flags of the commands on recorded runs, as argparse has them. The commands are imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dspy_rlm.cli.commands import later
from dspy_rlm.cli.options import add_journal, add_view

RUN = "a recorded run: the path of its journal, its id, or `last`"


def describe_runs(runs: argparse.ArgumentParser) -> None:
    """Adds the flags of `runs`."""
    runs.description = "Runs that were recorded with --journal. Without an action, lists them."
    _add_folder(runs)
    _add_json(runs)
    runs.set_defaults(command=later("recorded.runs:list_runs"), number=20)
    actions = runs.add_subparsers(metavar="ACTION")
    listing = actions.add_parser(
        "list", help="the newest runs", description="Lists the newest runs."
    )
    listing.add_argument("-n", dest="number", type=int, default=20, metavar="N", help="runs (20)")
    listing.set_defaults(command=later("recorded.runs:list_runs"))
    showing = actions.add_parser(
        "show", help="one run", description="Shows a run with its steps, or one step as a whole."
    )
    showing.add_argument("run", metavar="RUN", help=RUN)
    showing.add_argument("--step", type=int, metavar="K", help="this step only, as a whole")
    showing.set_defaults(command=later("recorded.runs:show_run"))
    stats = actions.add_parser(
        "stats",
        help="totals of many runs",
        description="Shows the endings and the spending of runs.",
    )
    stats.add_argument(
        "runs", metavar="RUN", nargs="*", help=f"{RUN}; without one, all of the folder"
    )
    stats.set_defaults(command=later("recorded.runs:show_statistics"))
    diagnosis = actions.add_parser(
        "diagnose",
        help="the waste in runs",
        description="Shows turns that were wasted, by cause; repeated prompts; replies that were cut, and those that did "
        "not fit; failed and slow calls; unread inputs: with what to do about each.",
    )
    diagnosis.add_argument(
        "runs", metavar="RUN", nargs="*", help=f"{RUN}; without one, the newest of the folder"
    )
    diagnosis.add_argument(
        "-n",
        dest="number",
        type=int,
        default=100,
        metavar="N",
        help="the number of runs from the folder (100)",
    )
    diagnosis.add_argument(
        "--feedback", action="store_true", help="as feedback for an LM that writes instructions"
    )
    diagnosis.set_defaults(command=later("recorded.diagnosis:diagnose_runs"))
    pruning = actions.add_parser(
        "prune",
        help="delete old runs",
        description="Deletes the journals, with their values, that all criteria name. The journal of a run in progress is kept.",
    )
    pruning.add_argument("--older-than", type=float, metavar="DAYS", help="runs older than DAYS")
    pruning.add_argument("--keep", type=int, metavar="N", help="all but the newest N")
    pruning.add_argument("--status", metavar="STATUS", help="runs that ended so, such as failed")
    pruning.add_argument("--dry-run", action="store_true", help="only show them")
    pruning.set_defaults(command=later("recorded.runs:prune"))
    for action in (listing, showing, stats, diagnosis, pruning):
        _add_folder(action, default=argparse.SUPPRESS)
    for action in (listing, showing, stats, diagnosis):
        _add_json(action, default=argparse.SUPPRESS)


def describe_replay(replay: argparse.ArgumentParser) -> None:
    """Adds the flags of `replay`."""
    replay.description = (
        "Repeats a run in a new sandbox. Without --model nothing is sent: the exit code is 0 if the run is the same, "
        "1 if it differs from its record. With --model, another LM writes the code."
    )
    replay.add_argument("run", metavar="RUN", help=RUN)
    replay.add_argument("--model", help="another LM that writes the code")
    replay.add_argument("--api-base", metavar="URL", help="address of an OpenAI-compatible server")
    replay.add_argument(
        "--price", dest="prices", metavar="MODEL=PROMPT,REPLY", action="append", default=[],
        help="US dollars for a million tokens: what the run would have cost",
    )  # fmt: skip
    replay.add_argument(
        "--no-prompts",
        action="store_true",
        help="do not compare the prompts, which differ by version",
    )
    _add_folder(replay)
    _add_json(replay)


def describe_recorded(compare: argparse.ArgumentParser) -> None:
    """Adds the flags of `compare` for two recorded runs."""
    compare.add_argument("a", metavar="A", nargs="?", help=RUN)
    compare.add_argument("b", metavar="B", nargs="?", help="the other run")
    _add_folder(compare)
    _add_json(compare)


def describe_fork(fork: argparse.ArgumentParser) -> None:
    """Adds the flags of `fork`."""
    fork.description = (
        "Repeats a run up to a step with its recorded answers, and continues from there with new ones. The journal of the "
        "run is not changed."
    )
    fork.add_argument("run", metavar="RUN", help=RUN)
    fork.add_argument(
        "--step", type=int, required=True, metavar="K", help="the last recorded step; 0: none"
    )
    fork.add_argument("--model", help="the LM that writes the code (default: that of the run)")
    fork.add_argument(
        "--sub-model", dest="sub_models", metavar="[NAME=]MODEL", action="append", default=[],
        help="the LM that its code calls (default: those of the run)",
    )  # fmt: skip
    fork.add_argument("--api-base", metavar="URL", help="address of an OpenAI-compatible server")
    fork.add_argument("--instructions", metavar="TEXT", help="other instructions of the task")
    fork.add_argument("--edit", metavar="FILE.py", type=Path, help="other code for the step itself")
    fork.add_argument(
        "--allow-partial", action="store_true", help="exit with 0 for a partial answer too"
    )
    add_view(fork)
    add_journal(fork)
    _add_folder(fork)
    _add_json(fork)


def describe_open(opening: argparse.ArgumentParser) -> None:
    """Adds the flags of `open`."""
    opening.description = (
        "Opens the REPL of a run as it was after a step. No LM is called. Code comes from the terminal, from -c, or as a "
        "whole from stdin."
    )
    opening.add_argument("run", metavar="RUN", help=RUN)
    opening.add_argument(
        "--step", type=int, metavar="K", help="the step (default: the last one); 0: the start"
    )
    opening.add_argument("-c", dest="code", metavar="CODE", help="run this code and leave")
    _add_folder(opening)


def _add_folder(command: argparse.ArgumentParser, default: str | None = None) -> None:
    command.add_argument(
        "--journals",
        metavar="DIR",
        default=default,
        help="the folder of the journals (default: DSPY_RLM_JOURNAL, or the user's data folder)",
    )


def _add_json(command: argparse.ArgumentParser, default: Any = False) -> None:
    command.add_argument(
        "--json", action="store_true", default=default, help="JSON instead of text"
    )
