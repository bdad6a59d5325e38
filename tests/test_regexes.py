"""Every regular expression that reads untrusted text takes time linear in its length.

`re` cannot be stopped, and holds the lock of the interpreter. A new expression must be put into one of
the tables of this file.
"""

from __future__ import annotations

import ast
import gc
import re
import time
from functools import partial
from pathlib import Path

import pytest

import dspy_rlm
from dspy_rlm.events import ActionChosen
from dspy_rlm.evidence import blocks, coverage, nearest, texts
from dspy_rlm.journal import values as journal_values
from dspy_rlm.journal.imports import rlms as rlms_logs
from dspy_rlm.lms import context_window
from dspy_rlm.predictor import shown_demos
from dspy_rlm.prompts import history as trajectory
from dspy_rlm.prompts import untrusted_text as untrusted
from dspy_rlm.recorded import played_cells, turns
from dspy_rlm.repl import failures, typed_call
from dspy_rlm.replies import (
    elements,
    fences,
    fields,
    marks,
    objects,
    outputs,
    prose,
    python_source,
    reader,
    repairs,
    several,
    thoughts,
)
from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.fences import fenced_blocks
from dspy_rlm.replies.final_calls import final_code
from dspy_rlm.replies.python_source import Work, spans
from dspy_rlm.replies.reader import read_reply
from dspy_rlm.runs import own_lines
from dspy_rlm.signatures import parser as signatures
from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.importers import longcot, oolong, oolong_pairs
from dspy_rlm.terminal.escaping import printable
from dspy_rlm.terminal.progress import render_event
from dspy_rlm.values.python_text import syntax_tree
from sandbox_runtime.helpers import abridged

ROOT = Path(dspy_rlm.__file__).parent.parent
CALLS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer"}

