"""Text on a terminal, which may come from anywhere: what a terminal would obey, or hide, is spelled out.

A stream that is no terminal gets an answer exactly as it is. Knows no runs, and imports nothing of ours.
"""

from __future__ import annotations

import logging
import traceback
from typing import TextIO


def printable(text: str) -> str:
    """The text with what a terminal would obey, or hide, spelled out: it may come from anywhere."""
    if text.isprintable():
        return text
    shown = (
        char if char.isprintable() or char == "\n" else repr(char)[1:-1]
        for char in text.expandtabs(4)
    )
    return "".join(shown)


def show_exactly(text: str, stream: TextIO) -> None:
    """Prints an answer: as it is into a file or a pipe, spelled out on a terminal."""
    print(printable(text) if stream.isatty() else text, file=stream, flush=True)


def show(text: str, stream: TextIO) -> None:
    """Prints what is for reading only, spelled out wherever it goes."""
    print(printable(text), file=stream, flush=True)


def show_exception(error: BaseException, stream: TextIO) -> None:
    """Prints a traceback."""
    show("".join(traceback.format_exception(error)).rstrip("\n"), stream)


class Plainly(logging.Filter):
    """Spells out what is logged: libraries log what models and servers said."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps every record, with its text changed."""
        record.msg, record.args = printable(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            lines = traceback.format_exception(*record.exc_info)
            record.exc_text = printable("".join(lines).rstrip("\n"))
        return True


def log_plainly() -> None:
    """Has all that is logged so far go through `Plainly`, by whichever handler."""
    known = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for handler in {handler for logger in known for handler in logger.handlers}:
        if not any(isinstance(filtered, Plainly) for filtered in handler.filters):
            handler.addFilter(Plainly())
