"""Searches blocks of text for a regular expression: the program of the search process, which may be killed.

Uses only the standard library, and imports nothing of ours: `search.py` starts it as a file. Reads frames from stdin and
answers each on stdout, until stdin ends. A pattern is hostile: it may use all the time and memory that it can get, so
this process has little of either.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import struct
import sys
import time
from collections.abc import Iterator
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, BinaryIO

HEADER = struct.Struct("<II")  # bytes of the JSON, bytes of the block

MEMORY_BYTES = 768 * 1024 * 1024

# The longest match that is always found, and the longest line that is searched in one piece.
MATCH_CHARS = 64 * 1024
LINE_CHARS = 1024 * 1024

# Text kept before the searched position, for look-behind and word boundaries.
CONTEXT_CHARS = 1024

# Characters returned of a group, of all groups of a match, and of its line; a cell can read the rest by slicing.
SHOWN_CHARS = 10_000
SHOWN_MATCH_CHARS = 1_000_000
SHOWN_LINE_CHARS = 1000

# The cost of a group's span, in characters: two numbers, as JSON and as Python objects.
SPAN_COST = 64


class Scan:
    """One search through one text, block by block."""

    def __init__(self, plan: dict[str, Any]) -> None:
        """Compiles the pattern. Raises the errors of `re`."""
        self._pattern = re.compile(plan["pattern"], plan["flags"] | re.MULTILINE)
        self._lines = plan["lines"]
        self._limit = plan["limit"]
        self._remaining_chars = plan["chars"]  # by `cost_of`; the last match may exceed it
        self._first = plan["first"]  # matches begin here or later
        self._last = plan["last"]  # matches end here or before; None for the end of the text
        self._literal = _literal(plan["pattern"], plan["flags"])
        tree = parser.parse(plan["pattern"], plan["flags"])
        self._in_line = _stays_in_line(tree, dotall=bool(tree.state.flags & re.DOTALL))
        self._window = ""
        self._window_char = plan["char"]  # the number of the window's first character
        self._window_line = plan["line"]
        self._from = 0  # in the window: the text before it has been searched
        self._counted = (0, 0)  # a position in the window, and the line ends before it
        self.hits: list[dict[str, Any]] = []
        self.done = False

    def feed(self, data: bytes, *, final: bool) -> None:
        """Continues the search in the next block."""
        if self._cannot_match(data, final=final):
            return
        self._window += data.decode("utf-8", "replace")
        if self._lines:
            self._search_lines(final=final)
        else:
            self._search(final=final)

    def _cannot_match(self, data: bytes, *, final: bool) -> bool:
        """Skips a block of whole lines that lacks the text that every match contains."""
        if not self._lines or self._literal is None or len(self._window) > self._from:
            return False
        if self._literal in data or not (final or data.endswith(b"\n")):
            return False
        self._window_line += self._window.count("\n") + data.count(b"\n")
        self._window_char += len(self._window)
        self._window_char += len(data) if data.isascii() else len(data.decode("utf-8", "replace"))
        self._window, self._from, self._counted = "", 0, (0, 0)
        return True

    def _bounds(self) -> tuple[int, int]:
        """Returns the part of the window where matches may begin, and where they must end."""
        first = max(self._from, self._first - self._window_char)
        if self._last is None:
            return first, len(self._window)
        return first, max(0, min(len(self._window), self._last - self._window_char))

    def _search(self, *, final: bool) -> None:
        """Finds matches regardless of lines. A match longer than `MATCH_CHARS` may be truncated."""
        window = self._window
        safe = len(window) + 1 if final else len(window) - MATCH_CHARS
        start, end = self._bounds()
        if safe > start and self._may_match(start):
            for match in self._pattern.finditer(window, start, end):
                if match.start() >= safe:
                    break
                start = match.end() + (match.end() == match.start())
                self._note(match)
                if self.done:
                    return
        start = max(start, safe)
        self.done = self._last is not None and self._window_char + start > self._last
        self._trim(min(start, len(window)))

    def _search_lines(self, *, final: bool) -> None:
        """Finds the first match of each line. A very long line is searched in pieces and may have several."""
        window, at = self._window, self._from
        first, last = self._bounds()
        while at < len(window) and not self.done:
            at = self._next_candidate(at)
            end = window.find("\n", at)
            length = (end if end >= 0 else len(window)) - at
            if length >= LINE_CHARS:
                match = self._pattern.search(window, max(at, first), min(at + LINE_CHARS, last))
                if match is None:
                    at += LINE_CHARS - MATCH_CHARS
                else:
                    self._note(match)
                    at = max(match.end(), at + 1)
                continue
            if end < 0 and not final:
                break
            stop = at + length
            if length and window[stop - 1] == "\r":
                stop -= 1
            match = self._pattern.search(window, max(at, first), min(stop, last))
            if match is not None:
                self._note(match)
            at += length + 1
        self._trim(min(at, len(window)))

    def _may_match(self, start: int) -> bool:
        return self._literal is None or self._window.find(self._literal.decode(), start) >= 0

    def _next_candidate(self, at: int) -> int:
        """Returns the beginning of the next line that may match; of the last line if none can."""
        if self._literal is not None:
            place = self._window.find(self._literal.decode(), at)
        elif self._in_line:
            # No match crosses a line end, so one search covers all lines at the speed of C.
            match = self._pattern.search(self._window, at)
            place = -1 if match is None else match.start()
        else:
            return at
        stop = len(self._window) if place < 0 else place
        return max(at, self._window.rfind("\n", at, stop) + 1)

    def _trim(self, searched: int) -> None:
        """Drops the searched text, except the context."""
        cut = max(0, searched - CONTEXT_CHARS)
        self._window_line += self._window.count("\n", 0, cut)
        self._window_char += cut
        self._window = self._window[cut:]
        self._from = searched - cut
        self._counted = (0, 0)

    def _note(self, match: re.Match[str]) -> None:
        window, at = self._window, match.start()
        spans = [
            [begin + self._window_char, end + self._window_char] if begin >= 0 else None
            for begin, end in match.regs
        ]
        before = window.rfind("\n", 0, at) + 1
        after = window.find("\n", at, at + 2 * SHOWN_LINE_CHARS)
        line = window[before : after if after >= 0 else at + 2 * SHOWN_LINE_CHARS]
        hit = {
            "spans": spans,
            "groups": _group_texts(match),
            "names": dict(match.re.groupindex),
            "line": self._line_of(at),
            "text": _around(line.removesuffix("\r"), at - before),
        }
        self.hits.append(hit)
        self._limit -= 1
        self._remaining_chars -= cost_of(hit)
        self.done = self._limit <= 0 or self._remaining_chars < 0

    def _line_of(self, at: int) -> int:
        """Returns the line number of a position, which must not be before that of the previous call."""
        place, ends = self._counted
        self._counted = at, ends + self._window.count("\n", place, at)
        return int(self._window_line + self._counted[1])

    def take(self) -> list[dict[str, Any]]:
        """Returns the matches since the last call."""
        hits, self.hits = self.hits, []
        return hits


def cost_of(hit: dict[str, Any]) -> int:
    """Returns the cost of a match, in characters."""
    texts = sum(len(group) for group in hit["groups"] if group is not None)
    places = SPAN_COST * (len(hit["spans"]) + len(hit["names"])) + sum(map(len, hit["names"]))
    return len(hit["text"]) + texts + places


def _group_texts(match: re.Match[str]) -> list[str | None]:
    """Returns the texts of the groups, the whole match first; long ones are truncated."""
    texts: list[str | None] = []
    remaining = SHOWN_MATCH_CHARS
    for begin, end in match.regs:
        most = min(SHOWN_CHARS, remaining)
        if begin < 0:
            texts.append(None)
        elif end - begin <= most:
            texts.append(match.string[begin:end])
        else:
            texts.append(match.string[begin : begin + most] + "[...]")
        remaining -= min(most, max(0, end - begin))
    return texts


def _around(line: str, column: int) -> str:
    if len(line) <= SHOWN_LINE_CHARS:
        return line
    start = max(0, min(column - SHOWN_LINE_CHARS // 4, len(line) - SHOWN_LINE_CHARS))
    stop = start + SHOWN_LINE_CHARS
    return ("[...]" if start else "") + line[start:stop] + ("[...]" if stop < len(line) else "")


def _literal(pattern: str, flags: int) -> bytes | None:
    """Returns the longest text that every match contains; None if a simple look at the pattern shows none."""
    if flags & (re.IGNORECASE | re.VERBOSE) or "(?" in pattern:
        return None
    runs, run = [], ""
    for kind, value in parser.parse(pattern, flags):
        if kind is constants.LITERAL:
            run += chr(value)
            continue
        runs.append(run)
        run = ""
    longest = max([*runs, run], key=len)
    # U+FFFD may be any invalid bytes; no line contains a line end.
    if not longest or "\ufffd" in longest or "\n" in longest or "\r" in longest:
        return None
    try:
        return longest.encode()
    except UnicodeEncodeError:
        return None


def _stays_in_line(tree: Any, *, dotall: bool) -> bool:
    """Returns whether no match can contain a line end or depend on the text after one.

    False for constructs that it does not know.
    """

    def stays(parts: Any) -> bool:
        return all(one(kind, value) for kind, value in parts)

    def one(kind: Any, value: Any) -> bool:
        if kind is constants.LITERAL:
            return bool(value != ord("\n"))
        if kind is constants.ANY:
            return not dotall
        if kind is constants.IN:
            return all(_has_no_line_end(*item) for item in value)
        if kind is constants.BRANCH:
            return all(map(stays, value[1]))
        if kind is constants.SUBPATTERN:
            return not value[1] & re.DOTALL and stays(value[3])
        if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT):
            return stays(value[2])
        if kind is constants.AT:
            return value in (constants.AT_BEGINNING, constants.AT_BOUNDARY)
        return False

    return stays(tree)


def _has_no_line_end(kind: Any, value: Any) -> bool:
    if kind is constants.LITERAL:
        return bool(value != ord("\n"))
    if kind is constants.RANGE:
        return not value[0] <= ord("\n") <= value[1]
    return kind is constants.CATEGORY and value in (
        constants.CATEGORY_DIGIT,
        constants.CATEGORY_WORD,
    )


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        sys.exit(0)  # the host has ended
    return data


@contextlib.contextmanager
def _ending_with_host() -> Iterator[None]:
    """Ends this process at once if stdin ends meanwhile: its writer, the host, has been killed.

    The system does that by SIGIO, so it happens also while `re` holds the interpreter. Other systems than Linux may not send it for
    a pipe; the watchdog remains.
    """
    try:
        import fcntl
        import select
        import signal

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGIO,))
        flags = fcntl.fcntl(0, fcntl.F_GETFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC)  # type: ignore[attr-defined, unused-ignore]
        ended = select.poll()
        ended.register(0, 0)  # the end of a pipe is reported in any case
    except (ImportError, AttributeError, OSError, ValueError):
        yield
        return
    if ended.poll(0):  # before the signal was asked for
        sys.exit(0)
    try:
        yield
    finally:
        fcntl.fcntl(0, fcntl.F_SETFL, flags)


def main() -> None:
    """Serves until stdin ends."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    nowhere = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for the watchdog, open until the process ends
    scan: Scan | None = None
    while True:
        head, size = HEADER.unpack(_read(incoming, HEADER.size))
        order = json.loads(_read(incoming, head))
        data = _read(incoming, size)
        # A watchdog: ends this process even if a pattern hangs, and nothing says that the host has been killed.
        faulthandler.dump_traceback_later(order["seconds"], exit=True, file=nowhere)
        answer: dict[str, Any] = {}
        started = time.process_time()
        try:
            with _ending_with_host():
                if "plan" in order:
                    scan = Scan(order["plan"])
                if scan is not None:
                    scan.feed(data, final=order["final"])
                    answer = {"hits": scan.take(), "done": scan.done}
        except (re.error, ValueError, OverflowError) as error:
            answer = {"wrong": str(error)}
        except (RecursionError, MemoryError) as error:
            answer = {
                "wrong": f"it exceeds the memory or nesting of a search ({type(error).__name__})"
            }
        faulthandler.cancel_dump_traceback_later()
        answer["cpu_seconds"] = time.process_time() - started
        text = json.dumps(answer, ensure_ascii=False).encode()
        outgoing.write(HEADER.pack(len(text), 0) + text)
        outgoing.flush()


if __name__ == "__main__":
    main()
