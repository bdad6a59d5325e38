"""Inputs and outputs as a page shows them: coverage as ranges, quotes in their place, and the lineage of outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.export.contents import value_of
from dspy_rlm.journal.records import FieldRecord, RunRecord, ValueRecord
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.content.calls import as_json
from dspy_rlm.viewer.content.indexes import Index
from dspy_rlm.viewer.texts import Texts

# Characters of an input's preview, of the text around a quote, and of the longest text that is shown as a whole.
PREVIEW_CHARS = 2_000
AROUND_CHARS = 300
MAX_TEXT_CHARS = 2_000_000

# The most characters of the texts of all inputs of a run, and the largest value that is read for a page.
MAX_INPUT_CHARS = 4_000_000
MAX_VALUE_BYTES = 64 * 1024 * 1024

# Texts and quotes of one run.
MAX_TEXTS = 5_000
MAX_QUOTES = 2_000

_MAX_DEPTH = 20
_INDEXES = re.compile(r"(?:\[\d{1,9}\])*")


class Inputs:
    """The inputs of a run as plain values, and the texts in them by their places as code writes them. Read when needed."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._values: dict[str, Any] = {}
        self._texts: dict[str, dict[str, str]] = {}

    def value(self, name: str) -> Any:
        """Returns a text or JSON data; None if it is neither, or not in the journal."""
        if name not in self._values:
            record = self._run.inputs.get(name)
            is_read = record is not None and record.kind in ("text", "json")
            self._values[name] = (
                _plain(self._run, record)
                if record is not None and is_read and record.size <= MAX_VALUE_BYTES
                else None
            )
        return self._values[name]

    def texts(self, name: str) -> Mapping[str, str]:
        """Returns the texts of an input; none if it is not in the journal."""
        if name not in self._texts:
            self._texts[name] = dict(_texts_in(self.value(name), "", 0))
        return self._texts[name]


def _plain(run: RunRecord, value: ValueRecord) -> Any:
    try:
        return run.value(value)
    except (MissingValueError, ValueError):
        return None


def _texts_in(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for key, part in value.items():
            yield from _texts_in(part, f"{path}[{key!r}]", depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, (list, tuple)):
        for at, part in enumerate(value):
            yield from _texts_in(part, f"{path}[{at}]", depth + 1)


# ---- Inputs ----


def input_views(run: RunRecord, inputs: Inputs, texts: Texts) -> list[doc.Input]:
    """Returns the inputs of a run."""
    fields = {field.name: field for field in run.signature.inputs}
    covered = (run.ended or {}).get("coverage")
    coverage = covered if isinstance(covered, dict) else {}
    return [
        _input(name, value, fields.get(name), coverage.get(name), inputs, texts)
        for name, value in run.inputs.items()
    ]


def _input(
    name: str,
    value: ValueRecord,
    field: FieldRecord | None,
    coverage: Any,
    inputs: Inputs,
    texts: Texts,
) -> doc.Input:
    return {
        "name": texts.name(name),
        "annotation": texts.name(field.annotation if field else value.annotation),
        "description": texts.add(field.description if field else ""),
        "kind": value.kind,
        "size": value.size,
        "path": texts.add(value.path),
        "note": texts.add(value.note),
        "preview": texts.add(_preview(inputs.value(name))),
        "coverage": _coverage(coverage, inputs.texts(name), texts)
        if isinstance(coverage, dict)
        else None,
    }


def _preview(value: Any) -> str:
    if value is None:
        return ""
    whole = value if isinstance(value, str) else as_json(value)
    return whole if len(whole) <= PREVIEW_CHARS else f"{whole[:PREVIEW_CHARS]}…"


def _coverage(facts: Mapping[str, Any], known: Mapping[str, str], texts: Texts) -> doc.Coverage:
    seen = _by_path(facts.get("ranges"))
    unseen = _by_path(facts.get("unseen"))
    paths = {**dict.fromkeys(known), **dict.fromkeys(seen), **dict.fromkeys(unseen)}
    left = MAX_INPUT_CHARS
    views: list[doc.CoveredText] = []
    for path in list(paths)[:MAX_TEXTS]:
        text = known.get(path)
        if text is not None and (len(text) > MAX_TEXT_CHARS or len(text) > left):
            text = None
        left -= len(text or "")
        spans = seen.get(path, [])
        ends = [end for spans in (seen, unseen) for _, end in spans.get(path, [])]
        views.append(
            {
                "path": _path(path, len(views), texts),
                "chars": len(known[path]) if path in known else max(ends, default=0),
                "seen": [position for span in _in_units(spans, text) for position in span],
                "text": None if text is None else texts.add(text),
            }
        )
    read = facts.get("read")
    return {
        "chars": _count(facts.get("chars")),
        "seen": _count(facts.get("seen")),
        "fraction": _number(facts.get("fraction")),
        "read": float(read) if isinstance(read, (int, float)) else None,
        "exact": facts.get("exact") is True,
        "texts": views,
    }


def _path(path: str, number: int, texts: Texts) -> str:
    """Returns the place of a text in its input. Keys and names of files are data of the input."""
    if texts.redact and not _INDEXES.fullmatch(path):
        return f"#{number}"
    return texts.name(path)


def _by_path(ranges: Any) -> dict[str, list[tuple[int, int]]]:
    """Returns the ranges of a report by the text that they belong to."""
    found: dict[str, list[tuple[int, int]]] = {}
    for one in ranges if isinstance(ranges, list) else []:
        if isinstance(one, dict) and isinstance(one.get("path"), str):
            start, end = _count(one.get("start")), _count(one.get("end"))
            found.setdefault(one["path"], []).append((start, max(start, end)))
    return found


def _in_units(spans: Sequence[tuple[int, int]], text: str | None) -> list[tuple[int, int]]:
    """Returns positions in a text in UTF-16 code units, as a browser counts; without the text as they are."""
    if text is None or text.isascii() or max(text, default="") <= "\uffff":
        return list(spans)
    positions = sorted({position for span in spans for position in span})
    units, at, total = {}, 0, 0
    for position in positions:
        total += len(text[at:position].encode("utf-16-le", "surrogatepass")) // 2
        units[position], at = total, max(at, position)
    return [(units[start], units[end]) for start, end in spans]


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) else 0.0


