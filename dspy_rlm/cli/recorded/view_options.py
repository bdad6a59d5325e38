"""The flags of `dspy-rlm view`, as argparse has them."""

from __future__ import annotations

import argparse
from pathlib import Path

RUN = "a recorded run: the path of its journal, its id, or `last`"


def describe_view(view: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    view.description = (
        "Writes a recorded run as one HTML file that needs no server and no network, and opens it in the browser. The "
        "path of the file, or the address with --live, is on stdout."
    )
    view.add_argument("run", metavar="RUN", help=RUN)
    view.add_argument(
        "--html",
        metavar="FILE",
        type=Path,
        help="write this file, - for stdout (default: a file in the user's cache folder, which is opened)",
    )
    view.add_argument("--compare", metavar="OTHER", help="show this run beside it")
    view.add_argument(
        "--redact",
        action="store_true",
        help="leave out inputs, outputs, prompts, replies, code and paths; sizes and figures stay",
    )
    view.add_argument(
        "--live",
        action="store_true",
        help="follow a run in progress, in a page that this command serves on 127.0.0.1 until Ctrl-C",
    )
    view.add_argument(
        "--port", type=int, default=0, metavar="N", help="the port of --live (default: a free one)"
    )
    view.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        help="open the page in the browser (default: without --html, at a terminal)",
    )
    view.add_argument(
        "--journals",
        metavar="DIR",
        help="the folder of the journals (default: DSPY_RLM_JOURNAL, or the user's data folder)",
    )
