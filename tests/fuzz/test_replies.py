"""Replies of every structure that hypothesis finds: code that they contain, or a message, at a cost linear in the text."""

from __future__ import annotations

import html
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reply_forms import forms
from benchmarks.reply_parts import CODE
from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.reader import Reading, read_code_field, read_reply

from .oracle import run
from .reply_rules import check, check_reading, contains, replies

PROGRAMS = st.sampled_from(
    [CODE, "x = 1", "print(x)", "SUBMIT(answer=x)", "FINAL(7)", "for i in x:\n    print(i)", "# look", "", "x = [1,", "look at it",
     's = """\n```\n[[ ## code ## ]]\n"""\nprint(s)', "print('a < b & c', \"\u201cd\u201d\")", "!ls\nx = 1", "%time x = 1", ">>> x = 1\n1",
     '{"code": "x"}', "f(\n    1,\n)", "print(\u201ca\u201d)", "x\u00a0= 1", "    x = 1\n    print(x)", "True", "42",
     's = """\n<code>\nprint(1)\n"""\nprint(s)', 's = """\n<tool_call>\n{"code": "x"}\n</tool_call>"""\nprint(s)']
)  # fmt: skip
LABELS = st.sampled_from(["python", "py", "", "repl", "json", "bash", "text", "output", "Python3", "{.python}", "yaml", "xyz", "main.py"])  # fmt: skip
PROSE = st.sampled_from(
    ["", "I look at it first.", "Output:\n7", "This prints:", "Code:", "1. Do it:", "> It says:", "Then I call SUBMIT(x).", "FINAL(7)",
     "Observation: 7", "[[ ## completed ## ]]", "[[ ## repl_history ## ]]\n7", "<think>hm</think>", "</think>", "<think>", "Thought: hm"]
)  # fmt: skip
INDENTS = st.sampled_from(["", "   ", "    ", "\t", "> ", "- "])


@st.composite
def fences(draw, inner=PROGRAMS):
    """A fence of any mark, label and indentation, that may be opened after a word, closed late, or not at all."""
    mark = draw(st.sampled_from(["```", "```", "````", "~~~", "`", "\u2019\u2019\u2019"]))
    opening = draw(st.sampled_from(["", "", "Code: ", "**", "1. "])) + mark + draw(LABELS)
    closing = draw(st.sampled_from([f"\n{mark}", f"\n{mark}", mark, "", f"\n{mark}{mark}", "\n</code>", f"\n{mark}<|im_end|>"]))  # fmt: skip
    indent = draw(INDENTS)
    text = f"{opening}\n{draw(inner)}{closing}"
    return "\n".join(indent + line for line in text.split("\n"))


SIMPLE = st.one_of(PROGRAMS, PROSE, fences())
NESTED = st.one_of(SIMPLE, fences(inner=SIMPLE))
TEXTS = st.lists(st.one_of(NESTED, st.text(max_size=8)), max_size=5).map("\n".join)


@st.composite
def sections(draw):
    """The fields that were asked for, of which some are missing, twice, in another order, or written otherwise."""
    names = draw(st.lists(st.sampled_from(["reasoning", "code", "code", "completed", "answer", "python_code"]), max_size=5))  # fmt: skip
    marker = draw(
        st.sampled_from(
            ["[[ ## {} ## ]]", "**[[ ## {} ## ]]**", "[[##{}##]]:", "## {}", "{}:", "<{}>"]
        )
    )
    end = draw(st.sampled_from(["\n", " ", "\n\n"]))
    return "\n\n".join(f"{marker.format(name)}{end}{draw(TEXTS)}" for name in names)


