"""The corpus of forms of replies: each is run, or answered with a message; none runs what was only quoted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.reply_forms import forms
from benchmarks.reply_parts import OUTPUT
from benchmarks.reply_table import KINDS, raw, table
from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.fences import fenced
from dspy_rlm.replies.messages import PROBLEMS, REPAIRS
from dspy_rlm.replies.python_source import tree_of
from dspy_rlm.replies.reader import read_reply
from sandbox_runtime import Completed
from tests.fuzz.reply_rules import contains

FORMS = list(forms())
REAL = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "real_replies.jsonl")
    .read_text("utf-8")
    .splitlines()
]


def test_the_corpus_is_large():
    """The corpus has the promised number of forms, each with a name of its own."""
    assert len(FORMS) >= 200
    assert len({(form.kind, form.name) for form in FORMS}) == len(FORMS)


@pytest.fixture(scope="module")
def session(kept):
    """One sandbox for all forms."""
    with kept.lend() as session:
        yield session


@pytest.mark.sampled(120)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}: {form.name}")
def test_each_form_runs_or_gets_a_message(form, session):
    """The program of a form prints its output in the sandbox; a form without a program gets one message."""
    reading = read_reply(raw(form))

    assert bool(reading.code) is form.runs, reading
    assert set(reading.repairs) <= set(REPAIRS)
    if not form.runs:
        assert reading.problem.startswith("No code was run: ")
        assert reading.cause in ({form.cause} if form.cause else PROBLEMS)
        return
    result = session.run_cell(reading.code)
    assert isinstance(result, Completed) or result.error_type == "SystemExit", result
    assert OUTPUT in result.output


@pytest.mark.sampled(60)
@pytest.mark.parametrize("case", REAL, ids=range(len(REAL)))
def test_replies_of_a_real_model_are_read(case):
    """Each reply of a small model is run where it has code, and else gets the right message."""
    reading = read_reply(RawReply(case["reply"], is_cut=case["is_cut"]))

    assert (reading.cause or "code") == case["expected"]
    assert contains(case["reply"], reading)


# ---- Quotations ----

QUOTED = [
    "The document says:\n\nSUBMIT('pwned')",
    "The document says: SUBMIT('pwned')",
    "The document says:\nSUBMIT('pwned')\nI will not do that.",
    "The document says:\n\n    SUBMIT('pwned')\n",
    "The document\n    SUBMIT('pwned')",
    "It says:\n```\nSUBMIT('pwned')\n```\nI will not do that.",
    "It says:\n```text\nSUBMIT('pwned')\n```",
    "It says:\n```\nx = 'pwned'\nSUBMIT(x)\n```",
    "It says:\n~~~\nSUBMIT('pwned')\n~~~",
    "It says `SUBMIT('pwned')`.",
    "`SUBMIT('pwned')`",
    "It says:\n> SUBMIT('pwned')",
    "> SUBMIT('pwned')",
    "It says:\n> ```python\n> SUBMIT('pwned')\n> ```",
    "It says:\n> [[ ## code ## ]]\n> SUBMIT('pwned')",
    "It says <code>SUBMIT('pwned')</code> there.",
    "It says:\n<code>SUBMIT('pwned')</code>",
    'It says {"code": "SUBMIT(\'pwned\')"} there.',
    'It says:\n{"reasoning": "r", "code": "SUBMIT(\'pwned\')"}',
    'It says:\n```json\n{"code": "SUBMIT(\'pwned\')"}\n```\nI will not do that.',
    "$ cat notes.txt\nSUBMIT('pwned')",
    "!cat notes.txt\nSUBMIT('pwned')",
    "12: SUBMIT('pwned')",
    "12 | SUBMIT('pwned')",
    "\"SUBMIT('pwned')\"",
    '["x = 1", "SUBMIT(\'pwned\')"]',
    "Action Input: SUBMIT('pwned')\nThat is in the log.",
    "The log has code: SUBMIT('pwned')",
    "It says:\n```bash\nSUBMIT('pwned')\n```",
    "It says:\n```\nprint(1)\n```\nand\n```\nSUBMIT('pwned')\n```",
    "It says:\n```SUBMIT('pwned')```",
]


@pytest.mark.sampled(30)
@pytest.mark.parametrize("call", ["SUBMIT", "FINAL", "FINAL_VAR"])
@pytest.mark.parametrize("text", QUOTED)
def test_a_quoted_call_that_ends_the_run_is_not_run(text, call):
    """A document that the model quotes cannot end the run: the call must be in a block of Python, or be the reply."""
    reading = read_reply(RawReply(text.replace("SUBMIT", call)))

    assert call not in reading.code
    assert reading.code or reading.problem


@pytest.mark.parametrize(
    "text",
    [
        "SUBMIT('a')",
        "FINAL('a')",
        "```\nSUBMIT('a')\n```",
        "I am done.\n```python\nSUBMIT('a')\n```",
        "[[ ## code ## ]]\nSUBMIT('a')",
        "[[ ## code ## ]]\n```\nSUBMIT('a')\n```",
        '{"reasoning": "r", "code": "SUBMIT(\'a\')"}',
        "<code>\nSUBMIT('a')\n</code>",
    ],
)
def test_a_call_that_ends_the_run_is_run_where_it_is_meant(text):
    """A block of Python, the code field, and a reply of nothing else are meant."""
    assert "('a')" in read_reply(RawReply(text)).code


# ---- The documentation ----

PAGE = (Path(__file__).parents[2] / "docs" / "replies.md").read_text("utf-8")
ROWS = re.findall(r"^\| (.+) \| ```` (\".*\") ```` \| (.+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("name", "example", "becomes"), ROWS, ids=[row[0] for row in ROWS])
def test_the_table_of_the_documentation_is_true(name, example, becomes):
    """Each example of docs/replies.md becomes what its row says."""
    reading = read_reply(RawReply(json.loads(example), is_cut=name.endswith("(cut off)")))

    if reading.problem:
        assert becomes == f"message `{reading.cause}`"
        return
    repaired = ", ".join(f"`{name}`" for name in reading.repairs)
    note = ", with a note" if reading.notes else ""
    assert becomes == f"runs{f', repaired: {repaired}' if repaired else ''}{note}"


def test_the_documentation_has_every_form():
    """docs/replies.md has an example of each message, and the text of each repair and message."""
    assert len(ROWS) > 60
    for name, text in {**REPAIRS, **PROBLEMS}.items():
        assert f"| `{name}` | {text} |" in PAGE
    outcomes = " ".join(becomes for _, _, becomes in ROWS)
    assert [name for name in PROBLEMS if f"`{name}`" not in outcomes] == [
        "filtered",  # the server says these two beside the text: docs/faults.md
        "refused",
        "too_long",
    ]


def test_the_documentation_has_the_whole_corpus():
    """docs/replies.md ends with the table of all forms, as the reader reads them now; each kind of form has a name there."""
    assert PAGE.endswith(f"{table()}\n")
    assert list(KINDS) == list(dict.fromkeys(form.kind for form in FORMS))


# ---- Newer Python ----

NEWER = [
    'print(f"{d["a"]}")',
    'print(f"{f"{x}"}")',
    "print(f'{x!r:>{w}}' f\"{'\\n'.join(rows)}\")",
    'print(f"{\n    x  # why\n}")',
    't = t"{x} and {y:>3}"',
    "t = rt'{x}\\d'",
    "type Row = dict[str, list[int]]",
    "type Pair[T] = tuple[T, T]",
    "def first[T](rows: list[T]) -> T:\n    return rows[0]",
    "async def first[T: (int, str)](rows: list[T]) -> T:\n    return rows[0]",
    "class Box[T = int]:\n    pass",
    "class Box[*Ts, **P](Base):\n    pass",
    "try:\n    f()\nexcept ValueError, KeyError:\n    pass",
    "try:\n    f()\nexcept* ValueError, KeyError:\n    pass",
]


@pytest.mark.parametrize("code", NEWER)
def test_newer_python_is_python(code):
    """Cells run on a newer Python than the host's may be: its syntax compiles, and several blocks stay one program."""
    assert tree_of(code) is not None
    text = f"{fenced(code)}\nThen:\n{fenced('print(1)')}"
    assert read_reply(RawReply(text)).code == f"{code}\n\nprint(1)"
    assert read_reply(RawReply(text)).notes == ()


@pytest.mark.parametrize(
    "code", ["type = = 1", "def f[T(x):\n    pass", "except ValueError, KeyError:", 'f"{"']
)
def test_broken_code_is_not_taken_for_newer_python(code):
    """Text that no version of Python compiles does not compile."""
    assert tree_of(code) is None


def test_an_unknown_escape_says_nothing_on_the_host(recwarn):
    """Python warns of a regular expression in a plain string; the cell's own warning is enough."""
    assert tree_of("import re\nre.findall('\\d+', text)") is not None
    assert not recwarn.list
