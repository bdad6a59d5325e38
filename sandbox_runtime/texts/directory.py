"""A folder of texts as an input: listed once; cells reach only listed files.

A cell's path is looked up in the list and never used as a path. The folder is untrusted, including its names and
its `.gitignore` files: all work is bounded.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from sandbox_runtime.texts.bytes import DiskAllowance, UnreadableTextError
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.globs import IgnoreRules, glob_matcher, path_bytes
from sandbox_runtime.texts.lazy_text import TextFile
from sandbox_runtime.texts.regular_files import (
    open_regular,
    open_regular_below,
    open_regular_in,
    read_whole,
    scanned,
)

MAX_FILES = 1_000_000

# Entries examined: files and folders, including hidden and ignored ones.
MAX_ENTRIES = 5_000_000

# Characters of all paths of a list. A million files of the deepest repositories take a third of it.
MAX_PATH_CHARS = 256 * 1024 * 1024

# CPU seconds for one list. A million files take some 15 s on a slow machine.
MAX_LISTING_SECONDS = 60.0

# A larger `.gitignore` is left out, as are rules beyond the second bound, counted over a folder and its parents.
# The largest collections of rules have a few hundred.
MAX_RULES_BYTES = 1024 * 1024
MAX_RULES = 10_000

# Bytes on disk of the compressed and converted files of a folder that are in use.
MAX_CONVERTED_BYTES = 8 * 1024**3

# Entries and rules between two checks of the clock.
_CHECKED_ENTRIES = 64

# Version control folders whose names do not begin with a dot.
_VERSION_CONTROL = frozenset({"CVS", "_darcs"})

_Rules = tuple[tuple[int, IgnoreRules], ...]
"""Rules in force, the nearest last; each with the length of the prefix that its paths lack."""


class Directory:
    """The files of a folder as an input, by their paths below it. They stay on the host.

    Hidden files and folders, files ignored by `.gitignore`, symbolic links, and everything that is not a regular
    file are left out. A hard link is an ordinary file.
    """

    def __init__(
        self, path: str | os.PathLike[str], pattern: str = "**/*", *, gitignore: bool = True
    ) -> None:
        """Checks that the folder exists; it is listed at first use.

        Args:
            path: The folder.
            pattern: A glob such as `src/**/*.py`: `**` for any folders, `*` within a name.
            gitignore: Whether to apply `.gitignore` files.

        Raises:
            FileNotFoundError: The path does not exist.
            NotADirectoryError: The path is not a folder.
            ValueError: The pattern is too long.
        """
        self.root = Path(path).absolute()
        if not self.root.exists():
            raise FileNotFoundError(f"There is no folder {path}.")
        if not self.root.is_dir():
            raise NotADirectoryError(f"{path} is not a folder. TextFile(path) takes a single file.")
        self.name = self.root.name
        self.pattern = pattern
        self._matches = glob_matcher(pattern)
        self.gitignore = gitignore
        self._lock = threading.Lock()  # guards the fields below, except `_passed_over`
        self._sizes: dict[str, int] | None = None
        self._left_out: Counter[str] = Counter()
        # Weak references: a search through a million files must not keep them all.
        self._files: weakref.WeakValueDictionary[str, TextFile] = weakref.WeakValueDictionary()
        self._allowance = DiskAllowance(MAX_CONVERTED_BYTES)
        # Needs no lock: concurrent checks of a file get the same result.
        self._passed_over: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Directory {self.name!r}, {self.size}>"

    def __iter__(self) -> Iterator[str]:
        """Yields the paths of the files that cells can read, sorted."""
        return iter(self.sizes())

    def __len__(self) -> int:
        """Returns the number of files."""
        return len(self.sizes())

    def __bool__(self) -> bool:
        """Returns True, also for an empty folder, without listing it."""
        return True

    def __contains__(self, path: object) -> bool:
        """Returns True if cells can read the file."""
        return path in self.sizes()

    @property
    def size(self) -> str:
        """Describes the size in words, including what had to be left out."""
        sizes = self.sizes()
        left_out = "".join(
            f"; left out: {n:,} {what}" for what, n in sorted(self._left_out.items())
        )
        return f"{len(sizes):,} files, {sum(sizes.values()):,} bytes{left_out}"

    def sizes(self, deadline: Deadline | None = None) -> Mapping[str, int]:
        """Returns the bytes of each file by path, sorted; lists the folder at the first call.

        Raises:
            OSError: The folder itself cannot be listed. Unreadable subfolders are left out.
            ValueError: The folder exceeds a bound.
        """
        deadline = deadline or Deadline()
        with deadline.holding(self._lock):
            if self._sizes is None:
                listing = _Listing(self.root, self._matches, deadline, gitignore=self.gitignore)
                self._sizes = dict(sorted(listing.files()))
                self._left_out = listing.left_out
            return self._sizes

    def file(self, path: str, deadline: Deadline | None = None) -> TextFile:
        """Returns a listed file. Raises `KeyError` for any other path."""
        deadline = deadline or Deadline()
        if path not in self.sizes(deadline):
            raise KeyError(f"there is no file {path[:200]!r} in this directory; see its paths()")
        with deadline.holding(self._lock):
            file = self._files.get(path)
            if file is None:
                self._files[path] = file = DirectoryFile(self.root, path, self._allowance)
            return file

    def not_text(self, path: str, deadline: Deadline | None = None) -> str:
        """Returns why searches pass a file over, such as "a PNG image"; "" for a text."""
        if path not in self._passed_over:
            try:
                self._passed_over[path] = self.file(path, deadline).binary
            except (
                UnreadableTextError
            ) as error:  # compressed, and damaged or of an unsupported kind
                self._passed_over[path] = str(error)
        return self._passed_over[path]


class DirectoryFile(TextFile):
    """A file of a directory, named by its relative path."""

    def __init__(self, root: Path, path: str, allowance: DiskAllowance) -> None:
        """Examines the file. Raises OSError if it was removed or replaced since it was listed."""
        self.path = root / path
        self._open(partial(open_regular_below, root, path), path, None, allowance)
        if self.binary:
            self.note = "; ".join(filter(None, (self.binary, self.note)))


class _Listing:
    """One bounded walk through a folder."""

    def __init__(
        self, root: Path, matches: Callable[[str], bool], deadline: Deadline, *, gitignore: bool
    ) -> None:
        self._root = root
        self._matches = matches
        self._deadline = deadline
        self._gitignore = gitignore
        self._started = time.thread_time()
        self._entries = self._files = self._chars = 0
        self.left_out: Counter[str] = Counter()

    def files(self) -> Iterator[tuple[str, int]]:
        """Yields paths and sizes, in no order."""
        pending: list[tuple[tuple[str, ...], _Rules]] = [((), ())]
        while pending:
            self._check()
            folders, rules = pending.pop()
            try:
                with scanned(self._root, folders) as (entries, descriptor):
                    rules = self._rules_in(folders, descriptor, rules)
                    for entry in entries:
                        if (entry_size := self._examine(entry, folders, rules)) is None:
                            continue
                        if isinstance(entry_size, int):
                            path = "/".join((*folders, entry.name))
                            if self._matches(path):
                                self._count(path)
                                yield path, entry_size
                        else:
                            pending.append(((*folders, entry.name), rules))
            except (TimeoutError, InterruptedError):  # subclasses of OSError
                raise
            except OSError as error:  # unreadable, or removed in the meantime
                if not folders:
                    raise
                if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                    self.left_out["folders that cannot be read"] += 1

    def _examine(
        self, entry: os.DirEntry[str], folders: tuple[str, ...], rules: _Rules
    ) -> int | str | None:
        """Returns the size of a file, "folder", or None to leave the entry out."""
        self._entries += 1
        if not self._entries % _CHECKED_ENTRIES:
            self._check()
        name = entry.name
        if name.startswith(".") or name in _VERSION_CONTROL:
            return None
        # Links are not followed: they may lead outside or form cycles.
        is_folder = entry.is_dir(follow_symlinks=False)
        if not is_folder and not entry.is_file(follow_symlinks=False):
            return None
        if rules:
            path = "/".join((*folders, name))
            if self._ignored(path, rules, is_folder=is_folder):
                return None
        if not is_folder and not _is_utf8(name):
            self.left_out["files whose names are not UTF-8"] += 1
            return None
        if is_folder:
            if not _is_utf8(name):
                self.left_out["folders whose names are not UTF-8"] += 1
                return None
            return "folder"
        try:
            return entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:  # removed in the meantime
            return None

    def _ignored(self, path: str, rules: _Rules, *, is_folder: bool) -> bool:
        """Decides by the nearest rule file that has a matching rule."""
        for begin, nearest in reversed(rules):
            verdict = nearest.verdict(
                path_bytes(path[begin:]), is_folder=is_folder, check=self._check
            )
            if verdict is not None:
                return verdict
        return False

    def _rules_in(self, folders: tuple[str, ...], descriptor: int, above: _Rules) -> _Rules:
        """Returns the rules in force in a folder: its parents' and its own."""
        if not self._gitignore:
            return above
        try:
            opened = (
                open_regular_in(descriptor, ".gitignore")
                if descriptor >= 0
                else open_regular(self._root.joinpath(*folders, ".gitignore"))
            )
            data = read_whole(opened, MAX_RULES_BYTES)
        except OSError:
            return above
        in_force = sum(len(rules) for _, rules in above)
        # Bounded before parsing: there are at most as many rules as lines.
        if data is None or in_force + data.count(b"\n") >= MAX_RULES:
            self.left_out[
                f".gitignore files with more than {MAX_RULES_BYTES:,} bytes or "
                f"{MAX_RULES:,} rules in force"
            ] += 1
            return above
        own = IgnoreRules(data)
        if own.skipped:
            self.left_out["rules of .gitignore that are too long"] += own.skipped
        begin = sum(len(folder) + 1 for folder in folders)
        return (*above, (begin, own)) if len(own) else above

    def _count(self, path: str) -> None:
        self._files += 1
        self._chars += len(path)
        if self._files > MAX_FILES:
            self._refuse(f"more than {MAX_FILES:,} files")
        if self._chars > MAX_PATH_CHARS:
            self._refuse(f"paths of more than {MAX_PATH_CHARS:,} characters together")

    def _check(self) -> None:
        self._deadline.check()
        if self._entries > MAX_ENTRIES:
            self._refuse(f"more than {MAX_ENTRIES:,} files and folders")
        if time.thread_time() - self._started > MAX_LISTING_SECONDS:
            self._refuse(
                f"so many entries, or such costly .gitignore rules, that listing it takes more than "
                f"{MAX_LISTING_SECONDS:g} s of CPU time"
            )

    def _refuse(self, reason: str) -> None:
        raise ValueError(
            f"{self._root.name} has {reason}. Pass one of its subfolders, a narrower pattern, or gitignore=False."
        )


def _is_utf8(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
