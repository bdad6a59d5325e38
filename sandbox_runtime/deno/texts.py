"""Texts and directories that stay on the host, as cells have them: they read ranges and matches.

Runs inside the sandbox, so it uses the standard library only. `sandbox_runtime/text_calls.py` is the
other side; nothing is kept here but what a cell has asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from sandbox_runtime.deno.handles import Handle

# No Python identifier, so that no tool of a user can have this name.
TEXT_CALL = "text.call"

# What one read gives at most, what iteration fetches at a time, and a page of `finditer`.
MAX_READ_CHARS = 10_000_000
PIECE_CHARS = 200_000
PAGE_HITS = 100

MAX_TREE_LINES = 500


class _Way:
    """The way to the host; the driver gives it anew before each cell."""

    ask: Callable[..., Any] | None = None
    used = False
    """True once there was a text."""


def connect(ask: Callable[..., Any]) -> None:
    """Gives the function that asks the host."""
    _Way.ask = ask


def _ask(value: Handle, operation: str, *arguments: Any) -> Any:
    if _Way.ask is None:
        raise RuntimeError("there is no host to ask")
    return _Way.ask(value, operation, *arguments)


class LazyText(Handle):
    """A text that stays on the host, however large. Positions are characters, lines count from 1.

    text[a:b], text[-100:], len(text) (or text.length, also where it is beyond 2**31)
    for line in text: ...             lines without their ends, in bounded memory
    text.lines(10, 20), text.line(10) lines 10 to 20 as a list, line 10
    text.chunks(size, overlap=0)      pieces as str, one after the other
    text.find(s), rfind, index, count, s in text, startswith, endswith
    text.search(pattern)              first match of a regular expression, like one of re, and with
                                      line_number and line; ^ and $ match at every line
    text.finditer(pattern), text.findall(pattern, limit=1000)
    text.grep(pattern, before=0, after=0, limit=100, ignore_case=False)
                                      lines that match, each with path, line_number, position, line
    text.line_number(position), text.line_start(line_number)

    All of these search on the host. What they give is plain str and int. `re` itself does not take it:
    write text.search(pattern), or re.search(pattern, text[a:b]).
    """

    __slots__ = ()

    def __init__(self, number: int, type_name: str, preview: str) -> None:
        super().__init__(number, type_name, preview)
        _Way.used = True

    def __repr__(self) -> str:
        return f"<{self._type_name} {self._preview}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what Python itself asks of any object
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} has no {name!r}: it is a text that stays on the host. It has text[a:b], lines, "
            "line, chunks, find, count, search, finditer, findall and grep, and `for line in text`; "
            "what these give is plain str. See help(text)."
        )

    # ---- As a str ----

    @property
    def length(self) -> int:
        """How many characters there are. The first time, the host reads all of the text."""
        return int(_ask(self, "length"))

    def __len__(self) -> int:
        return self.length

    def __bool__(self) -> bool:
        return bool(_ask(self, "read", 0, 1))

    def __str__(self) -> str:
        return self._read(0, None)

    def __getitem__(self, key: Any) -> str:
        if not isinstance(key, slice):
            at = key.__index__()
            at = at + self.length if at < 0 else at
            char = _ask(self, "read", at, at + 1) if at >= 0 else ""
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
        """Characters from a position."""
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

    def __contains__(self, sought: object) -> bool:
        if not isinstance(sought, str):
            raise TypeError(
                f"'in <text>' requires string as left operand, not {type(sought).__name__}"
            )
        return self.find(sought) >= 0

    def find(self, sought: str, start: int | None = None, end: int | None = None) -> int:
        """Where a text is first found; -1 if nowhere."""
        return int(_ask(self, "find", sought, *self._bounds(start, end)))

    def rfind(self, sought: str, start: int | None = None, end: int | None = None) -> int:
        """Where a text is last found; -1 if nowhere."""
        return int(_ask(self, "rfind", sought, *self._bounds(start, end)))

    def index(self, sought: str, start: int | None = None, end: int | None = None) -> int:
        """Where a text is first found. Raises ValueError if nowhere."""
        if (at := self.find(sought, start, end)) < 0:
            raise ValueError("substring not found")
        return at

    def count(self, sought: str, start: int | None = None, end: int | None = None) -> int:
        """How often a text is found, without overlaps."""
        return int(_ask(self, "count", sought, *self._bounds(start, end)))

    def startswith(self, prefix: str | tuple[str, ...]) -> bool:
        """Whether it begins so."""
        prefixes = prefix if isinstance(prefix, tuple) else (prefix,)
        return any(_ask(self, "read", 0, len(text)) == text for text in prefixes)

    def endswith(self, suffix: str | tuple[str, ...]) -> bool:
        """Whether it ends so."""
        suffixes = suffix if isinstance(suffix, tuple) else (suffix,)
        return any(self[-len(text) :] == text if text else True for text in suffixes)

    def splitlines(self) -> list[str]:
        """All lines, if it is not too large."""
        return self.lines()

    # ---- Lines and chunks ----

    def line(self, number: int) -> str:
        """One line, by its number from 1."""
        found = _ask(self, "lines", _line(number), number)
        if not found:
            raise IndexError(f"there is no line {number}")
        return str(found).removesuffix("\n").removesuffix("\r")

    def lines(self, first: int = 1, last: int | None = None) -> list[str]:
        """The lines from one number to another, both counted from 1 and both included."""
        if last is not None and last < _line(first):
            return []
        found = _ask(self, "lines", _line(first), last)
        if not found:
            return []
        return [line.removesuffix("\r") for line in found.removesuffix("\n").split("\n")]

    def line_number(self, position: int) -> int:
        """The number, from 1, of the line that a character is in."""
        return int(_ask(self, "line_of", position))

    def line_start(self, number: int) -> int:
        """The position where a line begins."""
        at = _ask(self, "char_of", _line(number))
        if at is None:
            raise IndexError(f"there is no line {number}")
        return int(at)

    def chunks(self, size: int = PIECE_CHARS, overlap: int = 0) -> Iterator[str]:
        """Pieces of so many characters, each beginning with the last `overlap` of the one before."""
        if not 0 <= overlap < size <= MAX_READ_CHARS:
            raise ValueError(
                f"a chunk must have from 1 to {MAX_READ_CHARS:,} characters, and more than the overlap"
            )
        start = 0
        while True:
            # One more than is given tells whether another has anything new.
            piece = _ask(self, "read", start, start + size + 1)
            if piece:
                yield piece[:size]
            if len(piece) <= size:
                return
            start += size - overlap

    # ---- Regular expressions ----

    def search(
        self, pattern: Any, start: int | None = None, end: int | None = None, *, flags: int = 0
    ) -> TextMatch | None:
        """The first match of a regular expression; None if there is none.

        `^` and `$` match at every line. A match over several lines is found if it is not longer than
        65,536 characters.
        """
        found = self._find_matches(pattern, flags, *self._bounds(start, end), 1)
        return found[0] if found else None

    def finditer(
        self,
        pattern: Any,
        start: int | None = None,
        end: int | None = None,
        *,
        limit: int | None = None,
        flags: int = 0,
    ) -> Iterator[TextMatch]:
        """All matches, one after the other, or so many as `limit` says."""
        first, stop = self._bounds(start, end)
        while limit is None or limit > 0:
            wanted = PAGE_HITS if limit is None else min(limit, PAGE_HITS)
            found = self._find_matches(pattern, flags, first, stop, wanted)
            yield from found
            if not found.more:
                return
            limit = None if limit is None else limit - len(found)
            last = found[-1]
            first = last.end() + (last.end() == last.start())

    def findall(self, pattern: Any, *, limit: int = 1000, flags: int = 0) -> Found:
        """The texts of the matches, or of their groups, as `re.findall` has them; `limit` at most."""
        matches = list(self.finditer(pattern, limit=limit + 1, flags=flags))
        shown = [match._for_findall() for match in matches[:limit]]
        return Found(shown, more=len(matches) > limit)

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
    ) -> Found:
        """The lines in which a regular expression matches, with so many lines of context."""
        text, bits = _pattern(pattern, flags, ignore_case)
        told = _ask(self, "grep", text, bits, start, before, after, limit)
        return _found(told, GrepHit)

    def _find_matches(
        self, pattern: Any, flags: int, start: int, stop: int | None, limit: int
    ) -> Found:
        text, bits = _pattern(pattern, flags, False)
        return _found(_ask(self, "search", text, bits, start, stop, limit), TextMatch)

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
        found = _ask(self, "read", start, most if stop is None else min(stop, most))
        if len(found) > MAX_READ_CHARS:
            raise ValueError(
                f"this is more than {MAX_READ_CHARS:,} characters of {self!r}, which are not read at "
                "once. Take a smaller text[a:b]; loop with `for line in text` or text.chunks(size); or "
                "search on the host with text.search(pattern), text.grep(pattern), text.find(s)"
            )
        return str(found)


class LazyDirectory(Handle):
    """Texts of a directory that stay on the host, by their paths.

    len(d), for path in d, path in d, d["src/a.py"]  a lazy text: see help(d[path])
    d.paths("src/**/*.py"), d.sizes(glob), d.tree()
    d.grep(pattern, glob=None, before=0, after=0, limit=100, ignore_case=False)
                          lines that match, each with path, line_number, position, line
    d.search(pattern, glob=None)                     the first of them, or None

    Searching passes over binary files.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self._type_name} {self._preview}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} has no {name!r}. It has len(d), `for path in d`, d[path], paths, sizes, tree, "
            "grep and search. See help(d)."
        )

    def __len__(self) -> int:
        return len(self.paths())

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths())

    def __contains__(self, path: object) -> bool:
        return path in self.sizes()

    def __getitem__(self, path: Any) -> LazyText:
        text: LazyText = _ask(self, "file", str(path))
        return text

    def keys(self) -> list[str]:
        """The paths."""
        return self.paths()

    def items(self) -> Iterator[tuple[str, LazyText]]:
        """Paths and lazy texts."""
        return ((path, self[path]) for path in self.paths())

    def values(self) -> Iterator[LazyText]:
        """Lazy texts."""
        return (self[path] for path in self.paths())

    def paths(self, glob: str | None = None) -> list[str]:
        """The paths, sorted; those that fit `src/**/*.py`, or `*.py` in any folder."""
        return list(self.sizes(glob))

    def sizes(self, glob: str | None = None) -> dict[str, int]:
        """Bytes by path."""
        return {path: size for path, size in _ask(self, "sizes", glob)}  # noqa: C416 - lists become pairs

    def tree(self, glob: str | None = None) -> str:
        """Folders and files with their sizes, to look at."""
        shown: list[str] = []
        open_folders: list[str] = []
        sizes = self.sizes(glob)
        for done, (path, size) in enumerate(sizes.items()):
            if len(shown) >= MAX_TREE_LINES:
                shown.append(f"[{len(sizes) - done:,} more files]")
                break
            *folders, name = path.split("/")
            common = 0
            while common < min(len(folders), len(open_folders)) and (
                folders[common] == open_folders[common]
            ):
                common += 1
            shown += ["  " * at + folders[at] + "/" for at in range(common, len(folders))]
            open_folders = folders
            shown.append(f"{'  ' * len(folders)}{name} ({size:,} bytes)")
        return "\n".join(shown)

    def grep(
        self,
        pattern: Any,
        glob: str | None = None,
        before: int = 0,
        after: int = 0,
        limit: int = 100,
        ignore_case: bool = False,
        *,
        flags: int = 0,
    ) -> Found:
        """The lines in which a regular expression matches, with so many lines of context."""
        text, bits = _pattern(pattern, flags, ignore_case)
        return _found(_ask(self, "grep", text, bits, glob, before, after, limit), GrepHit)

    def search(self, pattern: Any, glob: str | None = None, *, flags: int = 0) -> GrepHit | None:
        """The first line in which a regular expression matches."""
        found = self.grep(pattern, glob, limit=1, flags=flags)
        return found[0] if found else None


