"""Gathers the files that the arguments of a question name: files, folders, patterns, archives, addresses, stdin.

Decides which files are worth reading and lists those that it leaves out, each with the reason. Prints nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dspy_rlm.errors import InputError
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.content import Content
from dspy_rlm.inputs.items import Item, Text
from dspy_rlm.inputs.members import members
from dspy_rlm.inputs.paths import PATTERN, STDIN, exists, is_url, reading
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.inputs.spool import Spool
from dspy_rlm.inputs.streams import file_pieces, is_pipe, open_stdin, pipe_pieces, stream_content
from dspy_rlm.inputs.web import download
from sandbox_runtime import Directory, TextStream
from sandbox_runtime.helpers import DaemonPool

Argument = str | os.PathLike[str]

# The number of files that are converted in parallel.
_PROCESSES = 4

# The reasons of a listing in words.
_REASONS = {"ignored": "ignored by .gitignore", "special": "no regular file"}


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, with the reason."""

    path: str
    """The path of the file or folder."""

    reason: str
    """A few words, such as `hidden`, `ignored by .gitignore`, `binary` or `unreadable`."""

    size_bytes: int
    """0 for a folder."""

    count: int = 1
    """More than one where only the number is known, of files in an archive."""


@dataclass
class Source:
    """The file or the collection of files that one argument names."""

    name: str
    """The argument, for the user."""

    items: list[Item] = field(default_factory=list)
    stream: TextStream | None = None
    """A stream that is too long for memory, instead of items."""

    folder: Directory | None = None
    """A folder that is too large for memory, instead of items."""

    is_collection: bool = False
    """True for a folder, a pattern or an archive, also of one file."""

    is_archive: bool = False
    is_named: bool = True
    """False for files that were not chosen one by one, but with their folder or their archive."""

    root: Path | None = None
    """The folder that the keys of its files are relative to; None for a source that has no place on disk."""

    skipped: list[Skipped] = field(default_factory=list)
    more_notes: list[str] = field(default_factory=list)
    """Remarks on an archive as a whole, and on files that were left out."""

    @property
    def notes(self) -> list[str]:
        """Remarks on its files, each with the name."""
        notes = self.more_notes + [
            f"{item.key}: {note}" for item in self.items for note in item.notes
        ]
        if self.stream is not None and self.stream.note:
            notes.append(f"{self.name}: {self.stream.note}")
        return notes

    def leave_out(self, key: str, error: InputError, size_bytes: int) -> None:
        """Adds a file that cannot be read to `skipped`, and the reason to the notes unless one word says it."""
        reason = reason_of(error)
        self.skipped.append(Skipped(key, reason, size_bytes))
        if reason in ("unreadable", "not convertible"):
            why = str(error).removeprefix(f"Cannot read {key}")
            self.more_notes.append(f"{key} is left out: {why.lstrip(': ')}")

    def texts(self) -> dict[str, Text]:
        """Returns the text of each file by its key; moves those that have none to `skipped`."""
        if self.stream is not None:
            return {self.name: self.stream}
        found: dict[str, Text] = {}
        kept = []
        _prepare(self.items)
        for item in self.items:
            try:
                found[item.key] = item.text
            except InputError as error:
                if not self.is_collection:
                    raise
                self.leave_out(item.key, error, item.size_bytes)
            else:
                kept.append(item)
        self.items = kept
        return found


def _prepare(items: Sequence[Item]) -> None:
    """Converts some files at once, each in a process of its own."""
    if len(items) < 2:
        return
    pool = DaemonPool(min(_PROCESSES, os.cpu_count() or 1), "rlm-inputs")
    try:
        for done in [pool.submit(item.prepare) for item in items]:
            done.result()
    finally:
        pool.close(cancel_queued=True)


def reason_of(error: InputError) -> str:
    """Returns why a file is left out, in a word or a few."""
    text = str(error)
    if "not a text" in text:
        return "binary"
    if "needs the package" in text:
        return 'needs "dspy-rlm[files]"'
    if "permission denied" in text:
        return "unreadable"
    return "unreadable" if ": its conversion" not in text else "not convertible"


def gather(
    arguments: Sequence[Argument],
    bounds: InputBounds,
    *,
    gitignore: bool = True,
    in_place: bool = True,
) -> list[Source]:
    """Returns the sources that the arguments name, in their order. Texts are read later.

    Args:
        arguments: Paths, patterns, addresses and `-`.
        bounds: What reading may take.
        gitignore: Whether to apply ignore rules in folders.
        in_place: Whether a folder that is too large for memory, and the only argument, becomes a `Directory`.

    Raises:
        InputError: One cannot be read, or names nothing.
    """
    spool = Spool()
    if sum(str(argument) == STDIN for argument in arguments) > 1:
        raise InputError("Cannot read stdin twice. Name - once.")
    alone = in_place and len(arguments) == 1
    return [_source(one, spool, bounds, gitignore=gitignore, alone=alone) for one in arguments]