# By file: the expressions that read untrusted text (of strangers, models or tools), and the units to repeat for a
# bad case: each alone, and after the expression's own beginning.
PUMPED = {
    ("sandbox_runtime/values/bounds/conversion_cost.py", r"'[\\[\\](){}]'"): ["[", "a"],
    ("sandbox_runtime/texts/objects/store.py", "'([A-Za-z][A-Za-z0-9+.-]{1,30})://'"): [
        "a",
        "a:",
        "a://",
        "+",
    ],
    ("sandbox_runtime/packages/pip_errors.py", r"'://[^/\\s]*@'"): ["://", "://a", "a", ":", "@"],
    ("dspy_rlm/optimize/digest.py", r"f'\\b{re.escape(name)}\\b'"): ["name", "a", " "],
    ("dspy_rlm/diagnosis/inputs.py", r"f'\\b{re.escape(name)}\\b'"): ["name", "a", " "],
    ("dspy_rlm/cli/optimizing/metrics.py", r"'\\w+'"): ["a", " ", "a "],
    ("dspy_rlm/baselines/bm25.py", r"'\\w+'"): ["a", " ", "a "],
    ("dspy_rlm/lms/context_window.py", "'|'.join(OVERFLOW_TEXTS.values())"): [
        "input token count",
        "requested tokens (",
        "maximum context length ",
        "1",
        "a",
    ],
    ("dspy_rlm/viewer/content/evidence.py", r"'(?:\\[\\d{1,9}\\])*'"): ["[1]", "[", "1", "a"],
    ("dspy_rlm/viewer/content/steps.py", r"""'File "<cell (\\d{1,9})>", line (\\d{1,9})'"""): [
        'File "<cell ',
        "1",
        '>", line ',
    ],
    ("dspy_rlm/repl/guest/names.py", r"'\\w+'"): ["a", " ", "a "],
    ("dspy_rlm/window/token_estimate.py", "'[A-Za-z0-9+/_=-]{32,}'"): [
        "a",
        "a ",
        "=",
        "a" * 31 + " ",
    ],
    ("dspy_rlm/tasks/scoring.py", None): [
        *("(1, ", "(", "1", " ", "a", "[", "The correct answer is ", "The correct answer is ("),
    ],
    ("dspy_rlm/tasks/importers/oolong.py", None): ["answer:", "datetime.date(", "1", ", ", " "],
    ("dspy_rlm/tasks/importers/oolong_pairs.py", None): ["(", "(1", "1", ", ", "(1, 1"],
    ("dspy_rlm/tasks/importers/longcot.py", None): ["solution ", "solution", " ", "'", "a"],
    ("dspy_rlm/evidence/blocks.py", None): ["'", '"', "'a", "a", " ", "1", "(1", "- ", "a:", "\n"],
    ("dspy_rlm/evidence/coverage.py", None): ["\\", "\\n", "n"],
    ("dspy_rlm/evidence/nearest.py", None): ["a", " ", "a ", ".", "a."],
    ("dspy_rlm/evidence/texts.py", None): ["a", "1", "\n", "a.", " "],
    ("dspy_rlm/journal/imports/rlms.py", None): ["```repl", "```", "`", "a", "a: ", "\n", " "],
    ("dspy_rlm/journal/values.py", None): ["a", "0", "g"],
    ("dspy_rlm/recorded/turns.py", None): [":r", ":r1", "1", ":r1.", ":r1.1"],
    ("dspy_rlm/recorded/played_cells.py", None): ["<cell ", "<cell 1", "1", ">"],
    ("dspy_rlm/window/opaque.py", "'line ([0-9]{1,6})'"): ["line ", "line 1", "1", "line"],
    ("dspy_rlm/runs/own_lines.py", None): [
        "[",
        "a",
        "[a",
        "1",
        "[1",
        "[coroutine '",
        "[this cell rebound ",
        ", ",
    ],
    ("dspy_rlm/repl/failures.py", None): ["'", '"', ", got ", "a", "1", "a1", "status ", "'a", " "],
    ("dspy_rlm/replies/outputs.py", None): ['"', '\\"', "\\\\", "{", "a", "\n"],
    ("dspy_rlm/replies/repairs.py", "'(&#[0-9]{8,})'"): ["&#", "&#1", "1", "&#123456789"],
    ("dspy_rlm/prompts/history.py", r"'\\n```\\nOutput \\((\\d[\\d,]{0,19}) chars\\):\\n'"): [
        *("\n```\nOutput (", "\n```\nOutput (1", "1", "\n"),
    ],
    ("dspy_rlm/prompts/untrusted_text.py", r"'([\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029])'"): [
        "\n",
        "\x0b",
        "\u2028",
    ],
    (
        "dspy_rlm/prompts/untrusted_text.py",
        "'|'.join((f'(?:{form})' for form in LINE_FORMS.values()))",
    ): [
        *("=", "`", "1/1, ", "[coroutine ", "This is the last", "... (1", "Output (1"),
    ],
    ("dspy_rlm/prompts/untrusted_text.py", r"'(?: {1,20}\\|)? {4,200}[~^][~^ ]*'"): [
        *(" ", " |", "    ~", "^", "    "),
    ],
    ("dspy_rlm/prompts/untrusted_text.py", r"f'(?:(?![\t -~])[{_INVISIBLE}])+'"): [
        "\u200b",
        "\u200ba",
        "\x00",
    ],
    (
        "dspy_rlm/prompts/untrusted_text.py",
        r"'\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x9b[0-?]*[@-~]'",
    ): ["\x1b", "\x1b[", "\x1b[0 ", "\x1b]", "\x9b0", "0", " "],
    ("dspy_rlm/prompts/untrusted_text.py", "'(?<=<<)(?=CUSTOM-TYPE-)'"): [
        "<",
        "<<CUSTOM-TYPE",
        "C",
    ],
    ("dspy_rlm/prompts/untrusted_text.py", "f'{_BRACKETS}|{_CHAT}{tagged}'"): [
        *(
            "[",
            "[ ",
            "[\u200b",
            "[[\n",
            "[[ ",
            "<",
            "< ",
            "<|",
            "<|a",
            "<|\u200b",
            "<\u200b",
            "</",
            " ",
        ),
        *(
            "\u200b",
            "a",
            "<|a\u200b",
            "[INS",
            "<<",
            "[[ #",
            "[ [ # # a",
            "[ [",
            "[ [ ##a",
            "</s",
            "[TOOL",
        ),
    ],
    ("dspy_rlm/prompts/untrusted_text.py", "_CHAT"): [
        "<",
        "<|",
        "<|a",
        "<|\u200b",
        "<\u200b",
        "[",
        "[\u200b",
        "[/",
    ],
    (
        "sandbox_runtime/values/builders.py",
        r"'[A-Za-z][A-Za-z0-9_+\\-]*(/[A-Za-z0-9_+\\-]+){0,3}'",
    ): [
        *("a", "a/", "/", "a/a"),
    ],
    ("sandbox_runtime/texts/bytes.py", r"'[\ud800-\udfff]'"): ["\ud800", "a", "\ud800a"],
    (
        "sandbox_runtime/packages/wheels.py",
        r"'([A-Za-z]\\w*)(?:/__init__\\.py|\\.py|(?:\\.[\\w-]+)*\\.so)'",
    ): ["a", ".a", ".", ".s", "/__init__"],
    ("sandbox_runtime/packages/wheels.py", "'[^/]+\\\\.dist-info/METADATA'"): [
        "a",
        ".dist-info",
        "/",
    ],
}

