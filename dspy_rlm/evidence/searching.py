"""Finds quotes and spans in the texts of the inputs, with a bound on the characters that are searched.

All searches are for literal text, in linear time. The quotes of one submission share one allowance, so that neither a
long list of quotes nor one that is nowhere can occupy the host for long.
"""

from __future__ import annotations

import dataclasses
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator

from dspy_rlm.evidence.nearest import MAX_PROBED_CHARS, Nearest
from dspy_rlm.evidence.texts import InputText, InputTexts
from sandbox_runtime import LazyText, TextChangedError
from sandbox_runtime.helpers import Deadline, UnreadableTextError, in_one_line

# Characters that the quotes of one submission may search. Python finds a text at some GB/s in memory, and at some
# hundred MB/s in a file.
MAX_SEARCHED_CHARS = 20_000_000_000

# Characters that may be searched only to count the other occurrences of a quote.
MAX_COUNTED_CHARS = 2_000_000_000

# The work for one text, and for one quote, besides the characters: a million of either takes some seconds.
_COST_OF_TEXT = 200
_COST_OF_QUOTE = 20_000

# Characters of all spans of one submission: each has its text, and many may have all of an input.
MAX_SPAN_CHARS = 50_000_000

# Lines of one text that are found by counting. For more, the starts of its lines are listed.
_COUNTED_LINES = 10

# The longest part of a quote in a message.
SHOWN_CHARS = 200

_MAX_NAMES = 20


class NotInInputsError(ValueError):
    """A quote or a span is not in the inputs; the message tells the LM what to do."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in a text of the inputs. Lines and columns count from 1."""

    input: str
    path: str
    text: str
    start: int
    end: int
    line: int
    column: int
    last_line: int
    occurrences: int | None = None


