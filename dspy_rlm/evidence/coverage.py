"""Coverage: the parts of the inputs that LMs were shown, printed for the root LM or sent to a sub-LM.

The text of every output that the root LM saw, and of every sub-call that was answered, is looked up in the inputs. An
input inside the sandbox is indexed once, so this is an estimate: text that code has changed, as by `lower()`, is not
found. Of an input that stays on the host, what cells have read is indexed instead, at its true position.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from dspy_rlm.events import Event, RunStarted, StepTaken
from dspy_rlm.evidence.blocks import MAX_BLOCKS, BlockIndex
from dspy_rlm.evidence.lineage import MAX_REPLY_CHARS, AnsweredCall, merged
from dspy_rlm.evidence.ranges import Ranges
from dspy_rlm.evidence.sent import SENDING, SUB_RUNS, Sent, sent, texts_in
from dspy_rlm.evidence.texts import InputText, InputTexts
from dspy_rlm.evidence.watched import watched
from dspy_rlm.protocols.middleware import HostFunction
from dspy_rlm.reports.provenance import InputCoverage, Range, SubCall
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import DEFAULT_RULES, PREVIEW_CHARS
from sandbox_runtime import Directory, LazyText, TextChangedError, TextStream
from sandbox_runtime.helpers import UnreadableTextError, in_one_line

# The smallest block of the index: half the shortest passage that is always found.
_LEAST_WIDTH = 16

# Ranges that a report lists for one input, and that a refusal lists.
MAX_RANGES = 2_000
SHOWN_RANGES = 5
_SHOWN_CHARS = 300

# Sub-calls that are kept for the lineage.
MAX_CALLS = 10_000

# The escapes in the `repr` of a text.
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\'": "'", '\\"': '"', "\\\\": "\\"}
_ESCAPE = re.compile(r"\\[ntr'\"\\]")


def budget_with(
    coverage: Coverage, left: Callable[[], dict[str, Any]]
) -> Callable[[], dict[str, Any]]:
    """Returns a function for `BUDGET()` whose result has the coverage too."""
    return lambda: {**left(), "coverage": coverage.shares()}


# Of a text that no LM was shown.
NOTHING = Ranges()


class _Text:
    """The facts of one text. Small: an input may have a million."""

    __slots__ = ("is_partial", "is_whole", "one", "read", "seen")

    def __init__(self, one: InputText) -> None:
        self.one = one
        self.seen = NOTHING
        self.read = NOTHING
        self.is_whole = False
        """True if all of it was shown at once."""
        self.is_partial = False
        """True if a part of it was found in what an LM was shown, besides the preview in the prompt."""

    def note_read(self, start: int, end: int) -> None:
        """Notes a passage that code has read."""
        if self.read is NOTHING:
            self.read = Ranges()
        self.read.add(start, end)

    def note(self, start: int, end: int, *, is_preview: bool) -> None:
        """Notes a passage that was shown."""
        if self.seen is NOTHING:
            self.seen = Ranges()
        self.seen.add(start, end)
        if not self.one.is_lazy:
            rest = start + len(self.one.text) - end  # type: ignore[arg-type]
            is_whole = rest < _LEAST_WIDTH and not _outside(self.one, start, end)
            self.is_whole |= is_whole
            self.is_partial |= not (is_whole or is_preview)


class Coverage:
    """The coverage of the inputs of one run. Thread-safe."""

    def __init__(self, inputs: Mapping[str, Any], rules: TypeRules = DEFAULT_RULES) -> None:
        """Indexes the texts that are in memory."""
        self._inputs = inputs
        self._lock = threading.Lock()  # guards everything below
        self._texts: list[_Text] = []
        self._keys: dict[tuple[str, str], int] = {}
        self._cell = 1  # the number of the turn
        self._reply_chars_left = MAX_REPLY_CHARS
        self.calls: list[AnsweredCall] = []
        """The sub-calls of the run that were answered, for the lineage."""
        listed = InputTexts(inputs, rules)
        in_memory = [
            one
            for name, value in inputs.items()
            if not isinstance(value, (LazyText, Directory))
            for one in listed.of(name)
        ]
        self._width = _width_for(sum(one.most_chars for one in in_memory))
        self._index = BlockIndex(self._width)
        on_host = [value for value in inputs.values() if isinstance(value, LazyText)]
        self._reads = BlockIndex(_width_for(sum(text.source.size for text in on_host)))
        for one in in_memory:
            if isinstance(one.text, str):
                self._index.add(len(self._texts), 0, one.text, one.slice)
                self._texts.append(_Text(one))
            else:
                self._key(one)
        for name, value in inputs.items():
            if isinstance(value, LazyText):  # its beginning is in the prompt
                head = InputText(name, "", value)
                self._reads.add(self._key(head), 0, _beginning(head), head.slice)

    def _key(self, one: InputText) -> int:
        place = one.input, one.path
        if place not in self._keys:
            self._keys[place] = len(self._texts)
            self._texts.append(_Text(one))
        return self._keys[place]

    # ---- What code reads, and what LMs are shown ----

    def watched(self) -> dict[str, Any]:
        """Returns the inputs, with those that stay on the host reporting what cells read of them."""
        return {
            name: watched(value, "", self._on_read(name)) for name, value in self._inputs.items()
        }

    def _on_read(self, name: str) -> Callable[[str, LazyText, int, str], None]:
        is_folder = isinstance(self._inputs[name], Directory)

        def read(place: str, text: LazyText, start: int, piece: str) -> None:
            with self._lock:
                key = self._key(InputText(name, place, text, is_file=is_folder))
                self._texts[key].note_read(start, start + len(piece))
                self._reads.add(key, start, piece, self._texts[key].one.slice)

        return read

    def show(self, text: str, *, is_preview: bool = False) -> list[Range]:
        """Notes a text that an LM was shown; returns the ranges of the inputs in it."""
        return self._find(text, is_shown=True, is_preview=is_preview)

    def find(self, text: str) -> list[Range]:
        """Returns the ranges of the inputs that are in a text."""
        return self._find(text)

    def _find(self, text: str, *, is_shown: bool = False, is_preview: bool = False) -> list[Range]:
        forms = [text]
        if "\\" in text:
            forms.append(_ESCAPE.sub(lambda match: _ESCAPES[match[0]], text))
        found: list[Range] = []
        with self._lock, contextlib.suppress(OSError, UnreadableTextError, TextChangedError):
            for form in forms:
                for index in (self._index, self._reads):
                    for key, start, end in index.matches(form):
                        known = self._texts[key]
                        found.append(_range(known, start, end))
                        if is_shown:
                            known.note(start, end, is_preview=is_preview)
        return found

    def sink(self, event: Event) -> None:
        """Notes what the events of the run say that its root LM was shown."""
        if isinstance(event, StepTaken):
            self._cell = event.number + 1
        self.sink_below(event)

    def sink_below(self, event: Event) -> None:
        """Does the same for a sub-run."""
        match event:
            case RunStarted(variables=variables):
                for variable in variables:
                    self.show(variable.preview, is_preview=True)
            case StepTaken(step=step):
                self.show(step.output)

    def wrapper(self, name: str, function: HostFunction) -> HostFunction:
        """Returns a function of the REPL that notes what it has sent to a sub-LM, and the reply."""
        return self._wrapped(name, function, self._note_call)

    def wrapper_below(self, name: str, function: HostFunction) -> HostFunction:
        """Does the same for a sub-run, whose replies are its own."""
        return self._wrapped(name, function, lambda _name, _one, _ranges: None)

    def _wrapped(
        self, name: str, function: HostFunction, note: Callable[[str, Sent, list[Range]], None]
    ) -> HostFunction:
        if name not in SENDING | SUB_RUNS:
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            look_up = self.show if name in SENDING else self.find
            for one in sent(name, args, kwargs, result):
                note(name, one, [part for text in one.texts for part in look_up(text)])
            return result

        return call

    def _note_call(self, name: str, one: Sent, ranges: list[Range]) -> None:
        replies = tuple(texts_in(one.reply))
        size = sum(map(len, replies))
        with self._lock:
            if size > self._reply_chars_left or len(self.calls) >= MAX_CALLS:
                replies, size = (), 0
            self._reply_chars_left -= size
            if len(self.calls) < MAX_CALLS:
                call = SubCall(self._cell, name, one.row)
                self.calls.append(AnsweredCall(call, tuple(merged(ranges)), replies))

    # ---- The report ----

    def report(self) -> dict[str, InputCoverage]:
        """Returns the coverage of each input that has text."""
        with self._lock:
            covered = {name: self._of_input(name) for name in self._inputs}
        return {name: one for name, one in covered.items() if one is not None}

    def shares(self) -> dict[str, float]:
        """Returns the fraction of each input that was shown."""
        return {name: round(one.fraction, 3) for name, one in self.report().items()}

    def unread(self, required: float | Mapping[str, float]) -> list[str]:
        """Returns a sentence for each input of which less was shown than is required."""
        missing = []
        for name, one in self.report().items():
            least = required.get(name, 0.0) if isinstance(required, Mapping) else required
            if one.fraction >= least:
                continue
            shown = ", ".join(map(str, one.unseen[:SHOWN_RANGES]))
            more = len(one.unseen) - SHOWN_RANGES
            others = f" and {more:,} more" if more > 0 else ""
            how = "" if one.exact else " (an estimate)"
            missing.append(
                f"{name}: {one.fraction:.0%}{how} was printed or sent to a sub-LM, and {least:.0%} is required. Not "
                f"yet: {in_one_line(shown, _SHOWN_CHARS)}{others}"
            )
        return missing

    def _of_input(self, name: str) -> InputCoverage | None:
        try:
            return self._of(name)
        except (OSError, UnreadableTextError, TextChangedError):  # gone since it became an input
            return None

    def _of(self, name: str) -> InputCoverage | None:
        value = self._inputs[name]
        if isinstance(value, Directory):
            return self._of_folder(name, value)
        known = [text for text in self._texts if text.one.input == name]
        if isinstance(value, LazyText) and not known:
            known = [_Text(InputText(name, "", value))]
        if not known:
            return None
        is_host = all(text.one.is_lazy for text in known)
        return _coverage(
            [self._measured(text) for text in known],
            read=sum(text.read.total for text in known) if is_host else None,
            exact=is_host or _is_exact(known),
        )

    def _of_folder(self, name: str, folder: Directory) -> InputCoverage:
        """Returns the coverage of a directory; of a file that no cell has read, bytes count as characters."""
        measured, read = [], 0
        for path, size in folder.sizes().items():
            key = self._keys.get((name, path))
            if key is not None:
                measured.append(self._measured(self._texts[key]))
                read += self._texts[key].read.total
                continue
            try:
                if size and not folder.not_text(path):
                    measured.append(
                        (_Text(InputText(name, path, "", is_file=True)), size, Ranges())
                    )
            except OSError:  # gone: it cannot be read any more
                continue
        return _coverage(measured, read=read, exact=True)

    def _measured(self, text: _Text) -> tuple[_Text, int, Ranges]:
        """Returns the text with its length, and the ranges that were shown of it."""
        length, seen, one = _length(text.one), text.seen, text.one
        if not seen.total:
            is_blank = isinstance(one.text, str) and one.text[:1].isspace() and one.text.isspace()
            return text, 0 if is_blank else length, seen
        # Passages below twice the width may have been missed, and blank ones are.
        filled = Ranges()
        for start, end in text.seen:
            filled.add(start, end)
        for start, end in list(text.seen.gaps(length)):
            if isinstance(one.text, LazyText):
                is_missed = end - start < 2 * _LEAST_WIDTH and text.read.covers(start, end)
            else:
                is_blank = one.text[start].isspace() and one.slice(start, end).isspace()
                is_missed = is_blank or end - start < 2 * self._width
            if is_missed:
                filled.add(start, end)
        return text, length, filled


def _is_exact(texts: Collection[_Text]) -> bool:
    """Returns whether the texts were shown as a whole, as the rows of a batch are, and not in parts."""
    is_any = any(text.is_whole for text in texts)
    return is_any and all(text.is_whole or not text.is_partial for text in texts)


def _outside(one: InputText, start: int, end: int) -> str:
    """Returns the text around a passage, without whitespace at its ends."""
    return (one.slice(0, start) + one.slice(end, one.most_chars)).strip()


def _coverage(
    measured: Collection[tuple[_Text, int, Ranges]], *, read: int | None, exact: bool
) -> InputCoverage:
    chars = sum(length for _, length, _ in measured)
    ranges = (_range(text, *span) for text, _, seen in measured for span in seen)
    unseen = (_range(text, *span) for text, length, seen in measured for span in seen.gaps(length))
    return InputCoverage(
        chars=chars,
        seen=sum(min(seen.total, length) for _, length, seen in measured),
        ranges=tuple(one for one, _ in zip(ranges, range(MAX_RANGES), strict=False)),
        unseen=tuple(one for one, _ in zip(unseen, range(MAX_RANGES), strict=False)),
        read=None if read is None else min(read / chars, 1.0) if chars else 1.0,
        exact=exact,
    )


def _range(text: _Text, start: int, end: int) -> Range:
    return Range(text.one.input, text.one.path, start, end)


def _length(one: InputText) -> int:
    """Returns the characters of a text; of a stream, those that were read, because the rest may be endless."""
    if isinstance(one.text, TextStream) and not one.text.source.complete:
        return one.text.index.counted[1]
    try:
        return one.length()
    except (OSError, UnreadableTextError, TextChangedError):
        return one.most_chars


def _beginning(one: InputText) -> str:
    try:
        return one.slice(0, PREVIEW_CHARS)
    except (OSError, UnreadableTextError, TextChangedError):
        return ""


def _width_for(chars: int) -> int:
    """Returns the size of a block with which the index of so many characters stays within its bound."""
    width = _LEAST_WIDTH
    while chars // width > MAX_BLOCKS // 2:
        width *= 2
    return width
