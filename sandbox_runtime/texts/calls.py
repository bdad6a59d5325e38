"""Serves the operations of cells on lazy texts and directories.

Every call has one deadline for all of its work, and can be cancelled. The operation and its arguments are hostile until
they are checked (`arguments.py`). The target is a value of the session's own table (`handles.py`), never a path.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.guest.texts.directory import LazyDirectory
from sandbox_runtime.guest.texts.host_calls import TEXT_CALL
from sandbox_runtime.guest.texts.lazy_text import MAX_READ_CHARS
from sandbox_runtime.guest.texts.lazy_text import LazyText as CellText
from sandbox_runtime.guest.texts.table import LazyTable
from sandbox_runtime.host_time import host_seconds_left
from sandbox_runtime.limits import Limits
from sandbox_runtime.texts.arguments import (
    context_lines,
    match_limit,
    optional_position,
    position,
    short_text,
)
from sandbox_runtime.texts.bytes import UnreadableTextError
from sandbox_runtime.texts.context import lines_around
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.directory import Directory
from sandbox_runtime.texts.globs import glob_matcher
from sandbox_runtime.texts.lazy_text import LazyText
from sandbox_runtime.texts.search import MAX_FOUND_CHARS, Hit, Searcher, check_pattern
from sandbox_runtime.texts.search_worker import cost_of
from sandbox_runtime.texts.tables.table import Table

# The files that a result names; of all others it has the number.
MAX_PASSED_OVER = 10

__all__ = ["TEXT_CALL", "TextCalls", "in_cell"]


def in_cell(value: object) -> type[CellText] | type[LazyDirectory] | type[LazyTable] | None:
    """Returns the guest class of a lazy text, directory or table; None for other values."""
    if isinstance(value, LazyText):
        return CellText
    if isinstance(value, Table):
        return LazyTable
    return LazyDirectory if isinstance(value, Directory) else None


class TextCalls:
    """Serves the calls of one session. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        """Starts nothing yet."""
        bounds = {"search_seconds": limits.search_seconds, "call_seconds": limits.call_seconds}
        self._seconds, self._bound = min(
            (seconds, f"Limits.{name}") for name, seconds in bounds.items() if seconds is not None
        )
        self._searcher = Searcher()
        self._lock = threading.Lock()  # guards the fields below
        self._running: set[Deadline] = set()
        self._closed = False

    def __call__(self, value: object, operation: object, *arguments: Any) -> Any:
        """Answers one call. The cell sees its exceptions."""
        operations = (
            _OF_TEXTS
            if isinstance(value, LazyText)
            else _OF_DIRECTORIES
            if isinstance(value, Directory)
            else _OF_TABLES
            if isinstance(value, Table)
            else {}
        )
        if type(operation) is not str or operation not in operations:
            raise LookupError("there is no such operation on this value")
        with self._deadline() as deadline:
            return operations[operation](self, deadline, value, *arguments)

    @property
    def running(self) -> list[Deadline]:
        """The deadlines of the running calls, which can be cancelled."""
        with self._lock:
            return list(self._running)

    def close(self) -> None:
        """Cancels running calls and ends the search process. Later calls are cancelled at once."""
        with self._lock:
            self._closed = True
        for deadline in self.running:
            deadline.cancel()
        self._searcher.close()

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[Deadline]:
        left = host_seconds_left()
        if left < self._seconds:
            deadline = Deadline(round(left, 1), "the rest of Limits.host_seconds")
        else:
            deadline = Deadline(self._seconds, self._bound)
        with self._lock:
            self._running.add(deadline)
            deadline.cancelled = self._closed
        try:
            deadline.check()
            yield deadline
        finally:
            with self._lock:
                self._running.discard(deadline)

    # ---- Texts ----

    def _length(self, deadline: Deadline, text: LazyText) -> int:
        return text.length(deadline)

    def _read(self, deadline: Deadline, text: LazyText, start: Any, stop: Any) -> str:
        first, last = position(start), position(stop)
        if last - first > MAX_READ_CHARS + 1:
            raise ValueError(f"one read gives at most {MAX_READ_CHARS:,} characters")
        piece = text.read(first, last, deadline)
        text.delivered(first, piece)
        return piece

    def _lines(self, deadline: Deadline, text: LazyText, first: Any, last: Any) -> str | None:
        index = text.index
        start = index.char_of_line(position(first, 1), deadline)
        if start is None:
            return None
        stop = None if last is None else index.char_of_line(position(last) + 1, deadline)
        most = start + MAX_READ_CHARS + 1
        lines = text.read(start, most if stop is None else min(stop, most), deadline)
        if len(lines) > MAX_READ_CHARS:
            raise ValueError(
                f"these lines have more than {MAX_READ_CHARS:,} characters. Ask for fewer, loop with "
                "`for line in text`, or read parts with text[a:b] or text.chunks()"
            )
        text.delivered(start, lines)
        return lines

    def _line_of(self, deadline: Deadline, text: LazyText, char: Any) -> int:
        return text.index.line_of_char(position(char), deadline)

    def _char_of(self, deadline: Deadline, text: LazyText, line: Any) -> int | None:
        return text.index.char_of_line(position(line, 1), deadline)

    def _find(self, deadline: Deadline, text: LazyText, needle: Any, start: Any, stop: Any) -> int:
        return text.find(short_text(needle), position(start), optional_position(stop), deadline)

    def _rfind(self, deadline: Deadline, text: LazyText, needle: Any, start: Any, stop: Any) -> int:
        return text.rfind(short_text(needle), position(start), optional_position(stop), deadline)

    def _count(self, deadline: Deadline, text: LazyText, needle: Any, start: Any, stop: Any) -> int:
        return text.count(short_text(needle), position(start), optional_position(stop), deadline)

    def _search(
        self, deadline: Deadline, text: LazyText, pattern: Any, flags: Any, *more: Any
    ) -> dict[str, Any]:
        start, stop, limit = more
        first, last = position(start), optional_position(stop)
        matches = _Matches(match_limit(limit))

        def add(hit: Hit) -> bool:
            text.matched(hit)
            return matches.add(hit)

        with matches.until_deadline():
            pattern, flags = check_pattern(pattern, flags)
            self._searcher.search(
                text.index,
                pattern,
                flags,
                deadline,
                add,
                start=first,
                stop=last,
                limit=matches.remaining,
                chars=matches.remaining_chars,
            )
        return matches.answer()

    def _grep(
        self, deadline: Deadline, text: LazyText, pattern: Any, flags: Any, *more: Any
    ) -> dict[str, Any]:
        start, before, after, limit = more
        first, around = position(start), (context_lines(before), context_lines(after))
        matches = _Matches(match_limit(limit))
        with matches.until_deadline():
            self._grep_into(matches, deadline, text, check_pattern(pattern, flags), around, first)
        return matches.answer()

    def _grep_into(
        self,
        matches: _Matches,
        deadline: Deadline,
        text: LazyText,
        pattern: tuple[str, int],
        around: tuple[int, int],
        start: int = 0,
    ) -> None:
        def add(hit: Hit) -> bool:
            hit["path"] = text.name
            if any(around):
                hit["around"] = lines_around(text.index, hit["line"], *around, deadline)
            text.matched(hit)
            return matches.add(hit)

        self._searcher.search(
            text.index,
            *pattern,
            deadline,
            add,
            start=start,
            lines=True,
            limit=matches.remaining,
            chars=matches.remaining_chars,
        )

    # ---- Directories ----

    def _sizes(self, deadline: Deadline, folder: Directory, glob: Any) -> list[list[Any]]:
        return [[path, size] for path, size in _matching(folder, glob, deadline)]

    def _file(self, deadline: Deadline, folder: Directory, path: Any) -> LazyText:
        _listed(folder, deadline)
        try:
            return folder.file(short_text(path), deadline)
        except (TimeoutError, InterruptedError):  # subclasses of OSError
            raise
        except OSError as error:
            raise _gone(path) from error

    def _grep_files(
        self, deadline: Deadline, folder: Directory, pattern: Any, flags: Any, *more: Any
    ) -> dict[str, Any]:
        glob, before, after, limit = more
        around = (context_lines(before), context_lines(after))
        matches = _Matches(match_limit(limit))
        with matches.until_deadline():
            checked = check_pattern(pattern, flags)
            for path, _ in _matching(folder, glob, deadline):
                matches.place = path
                try:
                    reason = folder.not_text(path, deadline)
                    text = None if reason else folder.file(path, deadline)
                except (TimeoutError, InterruptedError):  # subclasses of OSError
                    raise
                except OSError as error:
                    raise _gone(path) from error
                if text is not None:
                    try:
                        self._grep_into(matches, deadline, text, checked, around)
                    except UnreadableTextError as error:
                        reason = str(error)
                if reason:
                    matches.pass_over(path, reason)
                if matches.full:
                    break
        return matches.answer()

    # ---- Tables ----

    def _columns(self, deadline: Deadline, table: Table) -> dict[str, str]:
        return dict(table.columns)

    def _count_rows(self, deadline: Deadline, table: Table, where: Any) -> int:
        return table.count(where, deadline)

    def _rows(self, deadline: Deadline, table: Table, *arguments: Any) -> list[dict[str, Any]]:
        where, columns, start, limit = arguments
        return table.rows(where, columns, start, limit, deadline)

    def _row(self, deadline: Deadline, table: Table, handle: Any) -> dict[str, Any]:
        return table.row(handle, deadline)

    def _grep_rows(self, deadline: Deadline, table: Table, *arguments: Any) -> list[dict[str, Any]]:
        pattern, columns, where, ignore_case, limit = arguments
        return table.grep(pattern, columns, where, ignore_case, limit, deadline)

    def _search_rows(
        self, deadline: Deadline, table: Table, *arguments: Any
    ) -> list[dict[str, Any]]:
        words, column, where, limit = arguments
        return table.search(words, column, where, limit, deadline)


