"""Runs for the tests of the page: one with something for each view, a hostile one, and long ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from viewed_runs import Lines, page_of

from dspy_rlm.viewer.bundle import bundle

TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "<cell 2>", line 3, in <module>\n    print(hits[9])\nIndexError: list index out of range'
)
PRINTED = "".join(f"page {number}: nothing\n" for number in range(1, 301))
PAGES = ["The first page says little.", "On the second page the valve leaked at noon.", "Unread."]


@cache
def built() -> Any:
    """Returns the page's script and style sheet."""
    return bundle()


def write_page(path: Path, *journals: Path, redact: bool = False) -> Path:
    """Writes the page of journals and returns its path."""
    path.write_text(
        page_of(*journals, redact=redact, bundle=built()), encoding="utf-8", errors="replace"
    )
    return path


def rich(path: Path) -> Path:
    """Writes a journal with a batch, a failure, a shortened output, a sub-run, coverage, quotes and lineage."""
    lines = Lines(path)
    config = {"budget": {"max_llm_calls": 10, "max_iterations": 9}}
    lines.run(
        inputs={"pages": PAGES, "question": "When did the valve leak?"},
        outputs=("answer", "quotes"),
        config=config,
    )
    _batch(lines)
    error = {"type": "IndexError", "message": "list index out of range", "traceback": TRACEBACK}
    lines.step(
        2, "hits = [1]\nprint(len(hits))\nprint(hits[9])\n", f"1\n{TRACEBACK}", outcome="failed",
        error=error, reasoning="Look at the hits.",
    )  # fmt: skip
    _sub_run(lines)
    lines.step(
        4, "print(pages)", PRINTED, shown=f"page 1: nothing\n... (omitted) ...\n{PRINTED[-20:]}"
    )
    lines.step(5, "SUBMIT(answer='At noon.', quotes=hits)", "", outcome="submitted")
    lines.end(
        outputs={"answer": "At noon.", "quotes": [_quote()]},
        coverage={"pages": _coverage()},
        lineage={"answer": _lineage(), "quotes": _lineage()},
        turns_lost={"unreadable": 1},
        seconds=9.0,
    )
    return path


def _batch(lines: Lines) -> None:
    lines.add("iteration", run="r", it=1)
    lines.call("r:1", 1, f"You write code. {'History. ' * 60}Turn 1", "code 1")
    lines.add("tool", run="r", it=1, call="t1", name="sub_llm_batched", is_tool=False)
    facts: list[tuple[str, str, dict[str, Any]]] = [
        ("Does it leak? Page one.", "No.", {}),
        ("Does it leak? Page two.", "Yes, at noon.", {}),
        ("Does it leak? Page one.", "No.", {"digest": "r:b0"}),
        ("Does it leak? Page three.", "It is like", {"cut": True}),
        ("Does it leak? Page four.", "", {}),
    ]
    for number, (prompt, reply, more) in enumerate(facts):
        lines.call(
            f"r:b{number}", 1, prompt, reply, kind="sub_llm_batched", parent_call="t1",
            model="sub", seconds=0.2 + number / 10, **more,
        )  # fmt: skip
    lines.call(
        "r:b9", 1, "Does it leak? Page nine.", None, kind="sub_llm_batched", parent_call="t1"
    )
    lines.add("attempt", run="r", call="r:b9", started=lines.now, seconds=0.5, error="E: busy")
    lines.add(
        "failed",
        run="r",
        call="r:b9",
        error={"type": "RateLimit", "message": "busy", "status": 429},
    )
    lines.add("tool_end", run="r", call="t1", seconds=1.0)
    code = "prompts = [f'Does it leak? {page}' for page in pages]\nhits = sub_llm_batched(prompts)\nprint(hits)"
    lines.cell(1, code, "['No.', 'Yes, at noon.']", reasoning="Ask about each page.")


