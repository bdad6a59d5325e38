"""`dspy-rlm completion SHELL`: prints the completion script of a shell.

The script is static: a press of TAB starts no Python. shtab writes it from our parser: it has no dependencies, knows all
three shells, and is tested with them, which a generator of our own would have to be. argcomplete starts Python at each TAB.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

SHELLS = ("bash", "zsh", "fish")

HOW_TO = {
    "bash": 'eval "$(dspy-rlm completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(dspy-rlm completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "dspy-rlm completion fish > ~/.config/fish/completions/dspy-rlm.fish",
}

# Parts of the names of arguments that are paths.
_FILES, _FOLDERS = ("FILE", "PATH", "RUN", "PROGRAM", "INPUT", "CONFIG"), ("DIR",)


def describe_completion(completion: argparse.ArgumentParser) -> None:
    """Adds the flags of `completion`."""
    completion.formatter_class = argparse.RawDescriptionHelpFormatter
    completion.description = "Prints the completion script of a shell. To use it:\n\n" + "\n".join(
        f"  {line}" for line in HOW_TO.values()
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def print_completion(options: argparse.Namespace) -> int:
    """Prints the script."""
    from dspy_rlm.terminal.escaping import show

    show(script(options.shell), sys.stdout)
    return 0


def script(shell: str) -> str:
    """Returns the completion script of a shell."""
    import shtab

    from dspy_rlm.cli.main import command_parser

    parser = command_parser()
    for action in _actions(parser):
        name = str(action.metavar or "")
        if any(part in name for part in _FOLDERS):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        if action.type is Path or any(part in name for part in _FILES):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell=shell)
    return text


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