@st.composite
def objects(draw):
    """JSON, and what is nearly JSON, with the fields in any place, alone, in a fence or after prose."""
    fields = st.dictionaries(st.sampled_from(["reasoning", "code", "Code", "thought", "type", "name", "x"]), NESTED, max_size=3)  # fmt: skip
    value = draw(
        st.one_of(
            fields,
            st.lists(fields, max_size=2),
            st.fixed_dictionaries({"arguments": fields}),
            NESTED,
        )
    )
    written = draw(st.sampled_from([json.dumps, repr, lambda value: json.dumps(json.dumps(value)), lambda value: json.dumps(value, indent=2)]))  # fmt: skip
    text = written(value)
    text = text[: draw(st.integers(len(text) // 2, len(text)))] if draw(st.booleans()) else text
    wrap = draw(st.sampled_from(["{}", "```json\n{}\n```", "Sure!\n{}", "<tool_call>{}</tool_call>", "python({})", "{}\n{}"]))  # fmt: skip
    return wrap.replace("{}", text)


@st.composite
def elements(draw):
    """XML and the marks of other formats, closed or not."""
    name = draw(
        st.sampled_from(
            ["code", "python", "pre", "reasoning", "script", "tool_code", "parameter=code"]
        )
    )
    end = draw(st.sampled_from([f"\n</{name.partition('=')[0]}>", "", "\n</code>"]))
    return f"{draw(PROSE)}\n<{name}>\n{draw(NESTED)}{end}\n{draw(PROSE)}"


DAMAGES = st.sampled_from(
    [lambda text: text, html.escape, lambda text: html.escape(html.escape(text)), lambda text: json.dumps(text)[1:-1],
     lambda text: text.replace(" ", "\u00a0"), lambda text: f"\ufeff{text}", lambda text: text.replace("\n", "\r\n"),
     lambda text: text.replace('"', "\u201d"), lambda text: f"{text}<|im_end|>", lambda text: text.replace("x", "x\u200b"),
     lambda text: f"{text}\ud83d", lambda text: text.replace("(", "\uff08").replace(")", "\uff09")]
)  # fmt: skip
REPLIES = st.builds(
    lambda text, damage: damage(text), st.one_of(TEXTS, sections(), objects(), elements()), DAMAGES
)


@given(text=REPLIES, is_cut=st.booleans())
def test_any_reply_is_read(text, is_cut):
    """Every reply becomes code that it contains or a message, and the code is read as itself."""
    check(text, is_cut=is_cut)


@given(text=REPLIES)
def test_the_cost_is_linear(text):
    """A reply that repeats a structure many times costs no more than its size allows."""
    data = (text or "x").encode("utf-8", "surrogatepass")

    def read(data):
        read_reply(RawReply(data.decode("utf-8", "replace")))

    run(read, data * (30_000 // len(data) + 1), memory=False)  # measuring memory makes Python slow


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), NESTED, st.binary(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["code", "text", "name", "arguments", "function", "reasoning", 1, None]), inner, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip


@given(content=VALUES, thoughts=REPLIES, calls=st.lists(VALUES, max_size=2), is_cut=st.booleans())
def test_any_message_is_read(content, thoughts, calls, is_cut):
    """Contents, thoughts and tool calls of any shape become code or a message."""
    check_reading(read_reply(RawReply(content, thoughts, calls, is_cut)))


@given(code=REPLIES)
def test_any_code_field_is_read(code):
    """The code field of a user's own predictor becomes code or a message."""
    check_reading(read_code_field(code))


@pytest.mark.sampled(120)
@pytest.mark.parametrize("form", list(forms()), ids=lambda form: f"{form.kind}: {form.name}")
def test_the_rules_hold_for_every_known_form(form):
    """Each form of the corpus keeps the rules, and so does each beginning of it that a limit of tokens leaves."""
    text = form.text
    check(text, is_cut=form.is_cut)
    for end in range(1, len(text), max(len(text) // 8, 1)):
        check(text[:end], is_cut=True)


def test_the_rules_find_code_that_the_reply_does_not_contain():
    """A reading with another word, or with the same words in another order, breaks the rules; one with a repair does not."""
    assert not contains("```python\nprint(1)\n```", Reading(code="print(2)"))
    assert not contains("x = 1\nprint(y)", Reading(code="print(y)\nx = 1"))
    assert contains("print&#40;1)\\nx\u200b1", Reading(code="print(1)\nx1"))


def test_deeply_nested_messages_are_read():
    """Nesting without end is no error."""
    text, value = f"{'[' * 100_000}{']' * 100_000}", []
    for _ in range(5000):
        value = [value]
    for reply in (
        RawReply(text),
        RawReply(f'{{"code": {text}}}'),
        RawReply({"code": value}),
        RawReply(value),
    ):
        assert read_reply(reply).problem


def test_the_target_reads_every_channel():
    """The first byte of an input selects the channel of the rest."""
    for kind in range(8):
        replies(bytes([kind]) + b"```python\nx = 1\n```")