def _sub_run(lines: Lines) -> None:
    lines.add("iteration", run="r", it=3)
    lines.call("r:3", 3, f"You write code. {'History. ' * 60}Step 2 failed.\nTurn 3", "code 3")
    lines.add("tool", run="r", it=3, call="t3", name="sub_rlm", is_tool=False)
    lines.run("r.1", parent="r", parent_call="t3", depth=1)
    lines.step(1, "SUBMIT(answer='deep')", "", run="r.1", outcome="submitted")
    lines.end("r.1", outputs={"answer": "deep"}, seconds=2.0)
    lines.add("tool_end", run="r", call="t3", seconds=2.0)
    lines.cell(3, "deep = sub_rlm(pages)", "deep")


def _quote() -> dict[str, Any]:
    start = PAGES[1].index("the valve")
    return {
        "text": "the valve leaked", "input": "pages", "path": "[1]",
        "start": start, "end": start + len("the valve leaked"), "line": 1,
    }  # fmt: skip


def _coverage() -> dict[str, Any]:
    ranges = [
        {"input": "pages", "path": f"[{number}]", "start": 0, "end": len(PAGES[number])}
        for number in (0, 1)
    ]
    unseen = [{"input": "pages", "path": "[2]", "start": 0, "end": len(PAGES[2])}]
    seen = sum(len(page) for page in PAGES[:2])
    chars = seen + len(PAGES[2])
    return {
        "chars": chars, "seen": seen, "fraction": seen / chars, "read": 1.0, "exact": True,
        "ranges": ranges, "unseen": unseen,
    }  # fmt: skip


def _lineage() -> dict[str, Any]:
    quote = _quote()
    return {
        "cells": [1, 5],
        "sub_calls": [{"cell": 1, "function": "sub_llm_batched", "row": 1, "verbatim": True}],
        "ranges": [{key: quote[key] for key in ("input", "path", "start", "end")}],
        "exact": True,
    }


def hostile(path: Path, text: str) -> Path:
    """Writes a journal that has a text of a model wherever there may be one."""
    lines = Lines(path)
    lines.run(
        inputs={"page": text, "name": text},
        instructions=text,
        outputs=("answer", "other"),
        config={"model": text, text: text},
    )
    error = {"type": text, "message": text, "traceback": f'File "<cell 1>", line 1\n{text}'}
    lines.add("iteration", run="r", it=1)
    lines.call("r:1", 1, [{"role": text, "content": text}], text, model=text)
    lines.add("tool", run="r", it=1, call="t1", name=text, is_tool=True)
    lines.call("r:2", 1, text, text, kind=text, parent_call="t1", model=text)
    lines.call("r:3", 1, text, None, kind="sub_llm", parent_call="t1")
    lines.add("failed", run="r", call="r:3", error={"type": text, "message": text, "status": 500})
    lines.add("tool_end", run="r", call="t1", seconds=0.1, error=error)
    lines.cell(1, text, text, shown=f"seen {text}", outcome="failed", error=error, reasoning=text)
    lines.step(2, f"x = {text!r}", text)
    lines.end(
        outputs={"answer": text, "other": [{"text": text, "input": "page", "start": 0, "end": 5}]},
        stopped_by=text,
        turns_lost={text: 1},
        error=text,
    )
    return path


def long(path: Path, steps: int, chars: int = 2_000) -> Path:
    """Writes a journal of many steps."""
    lines = Lines(path)
    lines.run()
    for number in range(1, steps + 1):
        words = f"step{number} " * (chars // 8)
        lines.add("iteration", run="r", it=number)
        lines.call(f"r:{number}", number, f"Turn {number}. {words}", f"code {number}")
        lines.call(
            f"s:{number}",
            number,
            f"Sub {number}. {words}",
            "yes",
            kind="sub_llm",
            parent_call=f"t{number}",
        )
        lines.cell(number, f"x{number} = sub_llm('{number}')\nprint(x{number})", words)
    lines.end(outputs={"answer": "done"})
    return path