# ---- Outputs ----


def output_views(index: Index, run: RunRecord, texts: Texts) -> list[doc.Output]:
    """Returns the outputs of a run: of one that failed, those that are there."""
    ended = run.ended or {}
    partial = ended.get("partial_outputs")
    others = partial if isinstance(partial, dict) else {}
    lineage = ended.get("lineage")
    origins = lineage if isinstance(lineage, dict) else {}
    absent = ended.get("missing")
    missing = absent if isinstance(absent, list) else []
    views: list[doc.Output] = []
    for field in run.signature.outputs:
        value = (run.outputs or {}).get(field.name)
        is_partial = value is None and field.name in others
        plain = others.get(field.name) if is_partial else value_of(run, value)
        has_value = is_partial or (value is not None and value.kind in ("text", "json"))
        whole = plain if isinstance(plain, str) else as_json(plain)
        views.append(
            {
                "name": texts.name(field.name),
                "annotation": texts.name(field.annotation),
                "kind": value.kind if value else "json" if is_partial else "not_stored",
                "size": value.size if value else len(whole) if is_partial else 0,
                "value": texts.add(whole) if has_value else "",
                "note": texts.add(value.note if value else ""),
                "missing": run.ended is not None
                and (field.name in missing or not (value or is_partial)),
                "lineage": _lineage(index, run, origins.get(field.name), texts),
            }
        )
    return views


def _lineage(index: Index, run: RunRecord, facts: Any, texts: Texts) -> doc.Lineage | None:
    if not isinstance(facts, dict):
        return None
    cells, calls, ranges = (facts.get(key) for key in ("cells", "sub_calls", "ranges"))
    rows = _rows(index, run)
    return {
        "steps": [number for number in cells if type(number) is int]
        if isinstance(cells, list)
        else [],
        "sub_calls": [
            _lineage_call(one, rows, texts)
            for one in (calls if isinstance(calls, list) else [])
            if isinstance(one, dict)
        ],
        "ranges": [
            {
                "input": texts.name(str(one.get("input", ""))),
                "path": _path(str(one.get("path", "")), 0, texts),
                "start": _count(one.get("start")),
                "end": _count(one.get("end")),
            }
            for one in (ranges if isinstance(ranges, list) else [])
            if isinstance(one, dict)
        ],
        "exact": facts.get("exact") is True,
    }


def _rows(index: Index, run: RunRecord) -> dict[tuple[int, str], list[list[int]]]:
    """Returns the sub-calls of each step and function: one list for each call of the function."""
    found: dict[tuple[int, str], dict[str, list[int]]] = {}
    for step in run.all_steps:
        for call in step.sub_calls:
            batch = found.setdefault((step.number, call.kind), {})
            batch.setdefault(call.parent_call or "", []).append(index.call_at[call.call_id])
    return {place: list(batch.values()) for place, batch in found.items()}


def _lineage_call(
    facts: Mapping[str, Any], rows: Mapping[tuple[int, str], list[list[int]]], texts: Texts
) -> doc.LineageCall:
    step, row, name = _count(facts.get("cell")), facts.get("row"), str(facts.get("function", ""))
    batches = rows.get((step, name), [])
    # Requests of a batch begin in any order, so its row does not say which call it is, unless there is one only.
    only = batches[0][0] if len(batches) == 1 and len(batches[0]) == 1 else None
    return {
        "step": step,
        "function": texts.name(name),
        "row": row if type(row) is int else None,
        "verbatim": facts.get("verbatim") is True,
        "call": only,
    }


# ---- Quotes ----


def quote_views(run: RunRecord, inputs: Inputs, texts: Texts) -> list[doc.Quote]:
    """Returns the quotes and spans in the outputs, each with the text around it."""
    found: list[doc.Quote] = []
    for name, value in (run.outputs or {}).items():
        if value.kind != "json":
            continue
        for quote in _quotes_in(_plain(run, value), 0):
            if len(found) >= MAX_QUOTES:
                return found
            found.append(_quote(name, quote, inputs, texts))
    return found


def _quotes_in(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        if {"input", "path", "start", "end", "text"} <= value.keys() and type(
            value["start"]
        ) is int:
            yield value
            return
        for part in value.values():
            yield from _quotes_in(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from _quotes_in(part, depth + 1)


def _quote(output: str, quote: Mapping[str, Any], inputs: Inputs, texts: Texts) -> doc.Quote:
    name, path = str(quote["input"]), str(quote["path"])
    start, end = _count(quote["start"]), max(_count(quote["start"]), _count(quote["end"]))
    known = inputs.texts(name).get(path)
    [(first, last)] = _in_units([(start, end)], known)
    line = quote.get("line")
    return {
        "output": texts.name(output),
        "input": texts.name(name),
        "path": _path(path, 0, texts),
        "start": first,
        "end": last,
        "line": line if type(line) is int else None,
        "text": texts.add(known[start:end] if known else str(quote["text"])),
        "before": texts.add(known[max(start - AROUND_CHARS, 0) : start] if known else ""),
        "after": texts.add(known[end : end + AROUND_CHARS] if known else ""),
    }
