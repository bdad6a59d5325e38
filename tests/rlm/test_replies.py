"""The reader of replies: every form from which code is read, and every form that gets a message."""

from __future__ import annotations

import json

import pytest

from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.messages import PROBLEMS, REPAIRS
from dspy_rlm.replies.reader import MAX_REPLY_CHARS, read_code_field, read_reply

CODE = "x = 1\nprint(x)"


def fence(code=CODE, label="python", mark="```"):
    """The code in a fence."""
    return f"{mark}{label}\n{code}\n{mark}"


def sections(code, reasoning="r"):
    """A reply in the format of `ChatAdapter`."""
    return (
        f"[[ ## reasoning ## ]]\n{reasoning}\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"
    )


def code_of(text, **channels):
    """The code that is run."""
    reading = read_reply(RawReply(text, **channels))
    assert reading.problem == "", reading.problem
    return reading.code.strip("\n")


LABELS = [
    "python", "py", "repl", "Python3", "PYTHON", 'python title="a"', "{.python}", "{python}", "python3.11",
    "tool_code", "", " python", "Python 3", "ipython", "python:main.py", "python,linenos", "code", "text",
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("form", [sections, lambda block: f"First I look.\n\n{block}"])
def test_a_fence_with_any_label_of_python_is_code(label, form):
    """A label in another case, with attributes or a version, or none at all."""
    assert code_of(form(fence(label=label))) == CODE


FORMS = {
    "tildes": fence(mark="~~~"),
    "four backticks": fence(mark="````"),
    "in a list": "1. Do:\n   ```python\n   x = 1\n   print(x)\n   ```\n2. done",
    "as a list item": "- ```python\n  x = 1\n  print(x)\n  ```",
    "in a quotation": "> ```python\n> x = 1\n> print(x)\n> ```",
    "after a word": f"Code: {fence()}",
    "closed at the end of a line": "```python\nx = 1\nprint(x)```\nThis prints.",
    "closed at the end of the field": sections("```python\nx = 1\nprint(x)```"),
    "closed beside the next marker": "[[ ## code ## ]]\n```python\nx = 1\nprint(x)\n```[[ ## completed ## ]]",
    "never closed": "```python\nx = 1\nprint(x)",
    "closed by the next field": "[[ ## code ## ]]\n```python\nx = 1\nprint(x)\n\n[[ ## completed ## ]]",
    "a lone closing fence": f"{CODE}\n```",
    "a lone closing fence in the field": sections(f"{CODE}\n```"),
    "a lone closing fence before prose": f"{CODE}\n```\nThis prints one.",
    "in a fence of Markdown": f"```markdown\n{fence()}\n```",
    "in a bare fence": f"```\n{fence()}\n```",
    "a plan in a fence before": f"Plan:\n```\n1. look\n2. count\n```\nThen:\n{fence()}",
    "a plan before a bare fence": f"Plan:\n```\n1. look\n2. count\n```\nThen:\n{fence(label='')}",
    "data in a fence before": f'Data is:\n```json\n{{"a": 1}}\n```\n{fence()}',
    "data before a bare fence": f'Data is:\n```\n{{"a": 1}}\n```\n{fence(label="")}',
    "no fence": CODE,
    "no fence in the field": sections(CODE),
    "a label without a fence": sections(f"python\n{CODE}"),
    "prose before code without a fence": f"Let me look.\n\n{CODE}",
    "reasoning is missing": f"[[ ## code ## ]]\n{fence()}",
    "both fields in one": f"[[ ## reasoning ## ]]\nI do it.\n{fence()}",
    "code before reasoning": f"[[ ## code ## ]]\n{fence()}\n\n[[ ## reasoning ## ]]\nI look.",
    "markers in bold": f"**[[ ## code ## ]]**\n{fence()}",
    "an empty field first": f"[[ ## code ## ]]\n\n[[ ## reasoning ## ]]\nI look.\n{fence()}",
    "JSON": json.dumps({"reasoning": "r", "code": CODE}),
    "JSON with a fence in it": json.dumps({"reasoning": "r", "code": fence()}),
    "JSON in a fence": f"```json\n{json.dumps({'reasoning': 'r', 'code': CODE})}\n```",
    "JSON with line ends": '{"reasoning": "r", "code": "x = 1\nprint(x)"}',
    "a Python dict": "{'reasoning': 'r', 'code': 'x = 1\\nprint(x)'}",
    "JSON with a list of lines": json.dumps({"reasoning": "r", "code": CODE.split("\n")}),
    "JSON after prose": f"Sure!\n{json.dumps({'reasoning': 'r', 'code': CODE})}",
    "JSON in the field": sections(json.dumps({"code": CODE})),
    "JSON in a list": json.dumps([{"reasoning": "r", "code": CODE}]),
    "JSON of a call": json.dumps({"name": "python", "arguments": {"code": CODE}}),
    "JSON in JSON": json.dumps({"function": "repl", "arguments": json.dumps({"code": CODE})}),
    "code as an object": json.dumps({"code": {"language": "python", "content": CODE}}),
    "XML": f"<reasoning>\nr\n</reasoning>\n<code>\n{CODE}\n</code>",
    "XML never closed": f"<reasoning>r</reasoning>\n<code>\n{CODE}",
    "a tool call as text": f"<tool_call>{json.dumps({'name': 'python', 'arguments': {'code': CODE}})}</tool_call>",
    "thoughts with a draft": f"<think>hmm {fence('bad')}</think>\n{fence()}",
    "thoughts with letters that grow in lower case": f"<Think>\u0130\u0130\u0130</Think>{fence()}",
    "thoughts without a beginning": f"hmm\n</think>\n{fence()}",
    "a token of the template": f"{fence()}<|im_end|>",
    "a token after bare code": f"{CODE}<|im_end|>",
    "a draft that is written again": f"{fence('x = 1')}\nbetter:\n{fence()}",
    "the same block twice": f"{fence()}\nAgain:\n{fence()}",
    "a byte order mark": f"\ufeff{fence()}",
    "line ends of Windows": fence().replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_code_is_found_in_any_form(text):
    """A clear meaning needs no second request."""
    assert code_of(text) == CODE


CODES = [
    "marker = \"'''\"\nprint(len(marker))",
    "# do not use ''' here\nprint(3)",
    'def f():\n    """It is a \'\'\' mark."""\nprint(3)',
    's = """\n```\nx\n```\n"""\nprint(s)',
    's = """\n```json\n{}\n```\n"""\nprint(s)',
    'print("```")',
    's = "[[ ## code ## ]]"\nprint(s)',
    's = """\n[[ ## code ## ]]\n"""\nprint(s)',
    "# ends with ```\nprint(1)",
    'print(f"{d["a"]}")',
    'print(f"{d["a"]:>{w}} {{}}")',
    'md = """```python\nprint(1)\n```"""\nprint(md)',
    "print('<code>x</code>')",
    "s = '&lt;'\nprint(s)",
    "s = '“quoted”'\nprint(s)",
    "s = 'a\u00a0b\u200b'\nprint(s)",
    "if True:\n\tprint(1)",
    "d = {'code': 'x', 'reasoning': 'y'}\nprint(d)",
    "await f.aio(1)",
    "print('Output: 1')\n# Output: 2",
]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    "form",
    [
        lambda code: sections(fence(code)),
        lambda code: f"{fence(code)}\nThat prints it.",
        sections,
        lambda code: json.dumps({"reasoning": "r", "code": code}),
    ],
    ids=["section", "bare", "unfenced", "json"],
)
def test_code_arrives_as_it_was_written(code, form):
    """Fences, quotes and markers in strings and comments are part of the code; nothing in it is changed."""
    assert code_of(form(code)) == code


@pytest.mark.parametrize(
    ("repair", "text", "code"),
    [
        ("escapes", sections(CODE.replace("\n", "\\n")), CODE),
        ("escapes", sections('print(\\"a\\")\\nx = \\"b\\\\n\\"'), 'print("a")\nx = "b\\n"'),
        ("entities", sections("if 1 &lt; 2:\n    print(&quot;a&quot;)"), 'if 1 < 2:\n    print("a")'),
        ("blanks", sections(fence("if 1:\n\u00a0\u00a0print('a\u00a0b')")), "if 1:\n  print('a\u00a0b')"),
        ("blanks", sections(fence("\u200bx = 1\nprint(x)\u200b")), CODE),
        ("quotes", sections(fence("print(\u201cit\u2019s\u201d, \u2018b\u2019)")), 'print("it\u2019s", "b")'),
        ("indentation", sections(fence("    x = 1\n    print(x)")), CODE),
        ("indentation", sections("x = 1\n    print(x)"), CODE),
        ("prompts", fence(">>> x = 1\n>>> print(x)\n1", "pycon"), CODE),
        ("shell_lines", sections(fence("%matplotlib inline\n!pip install x\nx = 1\nprint(x)")), CODE),
        ("line_numbers", fence("1: x = 1\n2: print(x)"), CODE),
        ("quoted_code", sections(json.dumps(["x = 1", "print(x)"])), CODE),
        ("quoted_code", sections(json.dumps(CODE)), CODE),
        ("text_after_the_code", f"{fence()}\n\nOutput (2 chars):\n1", CODE),
        ("text_after_the_code", f"{sections(fence())}\n\n[[ ## repl_history ## ]]\n1\n{sections(fence('y'))}", CODE),
    ],
)  # fmt: skip
def test_damage_is_repaired_and_named(repair, text, code):
    """Code that does not compile is repaired if exactly that makes it compile; the repair has a name."""
    reading = read_reply(RawReply(text))

    assert reading.code.strip("\n") == code
    assert repair in reading.repairs
    assert set(reading.repairs) <= set(REPAIRS)


@pytest.mark.parametrize(
    ("channels", "repair"),
    [
        ({"thoughts": f"I think\n{fence()}"}, "reasoning_channel"),
        ({"thoughts": sections(fence())}, "reasoning_channel"),
        ({"tool_calls": [{"function": {"name": "python", "arguments": json.dumps({"code": CODE})}}]}, "tool_call"),
        ({"tool_calls": [{"function": {"name": "python", "arguments": json.dumps({"partial_json": CODE})}}]}, "tool_call"),
        ({"text": [{"type": "text", "text": fence()}]}, None),
        ({"text": {"reasoning": "a", "code": CODE}}, None),
    ],
)  # fmt: skip
def test_code_in_another_channel_is_found(channels, repair):
    """Servers put replies into the reasoning, into tool calls, or into lists of parts."""
    reading = read_reply(RawReply(**{"text": None, **channels}))

    assert reading.code == CODE
    assert reading.repairs == ((repair,) if repair else ())


def test_a_tool_call_of_a_function_is_a_call():
    """A model that knows functions of its own calls one of the REPL's."""
    call = {"function": {"name": "search", "arguments": json.dumps({"q": "x", "n": 2})}}

    assert code_of(None, tool_calls=[call]) == "search(q='x', n=2)"


ELEMENTS_IN_CODE = [
    's = """\n<code>\nprint(1)\n</code>\n"""\nprint(s)',
    's = """\n<code>\nprint(1)\n"""\nprint(s)',
    '# <code>\ns = "<code>"\nprint(s)',
    's = """\n<tool_call>\n{"code": "print(1)"}\n</tool_call>"""\nprint(s)',
    's = """\n<reasoning>r</reasoning>\n<code>\nprint(1)\n</code>"""\nprint(s)',
]


@pytest.mark.parametrize("code", ELEMENTS_IN_CODE)
@pytest.mark.parametrize("mark", ["```", "~~~"])
def test_an_element_inside_of_a_block_is_code(code, mark):
    """The block is read, alone, below prose, and with an element in the prose after it."""
    block = fence(code, mark=mark)

    for form in (
        block,
        f"First I look.\n\n{block}",
        sections(block),
        f"{block}\nThis prints <b>s</b>.",
    ):
        assert code_of(form) == code


@pytest.mark.parametrize("block", [fence(), fence(ELEMENTS_IN_CODE[0])])
def test_a_block_inside_of_an_element_is_its_code(block):
    """The element opens before the block."""
    code = block.removeprefix("```python\n").removesuffix("\n```")

    assert code_of(f"<reasoning>r</reasoning>\n<code>\n{block}\n</code>") == code


class TestSeveralBlocks:
    """Several blocks run as one cell if they read as one program."""

    def test_all_run_in_order(self):
        """Prose between them changes nothing."""
        text = f"First:\n{fence('a = 1')}\nThen:\n{fence('print(a)')}"

        assert code_of(text) == "a = 1\n\nprint(a)"

    @pytest.mark.parametrize(
        ("text", "code", "reason"),
        [
            (f"{fence('SUBMIT(1)')}\nor\n{fence('print(2)')}", "SUBMIT(1)", "ends the run"),
            (f"{fence('print(1)')}\nOutput:\n1\n{fence('print(2)')}", "print(1)", "claims an output"),
            (f"{fence('print(1)')}\n```output\n1\n```\n{fence('print(2)')}", "print(1)", "claims an output"),
            (f"{fence('print(1)')}\n{fence('print(')}", "print(1)", "not valid Python"),
            (f"{fence('look at it')}\n{fence('print(2)')}", "print(2)", "not valid Python"),
        ],
    )  # fmt: skip
    def test_the_first_runs_and_the_rest_is_named(self, text, code, reason):
        """A block after a SUBMIT, or after an output that the model invented, does not run."""
        reading = read_reply(RawReply(text))

        assert reading.code == code
        assert any(reason in note for note in reading.notes)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "empty"),
        (None, "empty"),
        ("  \n ", "empty"),
        (fence(""), "empty"),
        (sections(fence("")), "empty"),
        (json.dumps({"reasoning": "r", "code": None}), "empty"),
        ("hello", "unreadable"),
        ("42", "unreadable"),
        ("I would look at the first lines, and then count.", "unreadable"),
        (
            "I have to look first.\nFINAL(answer) comes last.\nNow I read it (it is large)",
            "unreadable",
        ),
        ("The document says:\n\nFINAL('pwned')", "quoted"),
        ("The document says:\n\nSUBMIT('pwned')", "quoted"),
        ("It says:\n```\nFINAL('pwned')\n```\nI will not do that.", "other_language"),
        (fence("ls -la", "bash"), "other_language"),
        (f"I would list it:\n{fence('select 1', 'sql')}", "other_language"),
        (fence("console.log(1)", "javascript"), "other_language"),
        (fence("!ls -la"), "shell"),
        ("x" * (MAX_REPLY_CHARS + 1), "too_long"),
    ],
)
def test_a_reply_without_code_gets_a_message(text, cause):
    """The message says why nothing was run, and what to write instead."""
    reading = read_reply(RawReply(text))

    assert (reading.code, reading.cause) == ("", cause)
    assert reading.problem.startswith("No code was run: ")
    assert set(PROBLEMS) >= {cause}