# Those of them that are compared at the beginning of a text only, or with all of it.
ANCHORED = {
    ("dspy_rlm/viewer/content/evidence.py", r"'(?:\\[\\d{1,9}\\])*'"),
    ("dspy_rlm/prompts/untrusted_text.py", r"'(?: {1,20}\\|)? {4,200}[~^][~^ ]*'"),
    (
        "dspy_rlm/prompts/untrusted_text.py",
        "'|'.join((f'(?:{form})' for form in LINE_FORMS.values()))",
    ),
    ("sandbox_runtime/values/builders.py", r"'[A-Za-z][A-Za-z0-9_+\\-]*(/[A-Za-z0-9_+\\-]+){0,3}'"),
    (
        "sandbox_runtime/packages/wheels.py",
        r"'([A-Za-z]\\w*)(?:/__init__\\.py|\\.py|(?:\\.[\\w-]+)*\\.so)'",
    ),
    ("sandbox_runtime/packages/wheels.py", "'[^/]+\\\\.dist-info/METADATA'"),
}

# Expressions that read only our own text, or that of a user at the keyboard: by file, with the reason.
NOT_OF_STRANGERS = {
    "dspy_rlm/tasks/generators/browsecomp.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/code_files.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/code_qa.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/common_words.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/function_search.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/graphwalks.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/labelled_lines.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/mrcr.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/niah.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/no_overlap.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/oolong.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/oolong_pairs.py": "contexts that this package generates",
    "dspy_rlm/tasks/generators/variable_tracking.py": "contexts that this package generates",
    "dspy_rlm/tasks/library.py": "Python's own library",
    "dspy_rlm/inputs/paths.py": "the user's own arguments",
    "dspy_rlm/cli/demo/policies.py": "the demo's own prompts, about Python's own library",
    "dspy_rlm/evidence/options.py": "the user's own signature",
    "dspy_rlm/cli/asking/event_lines.py": "names of our own classes",
    "dspy_rlm/cli/shells/reference.py": "our own parser",
    "dspy_rlm/testing/chat.py": "replies of a scripted LM",
    "dspy_rlm/testing/history.py": "prompts, in a scripted LM",
    "dspy_rlm/testing/prompts.py": "prompts, in a scripted LM",
    "dspy_rlm/testing/rules.py": "conditions that a test wrote",
    "sandbox_runtime/engine/deno.py": "what Deno says of its version",
    "sandbox_runtime/engine/trial.py": "what Deno says of its version",
    "sandbox_runtime/engine/v8_flags.py": "what Deno says of its flags",
    "sandbox_runtime/installation/install.py": "our scripts and Pyodide's, whose hashes are known",
    "dspy_rlm/budget/prices.py": "names in a table of prices that a package brings",
    "dspy_rlm/signatures/parser.py": "two characters, without repetition",
    "dspy_rlm/signatures/patterns.py": "tokens and numbers in braces, in a pattern of bounded length",
    "sandbox_runtime/guest/integrity/object_memory.py": "the interpreter's own memory, while the boot image is made",
    "sandbox_runtime/packages/lockfile.py": "a lock file of the user's",
    "sandbox_runtime/packages/pip.py": "single characters, without repetition",
    "sandbox_runtime/packages/pip_guard.py": "names of files, short or refused",
    "sandbox_runtime/packages/pip_report.py": "names of packages, short or refused",
    "sandbox_runtime/isolation/os_isolation.py": "numbers that the kernel writes",
    "sandbox_runtime/texts/search_worker.py": "a cell's own pattern, in the process that is killed for it",
}


