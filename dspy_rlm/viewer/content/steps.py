"""Steps and variables of a run as a page shows them: code, failing line, whole output, and what the root LM saw."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import CellRecord, RunRecord, StepRecord, Text, read_text
from dspy_rlm.replies.python_source import tree_of
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.content.indexes import Index, span
from dspy_rlm.viewer.texts import Texts

# A longer cell holds data: its names are not looked for.
MAX_CODE_CHARS = 100_000

# The end of a traceback has the frame that failed.
_TRACEBACK_CHARS = 20_000

_FRAME = re.compile(r'File "<cell (\d{1,9})>", line (\d{1,9})')


def step_views(index: Index, texts: Texts, run: RunRecord) -> list[doc.Step]:
    """Returns the steps of a run, the unfinished one too."""
    at = index.run_at[run.run_id]
    return [
        _step(index, texts, run, step, end, index.below.get((at, step.number), []))
        for step, end in index.step_ends(run)
    ]


def _step(
    index: Index, texts: Texts, run: RunRecord, step: StepRecord, end: float, below: list[int]
) -> doc.Step:
    cell = step.cell
    output = cell.output if cell else ""
    started = index.since(step.started_at)
    bound = [] if texts.redact else [name for name, _ in names_bound(code_of(step))]
    return {
        "number": step.number,
        "unfinished": step is run.unfinished,
        "started": started,
        "seconds": span(end - started),
        "reasoning": texts.add(step.reasoning),
        "code": texts.add(cell.code if cell else step.code),
        "outcome": cell.outcome if cell else None,
        "error": _error(texts, step.number, cell) if cell and cell.outcome == "failed" else None,
        "cell_started": index.since(cell.started_at) if cell else None,
        "cell_seconds": span(cell.seconds) if cell else None,
        "output": texts.add(output),
        "output_chars": chars_of(output),
        "shown": texts.add(step.shown),
        "shown_chars": chars_of(step.shown),
        "shortened": _is_shortened(output, step.shown) and step is not run.unfinished,
        "state_lost": cell.state_lost if cell else False,
        "root_calls": [index.call_at[call.call_id] for call in step.root_calls],
        "sub_calls": [index.call_at[call.call_id] for call in step.sub_calls],
        "tools": [index.tool_at[tool.call_id] for tool in step.tools],
        "sub_runs": below,
        "checkpoint_bytes": step.checkpoint.bytes if step.checkpoint else None,
        "assigned": [texts.name(name) for name in dict.fromkeys(bound)],
    }


def chars_of(text: Text) -> int:
    """Returns the characters of a text, without reading a long one."""
    return len(text) if isinstance(text, str) else text.chars


def _is_shortened(output: Text, shown: Text) -> bool:
    """Returns whether the root LM saw less than was printed; the notes of the harness may make up for some of it."""
    if chars_of(shown) >= chars_of(output) and output != shown:
        return _read(output).rstrip("\n") not in _read(shown)
    return len(_read(output).rstrip("\n")) > chars_of(shown)


def _read(text: Text) -> str:
    try:
        return read_text(text)
    except MissingValueError:
        return ""


def _error(texts: Texts, number: int, cell: CellRecord) -> doc.CellError:
    return {
        "type": texts.type_name(cell.error_type),
        "message": texts.add(cell.message),
        "traceback": texts.add(cell.traceback),
        "line": failing_line(number, _read(cell.traceback), _read(cell.code)),
    }


def failing_line(number: int, traceback: str, code: str) -> int | None:
    """Returns the line of a cell that failed, from 1; None if the traceback does not say."""
    lines = [
        int(line)
        for cell, line in _FRAME.findall(traceback[-_TRACEBACK_CHARS:])
        if int(cell) == number
    ]
    most = code.count("\n") + 1
    return next((line for line in reversed(lines) if 1 <= line <= most), None)


def code_of(step: StepRecord) -> str:
    """Returns the code of a step as it ran; empty if it is not in the journal."""
    return _read(step.cell.code if step.cell else step.code)


def variable_views(run: RunRecord, texts: Texts) -> list[doc.Variable]:
    """Returns the names of the REPL: the inputs, and what cells have assigned, with the steps that have used them."""
    views: dict[str, doc.Variable] = {
        name: {"name": texts.name(name), "kind": "input", "assigned": [], "used": []}
        for name in run.inputs
    }
    if texts.redact:
        return list(views.values())
    codes = [(step.number, code_of(step)) for step in run.all_steps]
    for number, code in codes:
        for name, kind in names_bound(code):
            view = views.setdefault(
                name, {"name": texts.name(name), "kind": kind, "assigned": [], "used": []}
            )
            if number not in view["assigned"]:
                view["assigned"].append(number)
    for number, code in codes:
        for name in names_read(code) & views.keys():
            views[name]["used"].append(number)
    return list(views.values())


def names_bound(code: str) -> list[tuple[str, str]]:
    """Returns the names that a cell assigns at its top level, each with its kind, in the order of the code."""
    tree = _tree(code)
    return [] if tree is None else list(_bound(tree.body))


def names_read(code: str) -> set[str]:
    """Returns the names that a cell reads, also in its functions."""
    tree = _tree(code)
    if tree is None:
        return set()
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _tree(code: str) -> ast.Module | None:
    return tree_of(code) if len(code) <= MAX_CODE_CHARS else None


def _bound(body: Sequence[ast.AST]) -> Iterator[tuple[str, str]]:
    stack: list[ast.AST] = list(reversed(body))
    while stack:
        node = stack.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, "assigned"
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, "function"
            case ast.ClassDef(name=name):
                yield name, "class"
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0], "import"
            case (
                ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp() | ast.Lambda()
            ):
                pass
            case _:
                stack += reversed(list(ast.iter_child_nodes(node)))
