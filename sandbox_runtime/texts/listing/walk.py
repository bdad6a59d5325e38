"""One bounded walk through an untrusted folder: its files, and the entries that are left out.

The names and the `.gitignore` files in it are hostile: all work is bounded. Links are not followed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.globs import IgnoreRules, path_bytes
from sandbox_runtime.texts.listing.repository import rules_above
from sandbox_runtime.texts.regular_files import open_regular, open_regular_in, read_whole, scanned

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

# Entries left out that a report can name.
MAX_PASSED = 1000

# Entries and rules between two checks of the clock.
_CHECKED_ENTRIES = 64

# Version control folders whose names do not begin with a dot.
_VERSION_CONTROL = frozenset({"CVS", "_darcs"})

_Rules = tuple[tuple[str, int, IgnoreRules], ...]
"""Rules in force, the nearest last; each with the prefix that its paths have in addition, and the length of the one that they
lack."""


class LeftOut(NamedTuple):
    """An entry of a folder that is no file of it."""

    path: str
    reason: str
    """One word: `hidden`, `ignored`, `link` or `special` (a pipe, a socket or a device)."""

    size_bytes: int
    """0 for a folder, which is not listed."""


class Listing:
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
        self.passed: list[LeftOut] = []
        """The entries left out, up to `MAX_PASSED`."""

    def files(self) -> Iterator[tuple[str, int]]:
        """Yields paths and sizes, in no order."""
        above = self._rules_above() if self._gitignore else ()
        pending: list[tuple[tuple[str, ...], _Rules]] = [((), above)]
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
        # Links are not followed: they may lead outside or form cycles.
        is_folder = entry.is_dir(follow_symlinks=False)
        if name.startswith(".") or name in _VERSION_CONTROL:
            self._pass_over(entry, folders, "hidden")
            return None
        if not is_folder and not entry.is_file(follow_symlinks=False):
            self._pass_over(entry, folders, "link" if entry.is_symlink() else "special")
            return None
        if rules:
            path = "/".join((*folders, name))
            if self._ignored(path, rules, is_folder=is_folder):
                self._pass_over(entry, folders, "ignored")
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

    def _pass_over(self, entry: os.DirEntry[str], folders: tuple[str, ...], reason: str) -> None:
        if len(self.passed) >= MAX_PASSED or not _is_utf8(entry.name):
            return
        size = 0
        with contextlib.suppress(OSError):  # removed in the meantime
            if entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
        self.passed.append(LeftOut("/".join((*folders, entry.name)), reason, size))

    def _ignored(self, path: str, rules: _Rules, *, is_folder: bool) -> bool:
        """Decides by the nearest rule file that has a matching rule."""
        for prefix, begin, nearest in reversed(rules):
            verdict = nearest.verdict(
                path_bytes(prefix + path[begin:]), is_folder=is_folder, check=self._check
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
        begin = sum(len(folder) + 1 for folder in folders)
        return self._with(above, data, "", begin)

    def _rules_above(self) -> _Rules:
        """Returns the rules of the repository in which the folder lies, from the weakest to the nearest."""
        rules: _Rules = ()
        for prefix, data in rules_above(self._root, MAX_RULES_BYTES):
            rules = self._with(rules, data, prefix, 0)
        return rules

    def _with(self, above: _Rules, data: bytes | None, prefix: str, begin: int) -> _Rules:
        in_force = sum(len(rules) for _, _, rules in above)
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
        return (*above, (prefix, begin, own)) if len(own) else above

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