# The reader of replies: all its expressions are constants of its modules, and all are pumped with these units.
REPLIES = "dspy_rlm/replies/"
REPLY_UNITS = [
    *("[[", "[[ ", "[[ ## ", "[[ ## a", "[[ ## a ## ", "#", " ", "\t", "\n", "\n ", "*", "`", "``` ", "~", "~~~`", ">"),
    *("1. ", "1", "a", "-", "<think>", "</a", "</a>", "</a>\n", "<", "```\n{", "\n```", "{", "[", "{ ", '{"code"', '"'),
    *("'", "\\", "\\n", '\\"', "rf", "u2019", "\u2019", "\u201d", "output (1", "output", "- ", "output ", "out[1", "a, ", "a b "),
    *("<|a", "<|", "<|a|>", "</s>", "</s> ", ">>> ", "In [1", "... ", "%a", "!", "$ ", "pip ", "pip install", "1:", "1 |"),
]  # fmt: skip

# Those of its expressions that are compared at the beginning of a line only, or with all of it.
ANCHORED_IN_REPLIES = {
    *("_STRAY_OPENING", "_STRAY_CLOSING", "_SHELL", "_BARE_SHELL", "_INPUT_LINE", "_SENTENCE"),
    *("_QUOTED", "_CALL", "_HEREDOC", "_TIMING"),
}


def reply_expressions():
    """Returns the compiled expressions of the reader of replies, by name."""
    found = {}
    for module in (
        *(elements, fences, fields, marks, objects, prose, python_source),
        *(reader, repairs, several, thoughts),
    ):
        for name, value in vars(module).items():
            values = value.values() if isinstance(value, dict) else [value]
            if isinstance(value, tuple):
                values = [one for part in value if isinstance(part, tuple) for one in part]
            for number, one in enumerate(values):
                if isinstance(one, re.Pattern):
                    found[f"{module.__name__.rpartition('.')[2]}.{name}{number or ''}"] = one
    return found


@pytest.mark.sampled(24)
@pytest.mark.parametrize("name", reply_expressions())
def test_expressions_for_replies_grow_with_the_text(name):
    """The time of each expression that reads replies is linear in the text."""
    expression = reply_expressions()[name]
    anchored = name.partition(".")[2].rstrip("0123456789") in ANCHORED_IN_REPLIES
    for first in ["", "[[ ", "```\n{", "<a", "{", " ", "1", '"', "\\", "a", "In [1", "output ("]:
        for unit in REPLY_UNITS:
            for work in used(expression, anchored=anchored):
                make = partial(repeated, first, unit)
                assert growth(work, make, 2_500) < LINEAR, make(40)


