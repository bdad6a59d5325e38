"""Checks of the arguments that need no reading, so that a wrong path is found before DSPy is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dspy_rlm.errors import InputError

STDIN = "-"
PATTERN = frozenset("*?[")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: str) -> bool:
    """Returns whether an argument is an address, of any scheme."""
    return _SCHEME.match(text) is not None


def named(argument: str | os.PathLike[str]) -> tuple[str, str | os.PathLike[str]]:
    """Splits `name=path` into both; the name is empty for everything else, and for a path that exists."""
    text = os.fspath(argument)
    name, mark, rest = text.partition("=")
    if not mark or not name.isidentifier() or not rest or exists(Path(text)):
        return "", argument
    return name, rest


def check_paths(arguments: Sequence[str | os.PathLike[str]]) -> None:
    """Checks what can be checked without reading: that each path exists, can be read, and is not an empty file.

    Pipes, such as `<(command)`, are left alone: they can be read once only. So are addresses, patterns and stdin.

    Raises:
        InputError: A path is missing or unreadable, or all of them are empty files.
    """
    paths = []
    for argument in arguments:
        text = os.fspath(named(argument)[1])
        path = Path(text)
        if exists(path):
            paths.append(path)
        elif text != STDIN and not is_url(text) and not PATTERN & set(text):
            raise InputError(f"Cannot read {text}: there is no such file or folder.")
    for path in paths:
        if path.is_file():
            with reading(str(path)), path.open("rb") as file:
                file.read(1)
    if len(paths) == len(arguments) and all(
        path.is_file() and path.stat().st_size == 0 for path in paths
    ):
        empty = ", ".join(map(str, paths))
        what = "the file is empty" if len(paths) == 1 else "the files are empty"
        raise InputError(f"There is no text in {empty}: {what}.")


def exists(path: Path) -> bool:
    """Returns whether there is a file or folder. Raises `InputError` where that cannot be found out."""
    with reading(str(path)):
        try:
            return path.exists()
        except ValueError:  # a NUL byte
            return False


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raises `InputError` with the reason of the operating system, such as `permission denied`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"Cannot read {name}: {reason}.") from error