class Found(list[Any]):
    """What a search found. `more` is true when it stopped at its limit."""

    more = False

    def __init__(self, items: list[Any], *, more: bool = False) -> None:
        super().__init__(items)
        self.more = more

    def __repr__(self) -> str:
        shown = super().__repr__()
        if self and isinstance(self[0], GrepHit):
            shown = "\n".join(map(str, self))
        if not self.more:
            return shown
        return f"{shown}\n[the first {len(self):,}; there may be more: raise limit, or go on after these]"


class TextMatch:
    """A match, as `re` has them, with `line_number` (from 1) and `line`."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._spans, self._groups, self._names = told["spans"], told["groups"], told["names"]
        self.line_number: int = told["line"]
        self.line: str = told["text"]

    def _number(self, group: int | str) -> int:
        number = self._names.get(group) if isinstance(group, str) else group
        if number is None or not 0 <= number < len(self._spans):
            raise IndexError("no such group")
        return int(number)

    def group(self, *groups: int | str) -> Any:
        """The text of a group, or of the match; long ones are cut and end with [...]."""
        found = tuple(self._groups[self._number(group)] for group in groups or (0,))
        return found[0] if len(found) == 1 else found

    def __getitem__(self, group: int | str) -> Any:
        return self.group(group)

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        """The texts of all groups."""
        return tuple(default if group is None else group for group in self._groups[1:])

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        """The texts of the groups that have names."""
        texts = {name: self._groups[number] for name, number in self._names.items()}
        return {name: default if text is None else text for name, text in texts.items()}

    def span(self, group: int | str = 0) -> tuple[int, int]:
        """Where a group begins and ends, in characters of the text."""
        span = self._spans[self._number(group)]
        return (-1, -1) if span is None else (span[0], span[1])

    def start(self, group: int | str = 0) -> int:
        """Where a group begins."""
        return self.span(group)[0]

    def end(self, group: int | str = 0) -> int:
        """Where a group ends."""
        return self.span(group)[1]

    def _for_findall(self) -> Any:
        groups = self.groups("")
        return groups if len(groups) > 1 else groups[0] if groups else self._groups[0]

    def __repr__(self) -> str:
        return f"<match span={self.span()}, line {self.line_number}, match={self._groups[0]!r:.80}>"


class GrepHit:
    """A line that matches: `path`, `line_number` (from 1), `position` of the match, `line`, `match`,
    and the lines `before` and `after` it. Lines beyond 1,000 characters are cut.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.path: str = told["path"]
        self.line_number: int = told["line"]
        self.position: int = told["spans"][0][0]
        self.line: str = told["text"]
        self.match: str = told["groups"][0]
        self.before, self.after = told.get("around", ((), ()))

    def __str__(self) -> str:
        first = self.line_number - len(self.before)
        numbered = [f"{self.path}-{first + at}- {line}" for at, line in enumerate(self.before)]
        numbered.append(f"{self.path}:{self.line_number}: {self.line}")
        after = enumerate(self.after, self.line_number + 1)
        return "\n".join([*numbered, *(f"{self.path}-{at}- {line}" for at, line in after)])

    def __repr__(self) -> str:
        return f"{self.path}:{self.line_number}: {self.line}"


