"""Escaping for the terminal: control characters and invisible characters are spelled out.

A stream that is not a terminal gets an answer exactly as it is. Imports nothing of this package.
"""

from __future__ import annotations

import logging
import traceback
from typing import TextIO


def printable(text: str) -> str:
    """Returns the text with control characters and invisible characters spelled out."""
    if text.isprintable():
        return text
    characters = (
        char if char.isprintable() or char == "\n" else repr(char)[1:-1]
        for char in text.expandtabs(4)
    )
    return "".join(characters)


def show_exactly(text: str, stream: TextIO) -> None:
    """Prints an answer: unchanged to a file or a pipe, escaped on a terminal."""
    print(printable(text) if stream.isatty() else text, file=stream, flush=True)


def show(text: str, stream: TextIO) -> None:
    """Prints text for people, escaped everywhere."""
    print(printable(text), file=stream, flush=True)


def show_exception(error: BaseException, stream: TextIO) -> None:
    """Prints a traceback, escaped."""
    show("".join(traceback.format_exception(error)).rstrip("\n"), stream)


class Plainly(logging.Filter):
    """A logging filter that escapes messages: libraries log text of models and servers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps every record, with its text escaped."""
        record.msg, record.args = printable(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            lines = traceback.format_exception(*record.exc_info)
            record.exc_text = printable("".join(lines).rstrip("\n"))
        return True


def log_plainly() -> None:
    """Adds `Plainly` to the handlers of all loggers that exist."""
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if not any(isinstance(filtered, Plainly) for filtered in handler.filters):
            handler.addFilter(Plainly())