class Searching:
    """Searches the inputs of a run for one submission."""

    def __init__(
        self,
        texts: InputTexts,
        most_chars: int = MAX_SEARCHED_CHARS,
        most_counted: int = MAX_COUNTED_CHARS,
    ) -> None:
        """Begins with the whole allowance."""
        self._texts = texts
        self._left = most_chars
        self._left_to_count = most_counted
        self._left_of_spans = MAX_SPAN_CHARS
        self._nearest = Nearest(MAX_PROBED_CHARS)
        self._known: dict[tuple[str, str], Place] = {}
        self._lines = Lines()

    def quote(self, text: str, label: str = "") -> Place:
        """Returns the first place of a text in the inputs: in the one of this name, or in all.

        Raises:
            NotInInputsError: It is not verbatim in them.
        """
        if not text.strip():
            raise NotInInputsError("a quote needs a text")
        if (known := self._known.get((text, label))) is not None:
            return known
        self._left -= _COST_OF_QUOTE
        named = self._texts.labelled(label) if label else None
        try:
            place = self._first(text, self._texts.within(*named) if named else self._texts)
            if place is not None:
                self._known[text, label] = place
                return place
            elsewhere = self._first(text, self._texts, count=False) if named else None
        except (OSError, UnreadableTextError, TextChangedError) as error:
            raise NotInInputsError(f"an input can no longer be read: {error}") from error
        shown = in_one_line(repr(text), SHOWN_CHARS)
        if elsewhere is not None:
            raise NotInInputsError(
                f"{shown} is not in {in_one_line(label, SHOWN_CHARS)}; it is in "
                f"{elsewhere.input}{f', {elsewhere.path}' if elsewhere.path else ''}, line {elsewhere.line}"
            )
        hint = self._nearest.describe(text, self._texts)
        raise NotInInputsError(f"{shown} is not verbatim in the inputs. {hint}")

    def span(self, label: str, start: int, end: int, *, lines: bool) -> Place:
        """Returns the place between two positions of a text.

        Raises:
            NotInInputsError: There is no such text, or the positions are out of its bounds.
        """
        one = self._labelled(label)
        try:
            if lines:
                start, end = self._chars_of_lines(one, start, end)
            length = one.length() if end > 0 else 0
            if not 0 <= start < end <= length:
                length = one.length()
                raise NotInInputsError(
                    f"{start}:{end} is not a range of {one.label}, which has {length:,} characters; "
                    "write 0 <= start < end <= length"
                )
            self._left_of_spans -= end - start
            if self._left_of_spans < 0:
                raise NotInInputsError(
                    f"the spans have more than {MAX_SPAN_CHARS:,} characters together; submit shorter ones"
                )
            return self._place(one, start, one.slice(start, end))
        except (OSError, UnreadableTextError, TextChangedError) as error:
            raise NotInInputsError(f"{one.label} can no longer be read: {error}") from error

    def _chars_of_lines(self, one: InputText, first: int, last: int) -> tuple[int, int]:
        """Returns the characters of lines, without the end of the last one."""
        count = self._lines.count(one)
        if not 1 <= first <= last <= count:
            raise NotInInputsError(
                f"lines {first} to {last} are not lines of {one.label}, which has {count:,}"
            )
        start = self._lines.start(one, first)
        end = self._lines.start(one, last + 1) - 1 if last < count else one.length()
        if end <= start:
            raise NotInInputsError(f"lines {first} to {last} of {one.label} are empty")
        return start, end

    def _labelled(self, label: str) -> InputText:
        """Returns the only text that a label names."""
        named = self._texts.labelled(label)
        if named is None:
            names = ", ".join(list(self._texts.inputs)[:_MAX_NAMES])
            raise NotInInputsError(
                f"{in_one_line(repr(label), SHOWN_CHARS)} is not the name of an input; the inputs are {names}"
            )
        found: list[InputText] = []
        for one in self._texts.within(*named):
            found.append(one)
            if len(found) > 1:
                break
        if len(found) == 1:
            return found[0]
        shown = in_one_line(label, SHOWN_CHARS)
        if not found:
            raise NotInInputsError(f"{shown} is no text of the inputs")
        raise NotInInputsError(
            f"{shown} has several texts; name one of them as the input, such as {found[1].label}"
        )

    def _first(self, text: str, texts: Iterable[InputText], *, count: bool = True) -> Place | None:
        remaining = iter(texts)
        for one in remaining:
            start = self._find(one, text)
            if start < 0:
                continue
            place = self._place(one, start, text)
            return self._counted(place, one, remaining) if count else place
        return None

    def _find(self, one: InputText, text: str) -> int:
        if self._left < 0:
            raise NotInInputsError(
                "the quotes of this submission need too long a search; submit fewer of them, each with the "
                "name of its input"
            )
        start = -1
        if len(text) <= one.most_chars:
            if isinstance(one.text, LazyText):
                start = one.text.find(text, 0, None, Deadline())
            else:
                start = one.text.find(text)
        self._left -= _COST_OF_TEXT + (one.most_chars if start < 0 else start + len(text))
        return start

    def _counted(self, place: Place, one: InputText, others: Iterator[InputText]) -> Place:
        """Returns the place with the number of its occurrences, as far as there is an allowance for counting."""
        total = self._count(one, place.text, place.start)
        for other in others:
            if total is None:
                break
            more = self._count(other, place.text, 0)
            total = None if more is None else total + more
        return dataclasses.replace(place, occurrences=total)

    def _count(self, one: InputText, text: str, start: int) -> int | None:
        self._left_to_count -= one.most_chars + _COST_OF_TEXT
        if self._left_to_count < 0:
            return None
        if isinstance(one.text, LazyText):
            return one.text.count(text, start, None, Deadline())
        return one.text.count(text, start)

    def _place(self, one: InputText, start: int, text: str) -> Place:
        """Returns the place of a text that begins at this character."""
        line, begin = self._lines.at(one, start)
        last = line + text.count("\n", 0, len(text) - 1)
        end = start + len(text)
        return Place(one.input, one.path, text, start, end, line, start - begin + 1, last)


class Lines:
    """The lines of texts, from 1. Those of a text in memory are listed if many are asked for."""

    def __init__(self) -> None:
        self._asked: Counter[tuple[str, str]] = Counter()
        self._starts: dict[tuple[str, str], array[int]] = {}

    def at(self, one: InputText, char: int) -> tuple[int, int]:
        """Returns the line of a character, and the first character of that line."""
        if isinstance(one.text, LazyText):
            line = one.line_of(char)
            return line, one.text.index.char_of_line(line, Deadline()) or 0
        self._asked[one.input, one.path] += 1
        if self._asked[one.input, one.path] <= _COUNTED_LINES:
            return one.line_of(char), one.text.rfind("\n", 0, char) + 1
        starts = self._listed(one)
        line = bisect_right(starts, char)
        return line, starts[line - 1]

    def start(self, one: InputText, line: int) -> int:
        """Returns the first character of a line, which exists."""
        if isinstance(one.text, LazyText):
            return one.text.index.char_of_line(line, Deadline()) or 0
        return self._listed(one)[line - 1]

    def count(self, one: InputText) -> int:
        """Returns the number of lines."""
        if isinstance(one.text, LazyText):
            return one.text.index.count_all(Deadline())[1] + 1
        return len(self._listed(one))

    def _listed(self, one: InputText) -> array[int]:
        """Returns the first character of each line."""
        place = one.input, one.path
        if place not in self._starts and isinstance(one.text, str):
            starts, at = array("Q", [0]), one.text.find("\n")
            while at >= 0:
                starts.append(at + 1)
                at = one.text.find("\n", at + 1)
            self._starts[place] = starts
        return self._starts[place]
