"""Finds words in a text that URLs, JSON, HTML or Python may have encoded, wholly or in part, and says where they stand.

The text is decoded as often as it can be nested, and each decoded copy knows the places of its characters in the text.
All work is linear in the length of the text, which may be hostile. Knows nothing of secrets.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator
from html.entities import html5

# The deepest nesting that is decoded: JSON in JSON in the `repr` of an exception. A character of a URL that is a
# parameter of another has two.
MAX_LAYERS = 3

# A text without these characters has nothing to decode.
_MARKS = re.compile(r"[%+&\\]")

_HEX = "[0-9A-Fa-f]"
_X = r"\\x"


def _bytes_after(sign: str) -> str:
    """Returns an expression for the bytes of one character, each after a sign and in hexadecimal."""
    longer = f"{sign}[C-Fc-f]{_HEX}(?:{sign}[89ABab]{_HEX}){{1,3}}"
    return f"{longer}|{sign}{_HEX}{{2}}"


# One encoded character, by the sign that begins it. The names of the groups say how it is read.
_FORMS = {
    "%": f"(?P<percent>{_bytes_after('%')})",
    "\\": (
        f"(?P<bytes>{_bytes_after(_X)})"
        r"|(?P<octal>\\3[0-7]{2}(?:\\2[0-7]{2}){1,3}|\\[0-3][0-7]{2})"
        rf"|(?P<pair>\\u[Dd][89ABab]{_HEX}{{2}}\\u[Dd][C-Fc-f]{_HEX}{{2}})"
        rf"|\\u(?P<unit>{_HEX}{{4}})|\\U(?P<code>{_HEX}{{8}})|\\u\{{(?P<braced>{_HEX}{{1,6}})\}}"
        r"|\\(?P<letter>[abfnrtv])|\\(?P<sign>[ -/:-@\[-`{-~])"
    ),
    "&": (
        rf"&\#0*(?P<decimal>[0-9]{{1,7}});?|&\#[Xx]0*(?P<hexadecimal>{_HEX}{{1,6}});?"
        r"|&(?P<entity>[A-Za-z][A-Za-z0-9]{1,31};)"
    ),
}
_OF_KINDS = {sign: re.compile(form) for sign, form in _FORMS.items()}
_ENCODED = re.compile("|".join(_FORMS.values()))

_LETTERS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


def _character(found: re.Match[str]) -> str:
    """Returns what an encoded character stands for, or itself if it stands for nothing."""
    kind, part = found.lastgroup, found[found.lastgroup or 0]
    match kind:
        case "percent":
            return _of_bytes(bytes.fromhex(part.replace("%", "")))
        case "bytes":
            return _of_bytes(bytes.fromhex(part.replace("\\x", "")))
        case "octal":
            return _of_bytes(bytes(int(number, 8) for number in part.split("\\")[1:]))
        case "pair":
            units = bytes.fromhex(part.replace("\\u", ""))
            return units.decode("utf-16-be")
        case "letter":
            return _LETTERS[part]
        case "sign":
            return part
        case "entity":
            return html5.get(part, found[0])
        case _:
            code = int(part, 10 if kind == "decimal" else 16)
            return chr(code) if code < 0x110000 else found[0]


def _of_bytes(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


class _Decoded:
    """A decoded copy of a text, with the places of its characters in the text."""

    def __init__(self, source: str, encoded: re.Pattern[str]) -> None:
        # Of each encoded character: where it begins and ends in the copy, and in the source.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._source_starts: list[int] = []
        self._source_ends: list[int] = []
        parts: list[str] = []
        read = length = 0
        for found in encoded.finditer(source):
            start, end = found.span()
            character = _character(found)
            parts += (source[read:start], character)
            length += start - read
            self._starts.append(length)
            length += len(character)
            self._ends.append(length)
            self._source_starts.append(start)
            self._source_ends.append(end)
            read = end
        self.text = "".join([*parts, source[read:]])

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Returns the place in the source of what is at this place in the copy."""
        return self._source_at(start)[0], self._source_at(end - 1)[1]

    def _source_at(self, at: int) -> tuple[int, int]:
        number = bisect.bisect_right(self._starts, at) - 1
        if number < 0:
            return at, at + 1
        if at < self._ends[number]:
            return self._source_starts[number], self._source_ends[number]
        place = at - self._ends[number] + self._source_ends[number]
        return place, place + 1


def decoded_word(word: str) -> str:
    """Returns a word as it is in a copy of a text that was decoded once more than the word was encoded."""
    return _ENCODED.sub(_character, word)


def without_words(text: str, words: Iterable[str], instead: str) -> str:
    """Returns the text with each of the words replaced, however it is encoded there.

    A text in which nothing can be encoded is returned as it is.
    """
    sought = {word.replace("+", " ") for word in words}
    if not sought or not _MARKS.search(text):
        return text
    found = _places(text, sought, _ENCODED)
    # A word with a mark of its own looks encoded where it is not, in the eyes of all decoders but one.
    special = {word for word in sought if _MARKS.search(word)}
    for sign, encoded in _OF_KINDS.items():
        if special and sign in text:
            found |= _places(text, special, encoded)
    parts: list[str] = []
    read = 0
    for start, end in _merged(sorted(found)):
        parts += (text[read:start], instead)
        read = end
    return "".join([*parts, text[read:]])


def _places(text: str, words: set[str], encoded: re.Pattern[str]) -> set[tuple[int, int]]:
    """Returns where words are in the text, or in what it says once such characters are decoded."""
    layers: list[_Decoded] = []
    found: set[tuple[int, int]] = set()
    copy = text
    while True:
        for start, end in _spans(copy, words):
            for layer in reversed(layers):
                start, end = layer.source_span(start, end)
            found.add((start, end))
        if len(layers) == MAX_LAYERS:
            return found
        layers.append(_Decoded(copy, encoded))
        if layers[-1].text == copy:
            return found
        copy = layers[-1].text


def _spans(text: str, words: set[str]) -> Iterator[tuple[int, int]]:
    # A plus sign is a blank in a form of a web page; the words have blanks only.
    text = text.replace("+", " ")
    for word in words:
        at = text.find(word)
        while at >= 0:
            yield at, at + len(word)
            at = text.find(word, at + len(word))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns sorted places, those that overlap as one."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
