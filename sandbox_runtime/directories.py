"""A folder of texts as an input: listed once, and never left.

What a cell says is looked up in the list. No path is ever made of it.
"""

from __future__ import annotations

import fnmatch
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pathspec

from sandbox_runtime.text_bytes import Deadline
from sandbox_runtime.texts import TextFile, looks_binary

MAX_FILES = 1_000_000

# A file of rules larger than this is none.
_MAX_RULES_BYTES = 1024 * 1024

# Of a glob, which may come from a cell.
MAX_GLOB_PARTS = 50
MAX_STARS = 10

# Folders of version control whose names do not begin with a dot.
_VERSION_CONTROL = frozenset({"CVS", "_darcs"})


class Directory:
    """The files of a folder as an input, by their paths below it. They stay on the host.

    Left out: hidden files and folders, what `.gitignore` files name, and whatever is a symbolic link.
    """

    def __init__(
        self, path: str | os.PathLike[str], pattern: str = "**/*", *, gitignore: bool = True
    ) -> None:
        """Looks whether it is there; it is listed when it is first used.

        Args:
            path: The folder.
            pattern: Which files: `**` for any folders, `*` within a name; `src/**/*.py`.
            gitignore: Whether `.gitignore` files count.

        Raises:
            NotADirectoryError: It is no folder.
        """
        self.root = Path(path).absolute()
        if not self.root.is_dir():
            raise NotADirectoryError(f"{path} is not a directory.")
        self.name = self.root.name
        self.pattern = pattern
        self._gitignore = gitignore
        self._lock = threading.Lock()  # guards these two
        self._sizes: dict[str, int] | None = None
        self._files: dict[str, TextFile] = {}
        # Not guarded: who looks at a file at the same time as another finds the same.
        self._binary: dict[str, bool] = {}

    def __repr__(self) -> str:
        return f"<Directory {self.name!r}, {self.size}>"

    @property
    def size(self) -> str:
        """How much there is, in words."""
        sizes = self.sizes()
        return f"{len(sizes):,} files, {sum(sizes.values()):,} bytes"

    def sizes(self, deadline: Deadline | None = None) -> Mapping[str, int]:
        """Bytes by path, sorted by path; listed at the first call.

        Raises:
            OSError: The folder itself cannot be listed. What cannot be below it is left out.
        """
        with self._lock:
            if self._sizes is None:
                found = self._walk(deadline or Deadline())
                wanted = glob_matcher(self.pattern)
                self._sizes = dict(sorted(item for item in found if wanted(item[0])))
            return self._sizes

    def file(self, path: str) -> TextFile:
        """A file of the list. Raises `KeyError` for any other path."""
        sizes = self.sizes()
        if path not in sizes:
            raise KeyError(f"there is no file {path[:200]!r} in this directory; see its paths()")
        with self._lock:
            if path not in self._files:
                self._files[path] = DirectoryFile(self.root, path)
            return self._files[path]

    def is_text(self, path: str) -> bool:
        """False for a file that searches pass over."""
        if path not in self._binary:
            self._binary[path] = looks_binary(self.file(path))
        return not self._binary[path]

    def _walk(self, deadline: Deadline) -> Iterator[tuple[str, int]]:
        count = 0
        pending: list[tuple[Path, str, list[tuple[str, pathspec.GitIgnoreSpec]]]]
        pending = [(self.root, "", [])]
        while pending:
            deadline.check()
            folder, prefix, rules = pending.pop()
            if self._gitignore and (spec := _rules(folder)) is not None:
                rules = [*rules, (prefix, spec)]
            try:
                entries = list(os.scandir(folder))
            except OSError:  # not ours to read, or gone meanwhile
                if folder == self.root:
                    raise
                continue
            for entry in entries:
                path = prefix + entry.name
                if entry.name.startswith(".") or entry.name in _VERSION_CONTROL:
                    continue
                # Links are not followed: they may lead out, or round in circles.
                is_folder = entry.is_dir(follow_symlinks=False)
                if _ignored(path + "/" if is_folder else path, rules):
                    continue
                if is_folder:
                    pending.append((folder / entry.name, path + "/", rules))
                elif entry.is_file(follow_symlinks=False) and _is_utf8(path):
                    try:
                        size = entry.stat(follow_symlinks=False).st_size
                    except OSError:  # gone meanwhile
                        continue
                    count += 1
                    if count > MAX_FILES:
                        raise ValueError(f"{self.name} has more than {MAX_FILES:,} files")
                    yield path, size


class DirectoryFile(TextFile):
    """A file of a directory, called by its path in it."""

    def __init__(self, root: Path, path: str) -> None:
        """Looks at the file. Raises OSError if it is gone, or became a link since it was listed."""
        # What was listed as a file may be a link by now, and so may the folders above it.
        full = root / path
        if Path(os.path.realpath(full)) != Path(os.path.realpath(root)) / path:
            raise FileNotFoundError(f"{path} is no longer a file of this directory")
        self._open(full, path, None)


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Tells whether a path fits: `**` for any folders, `*` and `?` within a name.

    A pattern without a slash is for the name alone, in any folder. Never takes long: a part of a path is
    compared with a part of the pattern, and stars of one name are few.
    """
    parts = pattern.removeprefix("./").split("/")
    if len(parts) == 1:
        parts = ["**", *parts]
    if len(parts) > MAX_GLOB_PARTS or any(part.count("*") > MAX_STARS for part in parts):
        raise ValueError(f"the glob {pattern[:100]!r} has too many parts or stars")

    def fits(path: str) -> bool:
        # Which parts of the pattern may come next, name by name.
        states = _open_to({0}, parts)
        for name in path.split("/"):
            reached = {
                at if parts[at] == "**" else at + 1
                for at in states
                if at < len(parts) and (parts[at] == "**" or fnmatch.fnmatchcase(name, parts[at]))
            }
            states = _open_to(reached, parts)
        return len(parts) in states

    return fits


def _open_to(states: set[int], parts: list[str]) -> set[int]:
    """The states with those that `**` reaches by standing for nothing."""
    opened = set(states)
    for at in sorted(states):
        while at < len(parts) and parts[at] == "**":
            at += 1
            opened.add(at)
    return opened


def _rules(folder: Path) -> pathspec.GitIgnoreSpec | None:
    file = folder / ".gitignore"
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _MAX_RULES_BYTES:
            return None
        lines = file.read_text("utf-8", "replace").splitlines()
        return pathspec.GitIgnoreSpec.from_lines(lines)
    except (OSError, ValueError):
        return None


def _ignored(path: str, rules: list[tuple[str, pathspec.GitIgnoreSpec]]) -> bool:
    """By the nearest file of rules that says something."""
    for prefix, spec in reversed(rules):
        verdict = spec.check_file(path[len(prefix) :]).include
        if verdict is not None:
            return bool(verdict)
    return False


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