def repeated(first, unit, n):
    """Returns a text of that length."""
    return first + unit * (n // len(unit) + 1)


def test_expressions_for_replies_are_constants():
    """An expression of the reader of replies that is compiled elsewhere would not be in the table."""
    for file in sorted((ROOT / REPLIES).glob("*.py")):
        tree = syntax_tree(file.read_text("utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        for node in uses_of_re(tree):
            assert node.func.attr == "compile", (file, node.lineno)
            assert id(node) not in inside, (file, node.lineno)


def uses_of_re(tree):
    """Yields the calls of functions of `re` that take an expression."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of = node.func.value
        if isinstance(of, ast.Name) and of.id == "re" and node.func.attr in CALLS:
            yield node


def expressions():
    """Returns each use of `re` with an expression: its file, the expression's source, the method."""
    for root in ("dspy_rlm", "sandbox_runtime"):
        for file in sorted((ROOT / root).rglob("*.py")):
            for node in uses_of_re(syntax_tree(file.read_text("utf-8"))):
                yield file.relative_to(ROOT).as_posix(), ast.unparse(node.args[0])


# By file: those that `redact_secrets` puts together, each repetition with an end.
BOUNDED = {
    "dspy_rlm/inputs/converters/archives.py": "in a process of its own, with limits for time and memory",
    "dspy_rlm/inputs/converters/delimited.py": "in a process of its own, with limits for time and memory",
    "dspy_rlm/inputs/converters/epub.py": "in a process of its own, with limits for time and memory",
    "dspy_rlm/inputs/converters/html.py": "in a process of its own, with limits for time and memory",
    "dspy_rlm/inputs/converters/zips.py": "in a process of its own, with limits for time and memory",
    "sandbox_runtime/truncation.py": "a mark of fixed length; see the reader `abridged`",
    "sandbox_runtime/redaction/decoding.py": "see `test_secrecy.py`",
    "sandbox_runtime/redaction/redact.py": "see `test_secrecy.py`",
    "sandbox_runtime/redaction/secret_patterns.py": "see `test_secrecy.py`",
    "sandbox_runtime/redaction/shortened.py": "see `test_secrecy.py`",
}


def is_listed(path, source):
    return (
        path in BOUNDED
        or path.startswith(REPLIES)
        or path in NOT_OF_STRANGERS
        or (path, source) in PUMPED
        or (path, None) in PUMPED
    )


def test_every_expression_is_in_a_table():
    """Every regular expression is listed in a table, and every listed one exists."""
    found = list(expressions())

    assert len(found) > 30
    assert [one for one in found if not is_listed(*one)] == []
    paths = {path for path, _ in found}
    assert [path for path in NOT_OF_STRANGERS if path not in paths] == []
    assert [
        one for one in PUMPED if one not in found and (one[1] is not None or one[0] not in paths)
    ] == []


# A quadratic reader is 16 times as slow at four times the length, a linear one 4 times.
LINEAR = 9


def growth(work, make, size=5_000):
    """Returns the slowdown for four times the text: about 4 if linear, 16 if quadratic."""

    def seconds(n, times):
        text = make(n)
        best = float("inf")
        gc.disable()  # its time depends on all objects of the process
        try:
            for _ in range(times):
                started = time.thread_time()
                work(text)
                best = min(best, time.thread_time() - started)
        finally:
            gc.enable()
        return best

    # A pattern that takes no time at any size says nothing.
    longer = seconds(4 * size, 1)
    if longer <= 0.02:
        return 0.0
    shorter = max(seconds(size, 3), 0.002)
    if longer / shorter >= LINEAR:  # perhaps something else has run meanwhile
        longer = min(longer, seconds(4 * size, 2))
    return longer / shorter if longer > 0.02 else 0.0


def pumped(units):
    """Yields texts of a length: each unit repeated, alone and after each prefix."""
    for unit in units:
        yield lambda n, unit=unit: (unit * (n // len(unit) + 1))[:n]
    for first in units:
        for unit in units:
            yield lambda n, first=first, unit=unit: (first + unit * (n // len(unit) + 1))[:n]


# Those of modules all of whose expressions are constants; a word's end is looked for in so many characters only.
OF_MODULES = {
    "dspy_rlm/evidence/blocks.py": [blocks._QUOTED, blocks._LABEL],
    "dspy_rlm/evidence/coverage.py": [coverage._ESCAPE],
    "dspy_rlm/evidence/nearest.py": [nearest._WORD_START, re.compile(r"\S+")],
    "dspy_rlm/evidence/texts.py": [texts._LABEL],
    "dspy_rlm/journal/imports/rlms.py": [rlms_logs._BLOCK, rlms_logs._ERROR],
    "dspy_rlm/journal/values.py": [journal_values._DIGEST],
    "dspy_rlm/recorded/turns.py": [turns._PROCESS],
    "dspy_rlm/tasks/scoring.py": [scoring._WORD, scoring._MARKS, scoring._PAIR, scoring._LETTER],
    "dspy_rlm/tasks/importers/oolong.py": [oolong._NAME, oolong._DATE],
    "dspy_rlm/tasks/importers/oolong_pairs.py": [oolong_pairs._PAIR],
    "dspy_rlm/tasks/importers/longcot.py": [longcot._SOLUTION, longcot._QUOTES],
    "dspy_rlm/recorded/played_cells.py": [played_cells._CELL_NUMBER],
}


def compiled(path, source):
    """Returns the expressions as compiled by their module."""
    if path == "dspy_rlm/prompts/untrusted_text.py":
        marks = [untrusted._marks(("code", "answer"))]
        by_source = {"_CHAT": [untrusted._chat_marks()], "f'{_BRACKETS}|{_CHAT}{tagged}'": marks}
        constants = (untrusted._BREAK, untrusted._ESCAPE, untrusted._PART, untrusted._POINTER)
        by_source |= {repr(expression.pattern): [expression] for expression in constants}
        by_source[r"f'(?:(?![\t -~])[{_INVISIBLE}])+'"] = [untrusted._UNSEEN]
        return by_source.get(source, [untrusted._LINE])
    if path in OF_MODULES:
        return OF_MODULES[path]
    if path == "dspy_rlm/replies/outputs.py":
        return [outputs._JSON_MARKS]
    if path == "dspy_rlm/runs/own_lines.py":
        return [form for form, _ in own_lines._FORMS]
    if path == "dspy_rlm/repl/failures.py":
        return [failures._OF_ONE_ROW]
    if path == "dspy_rlm/lms/context_window.py":
        return [context_window._OVERFLOW]
    if path in ("dspy_rlm/optimize/digest.py", "dspy_rlm/diagnosis/inputs.py"):
        return [re.compile(r"\bname\b")]
    return [re.compile(ast.literal_eval(source))]


def used(expression, *, anchored):
    """Returns the methods by which the expression is used."""
    yield expression.match
    yield expression.fullmatch
    if not anchored:
        yield lambda text: expression.sub(text[:0], text)


@pytest.mark.sampled(16)
@pytest.mark.parametrize(("path", "source"), PUMPED, ids=str)
def test_it_grows_with_the_text(path, source):
    """The time of each expression is linear in the text, in the ways in which it is used."""
    for expression in compiled(path, source):
        for make in pumped(PUMPED[path, source]):
            for work in used(expression, anchored=(path, source) in ANCHORED):
                assert growth(work, make) < LINEAR, (expression, make(40))


def read_signature(text):
    """Parses an invalid signature."""
    with pytest.raises(ValueError, match=r"signature|field"):
        signatures._read_text(text, signatures.CellTypes({}, {}))


# Readers of such texts that use no expression, or several.
READERS = {
    "abridged": lambda text: abridged(text, 1000),
    "as_data": untrusted.as_data,
    "as_value": untrusted.as_value,
    "as_prompt": untrusted.as_prompt,
    "reply": lambda text: read_reply(RawReply(text)),
    "fenced_blocks": lambda text: fenced_blocks(text, Work(len(text))),
    "spans": lambda text: list(spans(text)),
    "final_code": lambda text: final_code(text, Work(len(text))),
    "reason of a reply": typed_call._reason,
    "signature": read_signature,
    "history": lambda text: trajectory.abridge_history(text, 600),
    "demos": lambda text: shown_demos([{"code": "x", "repl_history": text, "iteration": ""}]),
    "printable": printable,
    "progress": lambda text: render_event(ActionChosen(1, text, text, True)),
}
# Readers that do much for each character get a shorter text.
SIZES = {"reply": 2_000, "fenced_blocks": 3_000}

UNITS = [
    *(
        "```",
        "```\n",
        "~~~ a\n",
        "``` a`\n",
        "`",
        "```python\n",
        '"""\n```\n',
        "FINAL(",
        "FINAL(\n",
        ")",
    ),
    *(
        "Failed to parse field a ",
        "Error message: ",
        "1 validation error for ",
        "->",
        "-> ",
        "a: int, ",
    ),
    *(
        "\x0b",
        "\r",
        "\u2028",
        "\u200b",
        "\u0301",
        "a\u0315\u0300",
        "\ufdfa",
        " ",
        "[[ ",
        "<|",
        "\x1b[",
    ),
    *(
        "=== Step ",
        "\n```\nOutput (9 chars):\n",
        "\n```\nOutput (",
        "a",
        "a-",
        "- ",
        "(",
        "[",
        "\\",
    ),
    *(
        'f"{',
        "f'{x\"",
        "x = 1\n\n",
        "x = \n```\n",
        "\u201ca\u201d",
        "\u201c",
        "</s>",
        "%a\n",
        ">>> a\n",
        "[[ ## code ## ]]\n```\n",
        "output:\n",
        "```py\nx = \n```\n",
        "```py\nx = 1\n```\n",
        "<code>",
        "<code></code>\n",
        '{"code": ',
        "```\n{",
        '\\"',
        "&lt;",
        "+a\n",
        "1: a\n",
        "a:\n\nb c\n",
    ),
]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("reader", READERS)
def test_readers_grow_with_the_text(reader):
    """The time of each reader is linear, including a fence with 20,000 letters and a backtick, once quadratic."""
    for make in [
        *(lambda n, unit=unit: unit * (n // len(unit) + 1) for unit in UNITS),
        lambda n: "```" + "a" * n + "`",
        lambda n: "```\n" + "a\n" * (n // 2),
        lambda n: "FINAL(" + "(" * n,
        lambda n: "Failed to parse field a with " * (n // 30),
    ]:
        assert growth(READERS[reader], make, SIZES.get(reader, 5_000)) < LINEAR, make(40)


@pytest.mark.parametrize("length", ["9" * 5000, ",", ",,", ",1", ""], ids=lambda text: text[:5])
def test_a_length_that_is_no_number_is_no_length(length):
    """A length of thousands of digits, which `int` refuses, or of commas only, is ignored."""
    history = f"x\n```\nOutput ({length} chars):\ny"

    assert trajectory.abridge_history(history, 10) == history
