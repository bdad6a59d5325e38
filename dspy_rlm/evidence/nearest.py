"""Finds the passage of the inputs that a wrong quote was probably meant to be.

Pieces of the quote are searched for verbatim; only what is around their hits is compared. Case, whitespace and
typography in the middle of a word defeat some pieces, seldom all of them.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher
from itertools import combinations

from dspy_rlm.evidence.texts import InputText
from sandbox_runtime import LazyText, TextChangedError
from sandbox_runtime.helpers import Deadline, UnreadableTextError, in_one_line

# Characters that may be searched for the nearest passages of one submission.
MAX_PROBED_CHARS = 2_000_000_000

# The part of a quote that is compared: `difflib` takes time up to the product of both lengths.
COMPARED_CHARS = 500

# A passage that is less alike says nothing.
LEAST_RATIO = 0.5

# The longest passage in a message: all of it if only whitespace or the like differs, so that code can copy it.
SHOWN_PASSAGE_CHARS = 400

# Passages that are compared for one submission.
MAX_COMPARED = 100

# Pieces of one quote that are searched for, and hits of each that are compared.
_MOST_PIECES = 16
_MOST_HITS = 3

# Characters before and after a hit, for words that the quote lacks.
_SLACK_CHARS = 60

# Texts in memory up to this size are searched without regard to case as well.
_FOLDED_CHARS = 4_000_000

_MAX_WORD_CHARS = 30
_WORD_START, _WORD_END = re.compile(r"\w+"), re.compile(r"\w+\Z")

_TYPOGRAPHY = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2010": "-",
        "\u2011": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u00a0": " ",
        "\u00ad": "",
    }
)

_NORMALIZED: dict[str, Callable[[str], str]] = {
    "quotation marks or dashes": lambda text: text.translate(_TYPOGRAPHY),
    "whitespace": lambda text: " ".join(text.split()),
    "upper and lower case": str.casefold,
}


@dataclasses.dataclass(frozen=True)
class Passage:
    """A passage that is like a quote."""

    one: InputText
    start: int
    text: str
    ratio: float


class Nearest:
    """Searches for the nearest passages of the quotes of one submission."""

    def __init__(self, most_chars: int = MAX_PROBED_CHARS) -> None:
        """Begins with the whole allowance."""
        self._left = most_chars
        self._left_to_compare = MAX_COMPARED

    def describe(self, quote: str, texts: Iterable[InputText]) -> str:
        """Returns a sentence on the nearest passage, and on what differs."""
        try:
            passage = self._passage(quote, texts)
        except (OSError, UnreadableTextError, TextChangedError):
            passage = None
        if passage is None:
            return "Nothing similar was found. Take the text of a quote from the input by code"
        where = f"in {passage.one.label}, line {passage.one.line_of(passage.start)}"
        shown = in_one_line(repr(passage.text), SHOWN_PASSAGE_CHARS)
        words = in_one_line(repr(_whole_words(passage)), SHOWN_PASSAGE_CHARS)
        if reason := difference(quote, passage.text):
            return f"It differs only in {reason} from a passage {where}: {shown}"
        return f"The nearest passage is {where}: {words}"

    def _passage(self, quote: str, texts: Iterable[InputText]) -> Passage | None:
        quote = quote.strip()[:COMPARED_CHARS]
        best: Passage | None = None
        for ignore_case in (False, True):
            for offset, piece in pieces(quote):
                for one, at in self._hits(piece, texts, ignore_case=ignore_case):
                    self._left_to_compare -= 1
                    if self._left_to_compare < 0:
                        return best
                    passage = _compared(quote, one, at - offset)
                    if best is None or passage.ratio > best.ratio:
                        best = passage
                if best is not None and best.ratio > 0.9:
                    return best
            if best is not None and best.ratio >= LEAST_RATIO:
                return best
        return None

    def _hits(
        self, piece: str, texts: Iterable[InputText], *, ignore_case: bool
    ) -> Iterator[tuple[InputText, int]]:
        found = 0
        for one in texts:
            if ignore_case and (one.is_lazy or one.most_chars > _FOLDED_CHARS):
                continue
            at = -1
            while found < _MOST_HITS:
                self._left -= one.most_chars + 1
                if self._left < 0:
                    return
                at = _find(one, piece, at + 1, ignore_case=ignore_case)
                if at < 0:
                    break
                found += 1
                yield one, at
            if found >= _MOST_HITS:
                return


def _find(one: InputText, piece: str, start: int, *, ignore_case: bool) -> int:
    if isinstance(one.text, LazyText):
        return one.text.find(piece, start, None, Deadline())
    if not ignore_case:
        return one.text.find(piece, start)
    match = re.compile(re.escape(piece), re.IGNORECASE).search(one.text, start)
    return match.start() if match else -1


def pieces(quote: str) -> list[tuple[int, str]]:
    """Returns pieces of a quote with their offsets: runs of words, then single long words."""
    words = [(match.start(), match.end()) for match in re.finditer(r"\S+", quote)]
    found: dict[str, int] = {}
    for size in (5, 3):
        if len(words) > size:
            step = max(1, (len(words) - size) // 4)
            for at in range(0, len(words) - size + 1, step):
                start, end = words[at][0], words[at + size - 1][1]
                found.setdefault(quote[start:end], start)
    longest = sorted(words, key=lambda word: word[0] - word[1])
    for start, end in longest[:6]:
        if end - start >= 3 or len(words) < 3:
            found.setdefault(quote[start:end], start)
    by_size = [(offset, piece) for piece, offset in found.items()]
    return by_size[: _MOST_PIECES - 6] + by_size[max(_MOST_PIECES - 6, len(by_size) - 6) :]


def _compared(quote: str, one: InputText, start: int) -> Passage:
    """Returns the passage around a hit, cut to what the quote has of it."""
    first = max(0, start - _SLACK_CHARS)
    window = one.slice(first, max(0, start) + len(quote) + 2 * _SLACK_CHARS)
    matcher = SequenceMatcher(None, quote.casefold(), window.casefold(), autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size >= 3]
    if not blocks or len(window.casefold()) != len(window):
        text = window[start - first : start - first + len(quote)]
        return Passage(one, max(start, 0), text, SequenceMatcher(None, quote, text).ratio())
    # What precedes the first block in the quote takes as many characters in the passage, and so at the end.
    begin = max(0, blocks[0].b - blocks[0].a)
    last = blocks[-1]
    end = min(len(window), last.b + last.size + len(quote) - last.a - last.size)
    text = window[begin:end]
    ratio = SequenceMatcher(None, quote.casefold(), text.casefold(), autojunk=False).ratio()
    return Passage(one, first + begin, text, ratio)


def _whole_words(passage: Passage) -> str:
    """Returns the passage with the rest of the words at its ends."""
    start = passage.start
    before = _WORD_END.search(passage.one.slice(max(0, start - _MAX_WORD_CHARS), start))
    end = start + len(passage.text)
    after = _WORD_START.match(passage.one.slice(end, end + _MAX_WORD_CHARS))
    head = before[0] if before and _WORD_START.match(passage.text) else ""
    tail = after[0] if after and _WORD_END.search(passage.text[-1:]) else ""
    return f"{head}{passage.text}{tail}"


def difference(quote: str, passage: str) -> str:
    """Returns what alone differs between two texts, in words; "" if more differs."""
    one, other = unicodedata.normalize("NFC", quote), unicodedata.normalize("NFC", passage)
    if one == other:
        return "the form of its Unicode characters"
    for count in range(1, len(_NORMALIZED) + 1):
        for reasons in combinations(_NORMALIZED, count):
            texts = [one, other]
            for reason in reasons:
                texts = list(map(_NORMALIZED[reason], texts))
            if texts[0] == texts[1]:
                return " and ".join(reasons)
    return ""
