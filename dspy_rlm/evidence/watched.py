"""Texts and directories on the host that report what code reads of them. They stay instances of their classes."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from sandbox_runtime import Directory, LazyText, TextFile
from sandbox_runtime.helpers import Deadline

OnRead = Callable[[str, LazyText, int, str], None]
"""Called with the place in the input, the text, the position of a piece and the piece."""


class _WatchedText:
    """A text that reports what cells get of it. It shares the index of the original, which may be watched too."""

    _watched: LazyText
    _place: str
    _on_read: OnRead

    def __repr__(self) -> str:
        return repr(self._watched)

    def delivered(self, start: int, piece: str) -> None:
        """See `LazyText`."""
        self._watched.delivered(start, piece)
        if piece:
            self._on_read(self._place, self._watched, start, piece)

    def matched(self, hit: Mapping[str, Any]) -> None:
        """See `LazyText`. A cell gets the match with its line, or with a part of a long line, and the lines around it."""
        start, end = hit["spans"][0]
        before, after = hit.get("around") or ((), ())
        lines = (*before, hit["text"], *after)
        if any("[...]" in line for line in lines):
            first, stop = start, end
        else:
            line = hit["line"] - len(before)
            first = self._watched.index.char_of_line(line, Deadline()) or 0
            stop = max(end, first + sum(map(len, lines)) + len(lines) - 1)
        self.delivered(first, self._watched.read(first, stop))


class _WatchedDirectory:
    """A directory whose files report what cells get of them. It shares the list of the original."""

    _watched: Directory
    _place: str
    _on_read: OnRead
    _seen: weakref.WeakValueDictionary[str, Any]

    def __repr__(self) -> str:
        return repr(self._watched)

    @property
    def size(self) -> str:
        """See `Directory`."""
        return self._watched.size

    def sizes(self, deadline: Deadline | None = None) -> Mapping[str, int]:
        """See `Directory`."""
        return self._watched.sizes(deadline)

    def file(self, path: str, deadline: Deadline | None = None) -> TextFile:
        """See `Directory`."""
        file = self._seen.get(path)
        if file is None:
            file = watched_text(self._watched.file(path, deadline), path, self._on_read)
            self._seen[path] = file
        text: TextFile = file
        return text


@functools.cache
def _class(mixin: Any, kind: Any) -> Any:
    if issubclass(kind, mixin):  # watched by the run above
        return kind
    return type(kind.__name__, (mixin, kind), {"__module__": kind.__module__})


def _instance(mixin: type, value: Any, place: str, on_read: OnRead) -> Any:
    kind: Any = type(value)
    watched = object.__new__(_class(mixin, kind))
    watched.__dict__.update(vars(value))
    watched._watched, watched._place, watched._on_read = value, place, on_read
    return watched


def watched_text(text: LazyText, place: str, on_read: OnRead) -> Any:
    """Returns a text that reports what cells get of it."""
    return _instance(_WatchedText, text, place, on_read)


def watched(value: Any, place: str, on_read: OnRead) -> Any:
    """Returns the value with the texts and directories in it watched: itself, or a copy of the containers around them."""
    if isinstance(value, LazyText):
        return watched_text(value, place, on_read)
    if isinstance(value, Directory):
        folder = _instance(_WatchedDirectory, value, place, on_read)
        folder._seen = weakref.WeakValueDictionary()
        return folder
    if type(value) is dict:
        parts = {k: watched(part, f"{place}[{k!r}]", on_read) for k, part in value.items()}
        return parts if any(parts[key] is not value[key] for key in value) else value
    if type(value) in (list, tuple):
        kinds = set(map(type, value))
        if any(issubclass(kind, (LazyText, Directory, dict, list, tuple)) for kind in kinds):
            items = [watched(part, f"{place}[{at}]", on_read) for at, part in enumerate(value)]
            changed = any(new is not old for new, old in zip(items, value, strict=True))
            return type(value)(items) if changed else value
    return value