def _found(told: dict[str, Any], kind: type[TextMatch] | type[GrepHit]) -> Found:
    """What the host found. Raises TimeoutError if it could not come to an end."""
    found = Found([kind(hit) for hit in told["hits"]], more=told["more"])
    if told["stopped"]:
        error = TimeoutError(
            f"{told['stopped']}. Found until then: {len(found)}, which are in the `found` of this "
            "error. Search a part, or for something simpler."
        )
        error.found = found  # type: ignore[attr-defined]
        raise error
    return found


def _pattern(pattern: Any, flags: int, ignore_case: bool) -> tuple[str, int]:
    if isinstance(pattern, re.Pattern):
        pattern, flags = pattern.pattern, pattern.flags | flags
    return pattern, int(flags) | (int(re.IGNORECASE) if ignore_case else 0)


def _line(number: int) -> int:
    if number < 1:
        raise ValueError(f"lines count from 1: there is no line {number}")
    return number


def bind_len(namespace: dict[str, Any]) -> None:
    """Gives cells a `len` for very long texts, if there are any texts and the name is free."""
    if _Way.used:
        namespace.setdefault("len", long_len)


def long_len(value: Any, /) -> int:
    """`len`, also for a lazy text of more characters than 2**31, which is all that Python can tell here."""
    return value.length if isinstance(value, LazyText) else len(value)


long_len.__name__ = long_len.__qualname__ = "len"
