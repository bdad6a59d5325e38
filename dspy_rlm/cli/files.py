"""Reads the Python files of the demonstration, each in the encoding that it declares."""

from __future__ import annotations

import io
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path

from dspy_rlm.errors import InputError
from dspy_rlm.inputs.gathering import Skipped
from dspy_rlm.inputs.loading import Texts

# Folders of installed packages, which lie inside the standard library's folder but do not belong to it.
NOT_STANDARD = frozenset({"site-packages", "dist-packages"})


def load_python(root: Path) -> Texts:
    """Reads the Python files below a folder, without installed packages. Encoding declarations are honoured.

    Raises:
        InputError: There are none.
    """
    read: dict[str, str] = {}
    skipped: list[Skipped] = []
    size = 0
    for file in _files(root):
        path = file.relative_to(root)
        if file.suffix != ".py" or NOT_STANDARD.intersection(path.parts):
            continue
        data = _bytes(file)
        text = None if data is None else decode_python(data)
        if data is not None and text is not None:
            read[path.as_posix()] = text
            size += len(data)
        else:
            reason = "unreadable" if data is None else "undecodable"
            skipped.append(Skipped(path.as_posix(), reason, file.stat().st_size))
    if not read:
        raise InputError(f"There is no Python source in {root}.")
    return Texts(dict(sorted(read.items())), size, tuple(skipped))


def decode_python(data: bytes) -> str | None:
    """Decodes Python source by its encoding declaration; None if that fails."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _bytes(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file():  # reading a pipe or a socket would block
                yield file
