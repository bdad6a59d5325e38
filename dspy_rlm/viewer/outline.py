"""The outline: a page's runs, steps and calls as plain HTML, for readers without JavaScript, and for printing.

It is built from the document, so it contains no more than the page, also after `--redact`, and every text is escaped. Long texts are cut, so
that the outline of a journal of any size stays small; the inert blocks have all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dspy_rlm.reports.text import count, dollars
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.escaping import escaped
from dspy_rlm.viewer.texts import Texts

# Characters of the texts of an outline, of one text, and of one of many.
MAX_CHARS = 1_500_000
MOST_CHARS, LEAST_CHARS = 20_000, 120

# Calls of one step that are listed one by one, and of all steps.
MAX_CALLS_OF_STEP, MAX_CALLS = 100, 2_000

# Texts of one item of the outline, about: to divide the characters among them.
_TEXTS_OF_STEP, _TEXTS_OF_CALL = 4, 2

_STATUS_WORDS = {
    "submitted": "answered",
    "extracted": "no turn was left, and the outputs were extracted",
    "partial": "ended with a part of its outputs",
    "failed": "failed",
    "running": "goes on",
    "crashed": "has no end: its process was killed",
}


def title_of(document: doc.ViewDocument) -> str:
    """Returns the title of a page."""
    names = [journal["name"] or "a recorded run" for journal in document["journals"]]
    return f"{' and '.join(names)} - dspy-rlm"


def outline_of(document: doc.ViewDocument, texts: Texts) -> Iterator[str]:
    """Yields the outline in parts."""
    yield '<main id="outline">\n'
    for number, journal in enumerate(document["journals"]):
        yield from _Outline(journal, texts, "b-" if number else "").parts()
    yield "</main>"


class _Outline:
    """The outline of one journal."""

    def __init__(self, journal: doc.Journal, texts: Texts, prefix: str) -> None:
        self._journal = journal
        self._texts = texts
        self._prefix = prefix
        self._calls_left = MAX_CALLS
        steps = sum(len(run["steps"]) for run in journal["runs"])
        calls = min(len(journal["calls"]), MAX_CALLS)
        items = steps * _TEXTS_OF_STEP + calls * _TEXTS_OF_CALL + 1
        self._chars = max(LEAST_CHARS, min(MOST_CHARS, MAX_CHARS // items))

    def parts(self) -> Iterator[str]:
        """Yields the outline in parts."""
        journal = self._journal
        root = journal["runs"][0]
        yield f"<h1>{escaped(journal['name'] or 'A recorded run')}</h1>\n"
        ended = f" ({escaped(journal['stopped_by'])})" if journal["stopped_by"] else ""
        yield f"<p>The run {_STATUS_WORDS.get(journal['status'], escaped(journal['status']))}{ended}. "
        yield f"{count(len(root['steps']), 'step')}, {count(len(journal['calls']), 'LM call')}, "
        yield f"{journal['seconds']:.1f} s.</p>\n"
        for note in journal["notes"]:
            yield f"<p>Note: {self._inline(note)}</p>\n"
        yield from self._warnings()
        yield from self._totals()
        yield from self._run(0)

    # ---- Parts of a journal ----

    def _warnings(self) -> Iterator[str]:
        if not self._journal["warnings"]:
            return
        yield "<section>\n<h2>Warnings</h2>\n<ul>\n"
        for number, warning in enumerate(self._journal["warnings"]):
            yield f'<li id="{self._prefix}w{number}">{self._inline(warning["text"])}. '
            yield f"{self._inline(warning['advice'])}"
            links = (self._link(place) for place in warning["places"])
            yield f" At: {', '.join(links)}." if warning["places"] else ""
            yield "</li>\n"
        yield "</ul>\n</section>\n"

    def _link(self, place: doc.Place) -> str:
        at = f"{self._prefix}r{place['run']}"
        if place["step"] is None:
            return f'<a href="#{at}">run {place["run"]}</a>'
        return f'<a href="#{at}-s{place["step"]}">run {place["run"]}, step {place["step"]}</a>'

    def _totals(self) -> Iterator[str]:
        names = ("model", "depth", "of", "calls", "failed", "tokens in", "tokens out", "cost")
        rows = [
            (
                total["model"],
                total["depth"],
                "code" if total["is_sub_call"] else "turns",
                total["calls"],
                total["failed"],
                total["input_tokens"],
                total["output_tokens"],
                None if total["cost"] is None else dollars(total["cost"]),
            )
            for total in self._journal["totals"]
        ]
        yield from _table("Calls by model", names, rows)
        limits = [
            (
                gauge["name"],
                _amount(gauge["unit"], gauge["spent"]),
                "no limit" if gauge["limit"] is None else _amount(gauge["unit"], gauge["limit"]),
            )
            for gauge in self._journal["budget"]
        ]
        yield from _table("Budget", ("limit", "spent", "of"), limits)

    def _run(self, at: int) -> Iterator[str]:
        run = self._journal["runs"][at]
        above = "" if at == 0 else f" of step {run['parent_step']}"
        title = "Run" if at == 0 else f"Sub-run{above}"
        yield f'<section id="{self._prefix}r{at}">\n<h2>{title}: {escaped(run["status"])}</h2>\n'
        yield f"<p><code>{self._inline(run['signature'])}</code></p>\n"
        yield self._block("Instructions", run["instructions"])
        for one in run["inputs"]:
            yield self._input(one)
        for call in run["setup"]:
            yield from self._call(call)
        for step in run["steps"]:
            yield from self._step(at, step)
        yield from self._calls("Extraction of the outputs", run["extraction"])
        for output in run["outputs"]:
            yield self._output(output)
        yield "</section>\n"

    def _input(self, one: doc.Input) -> str:
        size = f"{one['size']:,} {'characters' if one['kind'] == 'text' else 'bytes'}"
        coverage = one["coverage"]
        seen = f", {coverage['fraction']:.0%} shown to LMs" if coverage else ""
        title = f"Input {one['name']}: {one['annotation']} ({one['kind']}, {size}{seen})"
        return self._block(title, one["preview"])

    def _output(self, output: doc.Output) -> str:
        title = f"Output {output['name']}: {output['annotation']}"
        if output["missing"]:
            return f"<p>{escaped(title)}: missing</p>\n"
        return self._block(title, output["value"], is_open=True)

    def _step(self, at: int, step: doc.Step) -> Iterator[str]:
        failed = step["error"]
        words = [f"Step {step['number']}", f"{step['seconds']:.2f} s"]
        words += [f"failed: {failed['type']}"] if failed else []
        words += [step["outcome"]] if step["outcome"] == "submitted" else []
        words += ["not finished"] if step["unfinished"] else []
        yield f'<details open id="{self._prefix}r{at}-s{step["number"]}">\n'
        yield f"<summary><h3>{escaped(' · '.join(words))}</h3></summary>\n"
        yield self._block("Reasoning", step["reasoning"], is_open=True)
        yield self._code(step)
        yield self._block("Output, as the root LM saw it", step["shown"], is_open=True)
        if step["shortened"]:
            yield self._block(
                f"All that was printed ({step['output_chars']:,} characters)", step["output"]
            )
        yield from self._calls("Calls of the root LM", step["root_calls"])
        yield from self._calls("Calls of the code", step["sub_calls"])
        for below in step["sub_runs"]:
            yield from self._run(below)
        yield "</details>\n"

    def _code(self, step: doc.Step) -> str:
        code = self._texts.read(step["code"], self._chars)
        if not code:
            return ""
        line = step["error"]["line"] if step["error"] else None
        lines = [
            f"<mark>{escaped(text)}</mark>" if number == line else escaped(text)
            for number, text in enumerate(code.split("\n"), 1)
        ]
        body = f"<pre>{chr(10).join(lines)}{self._rest(step['code'], code)}</pre>"
        return f"<details open><summary>Code</summary>{body}</details>\n"

    def _calls(self, title: str, calls: Sequence[int]) -> Iterator[str]:
        if not calls:
            return
        listed = calls[: min(MAX_CALLS_OF_STEP, self._calls_left)]
        self._calls_left -= len(listed)
        failed = sum(self._journal["calls"][at]["status"] == "failed" for at in calls)
        words = f"{title}: {len(calls):,}" + (f", {failed:,} failed" if failed else "")
        yield f"<details>\n<summary>{words}</summary>\n"
        for at in listed:
            yield from self._call(at)
        if len(listed) < len(calls):
            yield f"<p>… and {len(calls) - len(listed):,} more</p>\n"
        yield "</details>\n"

    def _call(self, at: int) -> Iterator[str]:
        call = self._journal["calls"][at]
        took = "" if call["seconds"] is None else f" · {call['seconds']:.2f} s"
        words = f"{call['kind']} · {call['model']} · {call['status']}{took}"
        yield f'<details id="{self._prefix}c{at}">\n<summary>{escaped(words)}</summary>\n'
        if call["prompt"] is not None:
            message = self._journal["prompts"][call["prompt"]]["messages"][-1:]
            for one in message:
                yield self._block(f"Prompt ({one['role']})", one["content"], is_open=True)
        for reply in call["replies"]:
            yield self._block("Reply", reply, is_open=True)
        if call["error_type"]:
            yield self._block(f"Error {call['error_type']}", call["error"], is_open=True)
        yield "</details>\n"

    # ---- Texts ----

    def _inline(self, text: doc.Text) -> str:
        return escaped(self._texts.read(text, self._chars))

    def _block(self, title: str, text: doc.Text, *, is_open: bool = False) -> str:
        shown = self._texts.read(text, self._chars)
        if not shown:
            return ""
        body = f"<pre>{escaped(shown)}{self._rest(text, shown)}</pre>"
        mark = " open" if is_open else ""
        return f"<details{mark}><summary>{escaped(title)}</summary>{body}</details>\n"

    def _rest(self, text: doc.Text, shown: str) -> str:
        left = (self._texts.entries[text][0] if isinstance(text, int) else len(shown)) - len(shown)
        return f"\n… ({left:,} more characters)" if left > 0 else ""


def _table(title: str, names: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    yield f"<table>\n<caption>{title}</caption>\n<tr>"
    yield "".join(f'<th scope="col">{name}</th>' for name in names)
    yield "</tr>\n"
    for row in rows:
        cells = ("unknown" if cell is None else _cell(cell) for cell in row)
        yield f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in cells)}</tr>\n"
    yield "</table>\n"


def _amount(unit: str, value: float | None) -> str | None:
    if value is None:
        return None
    if unit == "dollars":
        return dollars(value)
    return f"{value:,.1f}" if unit == "seconds" else f"{value:,.0f}"


def _cell(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)
