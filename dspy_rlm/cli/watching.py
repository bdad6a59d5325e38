"""The live view of the commands: see `live.choosing`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_rlm.live.choosing import LiveOption


def live_of(*, plain: bool = False, quiet: bool = False) -> LiveOption:
    """Returns the `live=` of the runs of a command.

    On a terminal, the best view that it supports; with `--plain` lines, also without a terminal.
    """
    if quiet:
        return False
    return "plain" if plain else bool(sys.stderr and sys.stderr.isatty())


def show_all_runs(*, plain: bool = False, quiet: bool = False) -> None:
    """Shows the runs of all RLMs of this process without a `live=` of their own, for a whole program."""
    from dspy_rlm.process_settings import replace_process_settings

    replace_process_settings(live=live_of(plain=plain, quiet=quiet) or None)
