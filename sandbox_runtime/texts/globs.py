"""Glob and `.gitignore` patterns, matched in bounded time.

Patterns and names may be hostile, and regular expressions backtrack. Here a pattern is a nondeterministic automaton
whose states are the bits of one integer, advanced together by each character (bit-parallel simulation). A text of
n characters and a pattern of m cost n steps on integers of m bits, whatever they are. Knows no files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

# Longer than any handwritten pattern; a name has at most 255 bytes.
MAX_PATTERN_CHARS = 1000

# Character masks cached per pattern: names use fewer characters.
_CACHED_MASKS = 64

_SPECIAL = frozenset("*?[\\")

# Git's character classes, for ASCII.
_LOWER, _UPPER, _DIGIT = ("az",), ("AZ",), ("09",)
_PUNCTUATION = ("!/", ":@", "[`", "{~")
_CLASSES: dict[str, tuple[str, ...]] = {
    "alnum": (*_LOWER, *_UPPER, *_DIGIT),
    "alpha": (*_LOWER, *_UPPER),
    "blank": ("  ", "\t\t"),
    "cntrl": ("\0\x1f", "\x7f\x7f"),
    "digit": _DIGIT,
    "graph": ("!~",),
    "lower": _LOWER,
    "print": (" ~",),
    "punct": _PUNCTUATION,
    "space": ("  ", "\t\n", "\r\r"),
    "upper": _UPPER,
    "xdigit": (*_DIGIT, "af", "AF"),
}


class _Set(NamedTuple):
    """A pattern position that matches one of several characters, never a slash."""

    ranges: tuple[str, ...]
    """First and last character of each range."""
    negated: bool

    def has(self, char: str) -> bool:
        inside = any(both[0] <= char <= both[1] for both in self.ranges)
        return inside is not self.negated and char != "/"


_ANY = _Set((), negated=True)


class Glob:
    """A pattern with the semantics of Git's `wildmatch`: `*` and `?` within a name, `**` for any folders.

    A malformed pattern (an unterminated bracket or backslash) matches nothing.
    """

    def __init__(self, pattern: str) -> None:
        """Parses the pattern. Raises `ValueError` if it is longer than `MAX_PATTERN_CHARS`."""
        if len(pattern) > MAX_PATTERN_CHARS:
            raise ValueError(
                f"the pattern {pattern[:50]!r}... has {len(pattern):,} characters; at most "
                f"{MAX_PATTERN_CHARS:,} are allowed"
            )
        plain = next((at for at, char in enumerate(pattern) if char in _SPECIAL), len(pattern))
        # Git first compares the literal prefix, and reads `**` after it as if at the beginning.
        self.prefix = pattern[:plain]
        self.is_literal = plain == len(pattern)
        self._tokens: list[str | _Set] = []
        self._stars = self._any = self._skips = 0
        self._masks: dict[str, int] = {}
        self._fits_nothing = not self._read(pattern[plain:])
        self._end = 1 << len(self._tokens)

    @property
    def suffix(self) -> str | None:
        """Returns the literal suffix of a pattern such as `*.py`; None for other patterns."""
        simple = not self.prefix and self._stars == 1 and not self._any and not self._fits_nothing
        literal = [token for token in self._tokens if isinstance(token, str)]
        return "".join(literal) if simple and len(literal) == len(self._tokens) else None

    def fits(self, text: str) -> bool:
        """Returns whether the whole text matches."""
        if not text.startswith(self.prefix) or self._fits_nothing:
            return False
        states = 1 | (self._skips & 1) << 1
        stars, wide = self._stars, self._any
        for char in text[len(self.prefix) :]:
            mask = self._masks.get(char)
            if mask is None:
                mask = self._mask(char)
            unmoved = wide if char == "/" else stars | wide
            moved = (states & mask) << 1
            # `**/` may match the empty string.
            states = moved | (moved & self._skips) << 1 | states & unmoved
            if not states:
                return False
        return bool(states & self._end)

    def _mask(self, char: str) -> int:
        """Returns the mask of positions that a character matches."""
        mask = 0
        for at, token in enumerate(self._tokens):
            if token == char if isinstance(token, str) else token.has(char):
                mask |= 1 << at
        if len(self._masks) >= _CACHED_MASKS:
            self._masks.clear()
        self._masks[char] = mask
        return mask

    def _read(self, pattern: str) -> bool:
        """Builds the automaton; returns False if the pattern matches nothing."""
        at = 0
        while at < len(pattern):
            char = pattern[at]
            if char == "*":
                at = self._read_stars(pattern, at)
            elif char == "[":
                parsed = _bracket(pattern, at)
                if parsed is None:
                    return False
                token, at = parsed
                self._tokens.append(token)
            elif char == "\\":
                if at + 1 == len(pattern):
                    return False
                self._tokens.append(pattern[at + 1])
                at += 2
            else:
                self._tokens.append(_ANY if char == "?" else char)
                at += 1
        return True

    def _read_stars(self, pattern: str, at: int) -> int:
        end = at
        while pattern.startswith("*", end):
            end += 1
        rest, state = pattern[end:], 1 << len(self._tokens)
        alone = (at == 0 or pattern[at - 1] == "/") and (not rest or rest.startswith(("/", "\\/")))
        if end - at == 1 or not alone:
            self._stars |= state
            return end
        self._any |= state
        if rest.startswith("/"):
            self._skips |= state
            self._tokens.append("/")
            end += 1
            while pattern.startswith("**", end):  # redundant repetition, with any number of stars
                after = end + 2
                while pattern.startswith("*", after):
                    after += 1
                if not pattern.startswith("/", after):
                    break
                end = after + 1
        return end


def _bracket(pattern: str, at: int) -> tuple[_Set, int] | None:
    """Parses the set at a bracket and returns it with its end; None if it is malformed, as in Git."""
    at += 1
    negated = pattern.startswith(("!", "^"), at)
    at += negated
    ranges: list[str] = []
    before = ""  # the possible start of a range
    first = True
    while first or not pattern.startswith("]", at):
        first = False
        if at >= len(pattern):
            return None
        char = pattern[at]
        if char == "\\":
            at += 1
            if at >= len(pattern):
                return None
            char = pattern[at]
            ranges.append(char * 2)
        elif char == "-" and before and pattern[at + 1 : at + 2] not in ("", "]"):
            at += 2 if pattern[at + 1] == "\\" else 1
            if at >= len(pattern):
                return None
            ranges.append(before + pattern[at])
            char = ""
        elif pattern.startswith("[:", at):
            end = pattern.find("]", at + 2)
            if end < 0:
                return None
            if end > at + 2 and pattern[end - 1] == ":":
                named = _CLASSES.get(pattern[at + 2 : end - 1])
                if named is None:
                    return None
                ranges += named
                at, char = end, ""
            else:
                ranges.append("[[")
        else:
            ranges.append(char * 2)
        before = char
        at += 1
    return _Set(tuple(ranges), negated), at + 1


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Returns a predicate for paths: `**` for any folders, `*` and `?` within a name.

    A pattern without a slash applies to the name alone, in any folder.

    Raises:
        ValueError: The pattern is too long.
    """
    glob = Glob(pattern.removeprefix("./"))
    if "/" in pattern.removeprefix("./"):
        return glob.fits
    return lambda path: glob.fits(path.rpartition("/")[2])