class _Matches:
    """The matches of one call, up to its limit."""

    def __init__(self, limit: int) -> None:
        self.hits: list[Hit] = []
        self.place = ""
        self._chars = 0
        self._limit = limit
        self._stopped = ""
        self._passed_over: list[list[str]] = []
        self._passed_over_count = 0

    def pass_over(self, path: str, reason: str) -> None:
        """Notes a file that could not be searched, or not completely."""
        self._passed_over_count += 1
        if len(self._passed_over) < MAX_PASSED_OVER:
            self._passed_over.append([path, reason])

    @property
    def remaining(self) -> int:
        return self._limit - len(self.hits)

    @property
    def remaining_chars(self) -> int:
        return MAX_FOUND_CHARS - self._chars

    def add(self, hit: Hit) -> bool:
        """Adds a match. Returns True at the limit."""
        self.hits.append(hit)
        around = sum(len(line) for lines in hit.get("around", ()) for line in lines)
        self._chars += cost_of(hit) + around
        return self.full

    @property
    def full(self) -> bool:
        return len(self.hits) >= self._limit or self._chars > MAX_FOUND_CHARS

    @contextlib.contextmanager
    def until_deadline(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self._stopped = str(error) + (f", in {self.place}" if self.place else "")

    def answer(self) -> dict[str, Any]:
        return {
            "hits": self.hits,
            "more": self.full,
            "stopped": self._stopped,
            "passed_over": [self._passed_over_count, self._passed_over],
        }


def _matching(folder: Directory, glob: Any, deadline: Deadline) -> Iterator[tuple[str, int]]:
    fits = None if glob is None else glob_matcher(short_text(glob))
    for path, size in _listed(folder, deadline).items():
        deadline.check()
        if fits is None or fits(path):
            yield path, size


def _listed(folder: Directory, deadline: Deadline) -> Mapping[str, int]:
    try:
        return folder.sizes(deadline)
    except (TimeoutError, InterruptedError):  # subclasses of OSError
        raise
    except OSError as error:
        raise TextChangedError(f"{folder.name} cannot be listed: {error.strerror}.") from error


def _gone(path: str) -> TextChangedError:
    return TextChangedError(
        f"{path} is gone: the file was removed or replaced since it was listed."
    )


_OF_TEXTS: dict[str, Callable[..., Any]] = {
    "length": TextCalls._length,
    "read": TextCalls._read,
    "lines": TextCalls._lines,
    "line_of": TextCalls._line_of,
    "char_of": TextCalls._char_of,
    "find": TextCalls._find,
    "rfind": TextCalls._rfind,
    "count": TextCalls._count,
    "search": TextCalls._search,
    "grep": TextCalls._grep,
}

_OF_DIRECTORIES: dict[str, Callable[..., Any]] = {
    "sizes": TextCalls._sizes,
    "file": TextCalls._file,
    "grep": TextCalls._grep_files,
}

_OF_TABLES: dict[str, Callable[..., Any]] = {
    "columns": TextCalls._columns,
    "count": TextCalls._count_rows,
    "rows": TextCalls._rows,
    "row": TextCalls._row,
    "grep": TextCalls._grep_rows,
    "search": TextCalls._search_rows,
}
