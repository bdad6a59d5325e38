"""`dspy-rlm`: the command line. Parses the arguments and turns errors into messages and exit codes.

The commands are in `commands.COMMANDS`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from dspy_rlm.cli.commands import add_commands
from dspy_rlm.cli.exit_codes import FAILED, INTERRUPTED, code_of
from dspy_rlm.terminal.escaping import printable, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code; `exit_codes` has all of them."""
    options = command_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # a character that the terminal cannot encode must not end a run
            stream.reconfigure(errors="backslashreplace")
    # Otherwise DSPy downloads a list of prices before the first call.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        found = code_of(error)
        if found is None:
            raise
        from dspy_rlm.cli.failures import explain

        show(f"dspy-rlm: {explain(error)}", sys.stderr)
        return found
    return code


class _Parser(argparse.ArgumentParser):
    """Reports invalid arguments. They may be untrusted: a shell expands patterns to file names."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(printable(message), file)


def command_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = _Parser(
        prog="dspy-rlm",
        description="Recursive Language Models for DSPy: a model answers questions about inputs of "
        "any size by working on them in a sandboxed Python REPL.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_commands(commands)
    return parser


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    run = getattr(interrupt, "run", None)
    spent = (
        "" if run is None else f" after {run.iterations} step{'' if run.iterations == 1 else 's'}"
    )
    print(f"\ndspy-rlm: interrupted{spent}.", file=sys.stderr)
    return INTERRUPTED


def _unread() -> int:
    """Handles a reader, such as `head`, that has closed the pipe: the last flush must not raise."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


class _Version(argparse.Action):
    """Prints the version, which takes time to find out."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            own = version("dspy-rlm")
        except PackageNotFoundError:
            own = "(not installed)"
        print(f"dspy-rlm {own}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
