"""Selects and decodes the files that are the inputs of a run.

Decides which files are worth reading and counts those it leaves out. Knows nothing of runs and prints nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dspy_rlm.errors import InputError
from dspy_rlm.reports.text import count
from sandbox_runtime.helpers import UnreadableTextError, text_of

# Version control folders whose names do not begin with a dot.
VERSION_CONTROL = frozenset({"CVS", "_darcs"})

# Folders of installed packages, which lie inside the standard library's folder but do not belong to it.
NOT_STANDARD = frozenset({"site-packages", "dist-packages"})

# The largest text from a compressed file: a text has to fit into the sandbox's memory.
MAX_EXPANDED_BYTES = 1024**3


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    path: str
    reason: str
    """One word: `hidden`, `binary`, `unreadable` or `undecodable`."""

    size_bytes: int


@dataclass(frozen=True)
class Texts:
    """The files that were read, and those that were left out."""

    by_path: Mapping[str, str]
    """The texts in the order of their paths, which are relative and written with slashes."""

    size_bytes: int
    """The size on disk of the files that were read."""

    skipped: tuple[Skipped, ...] = ()

    @property
    def summary(self) -> str:
        """The amount that was read, such as `1,787 files, 31.5 MB`."""
        return f"{count(len(self.by_path), 'file')}, {size_text(self.size_bytes)}"

    @property
    def skipped_summary(self) -> str:
        """The files left out, such as `3 hidden (1.2 MB), 1 binary (17 kB)`; empty if there are none."""
        counts = Counter(item.reason for item in self.skipped)
        sizes: Counter[str] = Counter()
        for item in self.skipped:
            sizes[item.reason] += item.size_bytes
        return ", ".join(f"{n:,} {why} ({size_text(sizes[why])})" for why, n in counts.items())


def load_texts(paths: Sequence[str | os.PathLike[str]]) -> Texts:
    """Reads the text of files, and of all files in folders that are neither hidden nor binary.

    Paths are relative to the deepest folder that contains all of them.

    Raises:
        InputError: A path does not exist, a file that was named is not text, or no file is.
    """
    named = [Path(path) for path in paths]
    base = _common_folder(named)
    read: dict[str, str] = {}
    skipped: dict[str, Skipped] = {}
    size = 0
    # Files first: a file that is named is read even if it would be left out of its folder.
    for path in sorted(named, key=lambda path: path.is_dir()):
        for file, hidden in _files(path):
            name = _name(file, base)
            if name in read or name in skipped:
                continue
            data = None if hidden else _bytes(file)
            reason = problem = "hidden" if hidden else "unreadable"
            if data is not None:
                try:
                    read[name] = decode(data, file.name)
                except UnreadableTextError as error:
                    reason, problem = "binary", str(error)
                else:
                    size += len(data)
                    continue
            if file == path:
                with _reading(path):
                    file.read_bytes()  # raises again if it is unreadable
                raise InputError(f"Cannot read {path}: {problem}.")
            skipped[name] = Skipped(name, reason, file.stat().st_size)
    texts = Texts(dict(sorted(read.items())), size, tuple(skipped.values()))
    if not read:
        left_out = f" Skipped: {texts.skipped_summary}." if skipped else ""
        raise InputError(f"There is no text in {', '.join(map(str, paths))}.{left_out}")
    return texts


def check_paths(paths: Sequence[Path]) -> None:
    """Checks what can be checked without reading: that each path exists, can be read, and is not an empty file.

    Pipes, such as `<(command)`, are left alone: they can be read once only.

    Raises:
        InputError: A path is missing or unreadable, or all of them are empty files.
    """
    for path in paths:
        if not _exists(path):
            raise InputError(f"Cannot read {path}: there is no such file or folder.")
        if path.is_file():
            with _reading(path), path.open("rb") as file:
                file.read(1)
    if all(path.is_file() and path.stat().st_size == 0 for path in paths):
        empty = ", ".join(map(str, paths))
        raise InputError(f"There is no text in {empty}: {_is_empty(len(paths))}.")


def _is_empty(files: int) -> str:
    return "the file is empty" if files == 1 else "the files are empty"


def _exists(path: Path) -> bool:
    with _reading(path):
        return path.exists()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises `InputError` with the reason of the operating system, such as `permission denied`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"Cannot read {path}: {reason}.") from error


def load_python(root: Path) -> Texts:
    """Reads the Python files below a folder, without installed packages. Encoding declarations are honoured.

    Raises:
        InputError: There are none.
    """
    read: dict[str, str] = {}
    skipped: list[Skipped] = []
    size = 0
    for file, _ in _files(root):
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
        return _newlines(data.decode(encoding))
    except (SyntaxError, UnicodeDecodeError):
        return None


def decode(data: bytes, name: str = "the file") -> str:
    """Decompresses and decodes text by the rules of `TextFile`.

    Raises:
        UnreadableTextError: It is binary, damaged, or too large.
    """
    return _newlines(text_of(data, name, MAX_EXPANDED_BYTES))


def _newlines(text: str) -> str:
    """Converts line ends to `\\n`, as `open` does."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def size_text(size_bytes: float) -> str:
    """Formats a number of bytes, such as `31.5 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95 or unit == "GB":
            break
    return f"{size_bytes:,.1f} {unit}"


def _bytes(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _files(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yields the file, or the files below the folder in a stable order, with whether each is hidden."""
    if not path.exists():
        raise InputError(f"Cannot read {path}: there is no such file or folder.")
    if not path.is_dir():
        yield path, False
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        inside = Path(folder).relative_to(path).parts
        for name in sorted(names):
            file = Path(folder, name)
            if file.is_file():  # reading a pipe or a socket would block
                yield file, _is_hidden((*inside, name))


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") or part in VERSION_CONTROL for part in parts)


def _common_folder(paths: Sequence[Path]) -> Path | None:
    """Returns the folder that the results are relative to; None if the arguments have none in common."""
    folders = [path.absolute() if path.is_dir() else path.absolute().parent for path in paths]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # on different drives
        return None


def _name(file: Path, base: Path | None) -> str:
    whole = file.absolute()
    return (whole.relative_to(base) if base else whole).as_posix()