@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = [1, 2",
        "```python\nx = 1\nprint(x)",
        "I think that",
        "",
        "[[ ## code ## ]]\nx = 1",
        "[[ ## reasoning ## ]]\nI think",
        '{"reasoning": "r", "code": "x = 1',
    ],
)
def test_a_reply_that_was_cut_off_is_not_run(text):
    """Code without its end may do something else than was meant."""
    reading = read_reply(RawReply(text, is_cut=True))

    assert (reading.code, reading.cause) == ("", "cut_off")


@pytest.mark.parametrize(
    "text",
    [f"{fence()}\nAnd then I", sections(fence()), sections(CODE), json.dumps({"code": CODE})],
)
def test_complete_code_of_a_reply_that_was_cut_off_runs(text):
    """The text that was cut off came after the code."""
    assert code_of(text, is_cut=True) == CODE


@pytest.mark.parametrize(
    "entity", ["&#" + "9" * 5_000, "&#x" + "f" * 5_000, "&#0", "&" + "a" * 5_000]
)
def test_an_entity_that_is_no_character(entity):
    """A reply with an impossible HTML entity, such as a number of 5,000 digits, is read like any other."""
    reading = read_code_field(f"if 1 &lt; 2:\n    print('{entity};')")

    assert "if 1" in reading.code


def test_a_code_field_is_run_as_it_is():
    """A code field that is no Python shows its error, and one that is a name shows its value."""
    assert read_code_field("x").code == "x"
    assert read_code_field(fence("x = = 1"), "why").code == "x = = 1"
    assert read_code_field("x", "why").reasoning == "why"
