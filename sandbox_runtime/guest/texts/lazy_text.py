"""Texts that stay on the host: the class that cells use to read ranges and matches.

Runs inside the sandbox, so it uses only the standard library. `sandbox_runtime/texts/calls.py` is the other side; only
content that a cell has requested is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from sandbox_runtime.guest.texts.host_calls import HostConnection, ask
from sandbox_runtime.guest.texts.matches import (
    GrepHit,
    SearchResult,
    TextMatch,
    findall_item,
    noted,
    pattern_of,
    search_result,
)
from sandbox_runtime.guest.values.handles import Handle
from sandbox_runtime.guest.values.lazy_sequences import LazySequence, OneWay

# The most characters that one read returns: at four bytes each they still fit well into a sandbox.
MAX_READ_CHARS = 10_000_000

# Characters per fetch of an iteration, and matches per page of `finditer`.
PIECE_CHARS = 200_000
PAGE_HITS = 100


class LazyText(Handle):
    """A text that stays on the host, however large. Positions are characters, lines count from 1.

    text[a:b], text[-100:], len(text) (or text.length, also where it is beyond 2**31)
    for line in text: ...             lines without their ends, in bounded memory
    text.lines(10, 20), text.line(10) lines 10 to 20 as a list, line 10
    text.chunks(size, overlap=0)      pieces as str: a sequence that reads each when you use it
    text.find(s), rfind, index, count, s in text, startswith, endswith
    text.search(pattern)              first match of a regular expression, like one of re, and with
                                      line_number and line; ^ and $ match at every line
    text.finditer(pattern), text.findall(pattern, limit=1000)
    text.grep(pattern, before=0, after=0, limit=100, ignore_case=False)
                                      lines that match, each with path, line_number, position, line
    text.line_number(position), text.line_start(line_number)

    All of these search on the host and return plain str and int. The functions of `re` do not accept this
    text: use text.search(pattern), or re.search(pattern, text[a:b]).
    """

    __slots__ = ()

    def __init__(self, number: int, type_name: str, preview: str) -> None:
        super().__init__(number, type_name, preview)
        HostConnection.used = True

    def __repr__(self) -> str:
        return f"<{self._type_name} {self._preview}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks these up on any object
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} has no {name!r}: it is a text that stays on the host. It has text[a:b], lines, "
            "line, chunks, find, count, search, finditer, findall and grep, and `for line in text`; "
            "these return plain str. A short text as a whole is str(text). See help(text)."
        )

    # ---- As a str ----

    @property
    def length(self) -> int:
        """Returns the number of characters. The first time, the host reads all of the text."""
        return int(ask(self, "length"))

    def __len__(self) -> int:
        return self.length

    def __bool__(self) -> bool:
        return bool(ask(self, "read", 0, 1))

    def __str__(self) -> str:
        return self._read(0, None)

    def __eq__(self, other: object) -> bool:
        """Compares the characters with those of a str, up to the first difference."""
        if not isinstance(other, str):
            return super().__eq__(other)
        at = 0
        for piece in self.chunks(PIECE_CHARS):
            if other[at : at + len(piece)] != piece:
                return False
            at += len(piece)
        return at == len(other)

    def __hash__(self) -> int:
        return super().__hash__()

    def __add__(self, other: object) -> str:
        return str(self) + str(other) if isinstance(other, (str, LazyText)) else NotImplemented

    def __radd__(self, other: object) -> str:
        return other + str(self) if isinstance(other, str) else NotImplemented

    def __getitem__(self, key: Any) -> str:
        if not isinstance(key, slice):
            at = key.__index__()
            at = at + self.length if at < 0 else at
            char = ask(self, "read", at, at + 1) if at >= 0 else ""
            if not char:
                raise IndexError("text index out of range")
            return str(char)
        if key.step is None or key.step == 1:
            start, stop = self._bounds(key.start, key.stop)
            return self._read(start, stop)
        places = range(*key.indices(self.length))
        if not places:
            return ""
        low, high = min(places[0], places[-1]), max(places[0], places[-1]) + 1
        return self._read(low, high)[:: key.step]

    def read(self, start: int = 0, size: int | None = None) -> str:
        """Returns characters from a position."""
        return self._read(start, None if size is None else start + size)

    def __iter__(self) -> Iterator[str]:
        rest = ""
        for piece in self.chunks(PIECE_CHARS):
            lines = (rest + piece).split("\n")
            rest = lines.pop()
            for line in lines:
                yield line.removesuffix("\r")
            if len(rest) > MAX_READ_CHARS:
                raise ValueError(
                    f"a line has more than {MAX_READ_CHARS:,} characters; use text.chunks(size)"
                )
        if rest:
            yield rest.removesuffix("\r")

    def __contains__(self, substring: object) -> bool:
        if not isinstance(substring, str):
            raise TypeError(
                f"'in <text>' requires string as left operand, not {type(substring).__name__}"
            )
        return self.find(substring) >= 0

    def find(self, substring: str, start: int | None = None, end: int | None = None) -> int:
        """Returns the position of the first match of a text; -1 if there is none."""
        return int(ask(self, "find", substring, *self._bounds(start, end)))

    def rfind(self, substring: str, start: int | None = None, end: int | None = None) -> int:
        """Returns the position of the last match of a text; -1 if there is none."""
        return int(ask(self, "rfind", substring, *self._bounds(start, end)))

    def index(self, substring: str, start: int | None = None, end: int | None = None) -> int:
        """Returns the position of the first match of a text. Raises ValueError if there is none."""
        if (at := self.find(substring, start, end)) < 0:
            raise ValueError("substring not found")
        return at

    def count(self, substring: str, start: int | None = None, end: int | None = None) -> int:
        """Counts the matches of a text, without overlaps."""
        return int(ask(self, "count", substring, *self._bounds(start, end)))

    def startswith(self, prefix: str | tuple[str, ...]) -> bool:
        """Returns whether the text begins with a prefix, or with one of several."""
        prefixes = prefix if isinstance(prefix, tuple) else (prefix,)
        return any(ask(self, "read", 0, len(text)) == text for text in prefixes)

    def endswith(self, suffix: str | tuple[str, ...]) -> bool:
        """Returns whether the text ends with a suffix, or with one of several."""
        suffixes = suffix if isinstance(suffix, tuple) else (suffix,)
        return any(self[-len(text) :] == text if text else True for text in suffixes)

    def splitlines(self) -> list[str]:
        """Returns all lines, if the text is not too large."""
        return self.lines()

    # ---- Lines and chunks ----

    def line(self, number: int) -> str:
        """Returns a line by its number from 1."""
        lines = ask(self, "lines", _line(number), number)
        if not lines:
            raise IndexError(f"there is no line {number}")
        return str(lines).removesuffix("\n").removesuffix("\r")

    def lines(self, first: int = 1, last: int | None = None) -> list[str]:
        """Returns the lines from `first` to `last`, both counted from 1 and included."""
        if last is not None and last < _line(first):
            return []
        lines = ask(self, "lines", _line(first), last)
        if not lines:
            return []
        return [line.removesuffix("\r") for line in lines.removesuffix("\n").split("\n")]

    def line_number(self, position: int) -> int:
        """Returns the number, from 1, of the line that contains a character."""
        return int(ask(self, "line_of", position))

    def line_start(self, number: int) -> int:
        """Returns the position where a line begins."""
        at = ask(self, "char_of", _line(number))
        if at is None:
            raise IndexError(f"there is no line {number}")
        return int(at)

    def chunks(self, size: int = PIECE_CHARS, overlap: int = 0) -> LazySequence:
        """Returns chunks of `size` characters, each beginning with the last `overlap` of the previous one.

        A sequence: a loop reads one chunk after the other, `[i]` only this one.
        """
        if not 0 <= overlap < size <= MAX_READ_CHARS:
            raise ValueError(
                f"a chunk must have from 1 to {MAX_READ_CHARS:,} characters, and more than the overlap"
            )
        step = size - overlap

        def count() -> int:
            return max(self.length - overlap + step - 1, step) // step if self.length else 0

        def chunk(at: int) -> str:
            return self._read(at * step, at * step + size)

        return LazySequence(count, chunk, lambda: self._iterate_chunks(size, step))

    def _iterate_chunks(self, size: int, step: int) -> Iterator[str]:
        start = 0
        while True:
            # One extra character tells whether there is another chunk.
            piece = ask(self, "read", start, start + size + 1)
            if piece:
                yield piece[:size]
            if len(piece) <= size:
                return
            start += step

    # ---- Regular expressions ----

    def search(
        self, pattern: Any, start: int | None = None, end: int | None = None, *, flags: int = 0
    ) -> TextMatch | None:
        """Returns the first match of a regular expression; None if there is none.

        `^` and `$` match at every line. A match over several lines is found if it is not longer than
        65,536 characters.
        """
        matches = self._find_matches(pattern, flags, *self._bounds(start, end), 1)
        return matches[0] if matches else None

    def finditer(
        self,
        pattern: Any,
        start: int | None = None,
        end: int | None = None,
        *,
        limit: int | None = None,
        flags: int = 0,
    ) -> Iterator[TextMatch]:
        """Returns an iterator over all matches, or over the first `limit` of them."""
        return OneWay("finditer", self._iterate_matches(pattern, start, end, limit, flags))

    def _iterate_matches(
        self, pattern: Any, start: int | None, end: int | None, limit: int | None, flags: int
    ) -> Iterator[TextMatch]:
        first, stop = self._bounds(start, end)
        while limit is None or limit > 0:
            page = PAGE_HITS if limit is None else min(limit, PAGE_HITS)
            matches = self._find_matches(pattern, flags, first, stop, page)
            yield from matches
            if not matches.more:
                return
            limit = None if limit is None else limit - len(matches)
            last = matches[-1]
            first = last.end() + (last.end() == last.start())

    def findall(self, pattern: Any, *, limit: int = 1000, flags: int = 0) -> SearchResult:
        """Returns the texts of at most `limit` matches, or of their groups, as `re.findall` does."""
        matches = list(self.finditer(pattern, limit=limit + 1, flags=flags))
        items = [findall_item(match) for match in matches[:limit]]
        result = SearchResult(items, more=len(matches) > limit)
        return noted(result, "findall", limit, "matches", ", or use text.count(s)")

    def grep(
        self,
        pattern: Any,
        before: int = 0,
        after: int = 0,
        limit: int = 100,
        ignore_case: bool = False,
        *,
        start: int = 0,
        flags: int = 0,
    ) -> SearchResult:
        """Returns the lines in which a regular expression matches, with `before` and `after` lines of context."""
        text, bits = pattern_of(pattern, flags, ignore_case)
        payload = ask(self, "grep", text, bits, start, before, after, limit)
        result = search_result(payload, GrepHit)
        return noted(result, "grep", limit, "hits", ", or use text.count(s)")

    def _find_matches(
        self, pattern: Any, flags: int, start: int, stop: int | None, limit: int
    ) -> SearchResult:
        text, bits = pattern_of(pattern, flags, False)
        return search_result(ask(self, "search", text, bits, start, stop, limit), TextMatch)

    def _bounds(self, start: Any, stop: Any) -> tuple[int, int | None]:
        start = 0 if start is None else start.__index__()
        stop = None if stop is None else stop.__index__()
        if start < 0 or (stop is not None and stop < 0):
            length = self.length
            start = max(0, start + length) if start < 0 else start
            stop = max(0, stop + length) if stop is not None and stop < 0 else stop
        return start, stop

    def _read(self, start: int, stop: int | None) -> str:
        if stop is not None and stop <= start:
            return ""
        most = start + MAX_READ_CHARS + 1
        text = ask(self, "read", start, most if stop is None else min(stop, most))
        if len(text) > MAX_READ_CHARS:
            raise ValueError(
                f"this is more than {MAX_READ_CHARS:,} characters of {self!r}, which cannot be read at "
                "once. Take a smaller text[a:b]; loop with `for line in text` or text.chunks(size); or "
                "search on the host with text.search(pattern), text.grep(pattern), text.find(s)"
            )
        return str(text)


def _line(number: int) -> int:
    if number < 1:
        raise ValueError(f"lines count from 1: there is no line {number}")
    return number


def bind_len(namespace: dict[str, Any]) -> None:
    """Binds a `len` that accepts very long texts, if there are any texts and the name is free."""
    if HostConnection.used:
        namespace.setdefault("len", long_len)


def long_len(value: Any, /) -> int:
    """Returns `len(value)`, also for a lazy text beyond 2**31 characters, the limit of `len` on 32-bit platforms."""
    return value.length if isinstance(value, LazyText) else len(value)


long_len.__name__ = long_len.__qualname__ = "len"