def _source(
    argument: Argument, spool: Spool, bounds: InputBounds, *, gitignore: bool, alone: bool
) -> Source:
    text = os.fspath(argument)
    if text == STDIN:
        return _streamed(stream_content(file_pieces(open_stdin()), "stdin", spool, bounds), bounds)
    path = Path(text)
    if is_url(text) and isinstance(argument, str) and not exists(path):
        return _one(download(text, spool, bounds), bounds)
    if not exists(path):
        if PATTERN & set(text):
            return _matching(text, spool, bounds, gitignore=gitignore, alone=alone)
        raise InputError(f"Cannot read {path}: there is no such file or folder.")
    if path.is_dir():
        return _folder(Directory(path, gitignore=gitignore), text, spool, bounds, alone=alone)
    if is_pipe(path):
        return _streamed(stream_content(pipe_pieces(path, bounds), text, spool, bounds), bounds)
    if not path.is_file():
        raise InputError(f"Cannot read {path}: it is a device or a socket, not a file.")
    source = _one(Content(text, path, spool), bounds)
    source.root = path.absolute().parent
    if not source.is_collection:
        source.items[0].key = path.name
    return source


def _streamed(content: Content | TextStream, bounds: InputBounds) -> Source:
    if isinstance(content, TextStream):
        return Source(content.name, stream=content)
    return _one(content, bounds)


def _one(content: Content, bounds: InputBounds) -> Source:
    """Returns a file, or the files of an archive."""
    item = Item(content, bounds)
    if not item.is_archive:
        return Source(content.name, [item])
    source = Source(content.name, is_collection=True, is_archive=True, is_named=False)
    for name, path in members(item, content.spool, bounds.output_bytes):
        size = path.stat().st_size
        if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
            source.skipped.append(Skipped(name, "hidden", size))
            continue
        _add(source, Content(name, path, content.spool), name, bounds)
    source.skipped += [Skipped(content.name, why, 0, count) for why, count in item.left_out]
    source.more_notes = [f"{content.name}: {note}" for note in item.notes]
    return source


def _add(source: Source, content: Content, key: str, bounds: InputBounds) -> None:
    """Adds a file of a folder or an archive, unless it cannot be one of its texts."""
    try:
        item = Item(content, bounds, key=key, as_it_stands=not source.is_named)
    except InputError as error:
        source.leave_out(key, error, _size(content.path))
        return
    if item.is_archive:
        source.skipped.append(Skipped(key, "archive", item.size_bytes))
    else:
        source.items.append(item)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _matching(
    pattern: str, spool: Spool, bounds: InputBounds, *, gitignore: bool, alone: bool
) -> Source:
    """Returns the files that a pattern names, below the folder in front of its first star."""
    parts = pattern.replace(os.sep, "/").split("/")
    first = next(at for at, part in enumerate(parts) if PATTERN & set(part))
    base = Path("/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."))
    if not base.is_dir():
        raise InputError(f"Cannot read {pattern}: there is no folder {base}.")
    # A pattern without a slash is for names in any folder of a `Directory`, and for those of the current one in a shell.
    inside = "/".join(parts[first:])
    try:
        folder = Directory(base, inside, gitignore=gitignore)
        flat = "/" not in inside
        source = _folder(
            folder, pattern, spool, bounds, flat=flat, alone=alone and not flat, is_pattern=True
        )
    except ValueError as error:
        raise InputError(f"Cannot read {pattern}: {str(error).rstrip('.')}.") from error
    source.skipped = [
        item for item in source.skipped if item.reason not in ("hidden", "link", "no regular file")
    ]
    if not source.items and source.folder is None:
        raise InputError(f"Cannot read {pattern}: no file matches it.")
    return source


def _folder(
    folder: Directory,
    name: str,
    spool: Spool,
    bounds: InputBounds,
    *,
    flat: bool = False,
    alone: bool = True,
    is_pattern: bool = False,
) -> Source:
    source = Source(name, is_collection=True, is_named=is_pattern, root=folder.root)
    try:
        with reading(name):
            sizes = {
                path: size for path, size in folder.sizes().items() if not (flat and "/" in path)
            }
    except ValueError as error:
        raise InputError(f"Cannot read {name}: {str(error).rstrip('.')}.") from error
    source.skipped = [
        Skipped(one.path, _REASONS.get(one.reason, one.reason), one.size_bytes)
        for one in folder.left_out()
    ]
    source.more_notes = [
        f"{name}: left out: {number:,} {what}"
        for what, number in sorted(folder.omissions().items())
    ]
    if alone and sum(sizes.values()) > bounds.folder_bytes:
        source.folder = folder
        return source
    for path in sizes:
        content = Content(path, folder.root / path, spool, folder=folder, below=path)
        _add(source, content, path, bounds)
    return source


def skipped_summary(skipped: Sequence[Skipped]) -> str:
    """Returns the files left out, such as `3 hidden (1.2 MB), 1 binary (17.0 kB)`; empty if there are none."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for item in skipped:
        counts[item.reason] += item.count
        sizes[item.reason] += item.size_bytes
    return ", ".join(
        f"{n:,} {why}{f' ({size_text(sizes[why])})' if sizes[why] else ''}"
        for why, n in counts.items()
    )