class _Rule(NamedTuple):
    """One rule of a `.gitignore`."""

    glob: Glob
    negative: bool
    only_folders: bool
    anchored: bool
    """True if it applies to the path relative to its file, rather than to a name in any folder."""


class IgnoreRules:
    """The rules of one `.gitignore`, with Git's semantics, byte by byte."""

    def __init__(self, data: bytes) -> None:
        """Parses the content. `skipped` counts lines that are too long."""
        self.skipped = 0
        rules: list[_Rule] = []
        for line in _lines(data):
            try:
                rules.append(_rule(line))
            except ValueError:
                self.skipped += 1
        self._negative = [rule.negative for rule in rules]
        # By rule number: the last match decides.
        self._names: dict[tuple[bool, str], int] = {}
        self._paths: dict[tuple[bool, str], int] = {}
        self._suffixes: dict[tuple[bool, str], int] = {}
        self._others: list[tuple[int, _Rule]] = []
        for number, rule in enumerate(rules):
            if rule.glob.is_literal:
                literals = self._paths if rule.anchored else self._names
                literals[rule.only_folders, rule.glob.prefix] = number
            elif rule.glob.suffix is not None and not rule.anchored:
                self._suffixes[rule.only_folders, rule.glob.suffix] = number
            else:
                self._others.append((number, rule))
        self._others.reverse()
        self._suffix_lengths = sorted({len(suffix) for _, suffix in self._suffixes})

    def __len__(self) -> int:
        return len(self._negative)

    def verdict(self, path: str, *, is_folder: bool, check: Callable[[], None]) -> bool | None:
        """Returns whether a path below the file is ignored; None if no rule matches.

        Args:
            path: As returned by `path_bytes`.
            is_folder: Whether it is a folder. The contents of an ignored folder are not checked.
            check: Called regularly; its exceptions end the search.
        """
        name = path[path.rfind("/") + 1 :]
        best = -1
        for only_folders in (False, True) if is_folder else (False,):
            best = max(
                best,
                self._names.get((only_folders, name), -1),
                self._paths.get((only_folders, path), -1),
            )
            if self._suffixes:
                for length in self._suffix_lengths:
                    if length > len(name):
                        break
                    ending = name[len(name) - length :]
                    best = max(best, self._suffixes.get((only_folders, ending), -1))
        for number, rule in self._others:
            if number < best:
                break
            if not number % 64:
                check()
            if (is_folder or not rule.only_folders) and rule.glob.fits(
                path if rule.anchored else name
            ):
                best = number
                break
        return None if best < 0 else not self._negative[best]


def path_bytes(path: str) -> str:
    """Returns a path with one character per byte, which is how Git compares."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


def _lines(data: bytes) -> Iterator[str]:
    for line in data.removeprefix(b"\xef\xbb\xbf").decode("latin-1").split("\n"):
        # Git's strings end at a zero byte.
        text = _without_trailing_spaces(line.removesuffix("\r").partition("\0")[0])
        if text and not text.startswith("#"):
            yield text


def _without_trailing_spaces(line: str) -> str:
    """Strips trailing spaces, except an escaped one."""
    stripped = line.rstrip(" ")
    if len(stripped) == len(line):
        return line
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return f"{stripped} " if backslashes % 2 else stripped


def _rule(line: str) -> _Rule:
    negative = line.startswith("!")
    pattern = line.removeprefix("!")
    only_folders = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    anchored = "/" in pattern
    return _Rule(Glob(pattern.removeprefix("/")), negative, only_folders, anchored)
