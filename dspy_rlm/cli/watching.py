"""How the commands show the runs that go on: see `live.choosing`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_rlm.live.choosing import LiveOption


def live_of(*, plain: bool = False, quiet: bool = False) -> LiveOption:
    """Returns the `live=` of the runs of a command.

    For a person who watches, as the terminal can; with `--plain` as lines, also where nobody does.
    """
    if quiet:
        return False
    return "plain" if plain else bool(sys.stderr and sys.stderr.isatty())


def show_all_runs(*, plain: bool = False, quiet: bool = False) -> None:
    """Shows the runs of all RLMs of this process that do not say otherwise: those of a program."""
    from dspy_rlm.process_settings import replace_process_settings

    replace_process_settings(live=live_of(plain=plain, quiet=quiet) or None)
