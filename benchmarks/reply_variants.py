"""Further forms of replies: combinations of those of `reply_forms.py`, formats of other agents, cells, and cut-off replies.

Most were found by trying the reader on neighbours of known forms; those that it misread at first are among them.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.reply_parts import CODE, Message, fence, sections

LABELS = [
    "pyhton", "python_repl", "python-code", "cpython", "jupyter", "code_execution", "main.py", "src/main.py", ".py",
    "lang=python", "{code-cell} ipython3", "[python]", '"python"', "Python code", "{.python .numberLines}", "json",
]  # fmt: skip


def _indented(text: str, by: str) -> str:
    return "\n".join(by + line if line else line for line in text.split("\n"))


PLACES = {
    "tildes with attributes": f'~~~ {{.python .numberLines startFrom="1"}}\n{CODE}\n~~~',
    "tildes with a title": f'~~~python title="x.py"\n{CODE}\n~~~',
    "below a list item, by four blanks": f"1. Do it:\n\n{_indented(fence(), '    ')}\n2. done",
    "in a nested list": f"- a\n  - b\n\n{_indented(fence(label='py'), '      ')}",
    "below a list item, the code is not indented": f"1. Do it:\n    ```python\n{CODE}\n    ```",
    "below a list item, the end is not indented": f"1. Do it:\n   ```python\n{_indented(CODE, '   ')}\n```",
    "below a list item, by eight blanks": _indented(fence(), "        "),
    "a loop below a list item": "- Do it:\n\n    ```python\n    for i in [1]:\n        print(6 * 7 * 1001)\n    ```\n",
    "text after the closing fence": f"```python\n{CODE}\n``` That prints it.",
    "closed on the last line, after a blank": f"```python\n{CODE} ```",
    "closed after a comment": f"```python\n{CODE}  # done```\nGood.",
    "a bare fence after a word": f"Code: ```\n{CODE}\n```",
    "after a word, without a blank": f"Here is the code:{fence()}",
    "after a number": f"1.{fence()}",
    "in a heading": f"### Code {fence()}",
    "a bold fence": f"**```python**\n{CODE}\n**```**",
    "a lone closing fence, prose before": f"I compute the value.\n\n{CODE}\n```",
    "a lone closing fence before the last field": f"[[ ## reasoning ## ]]\nI look.\n[[ ## code ## ]]\n{CODE}\n```\n[[ ## completed ## ]]",
    "a label and a lone closing fence": f"python\n{CODE}\n```",
    "two backticks": f"``python\n{CODE}\n``",
    "three quotes": f"'''python\n{CODE}\n'''",
    "typographic quotes as a fence": f"\u2018\u2018\u2018python\n{CODE}\n\u2019\u2019\u2019",
    "accents as a fence": f"\u00b4\u00b4\u00b4python\n{CODE}\n\u00b4\u00b4\u00b4",
    "an indented block": f"I run:\n\n{_indented(CODE, '    ')}\n",
    "prose around code without a fence": f"I run this:\n\n{CODE}\n\nThat prints the value at once.",
    "prose after code without a fence": f"{CODE}\n\nThat prints the value, as you can see.",
    "prose around it in the field": sections(f"Here is the code:\n{fence()}\nIt prints."),
    "prose after code in the field": sections(f"{CODE}\n\nThis prints the value at once."),
    "prompts without a fence": "I do:\n\n>>> value = 6 * 7 * 1001\n>>> print(value)\n7",
    "Python in a shell": f"```bash\npython3 - <<'EOF'\n{CODE}\nEOF\n```",
    "Python in a shell, as an argument": "```bash\npython -c 'print(6 * 7 * 1001)'\n```",
    "HTML with line breaks": "<pre>value = 6 * 7 * 1001<br>print(value)</pre>",
    "HTML with a language and no code element": f'<pre lang="python">\n{CODE}\n</pre>',
    "HTML with entities": "<code>\nif 1 &lt; 2:\n    print(6 * 7 * 1001)\n</code>",
    "LaTeX": f"\\begin{{lstlisting}}[language=Python]\n{CODE}\n\\end{{lstlisting}}",
    "a forum's code": f"[code=python]\n{CODE}\n[/code]",
    "Python in brackets": f"[PYTHON]\n{CODE}\n[/PYTHON]",
    "reStructuredText": f"I run:\n\n.. code-block:: python\n\n{_indented(CODE, '    ')}\n",
}  # fmt: skip

_BOTH = {"reasoning": "I look.", "code": CODE}

FIELDS = {
    "JSON in the field, in a fence": sections(fence(json.dumps({"code": CODE}), "json")),
    "JSON in the field, in a fence of Python": sections(fence(json.dumps(_BOTH))),
    "JSON in a fence of Python": fence(json.dumps(_BOTH)),
    "JSON in the field, both": sections(json.dumps(_BOTH)),
    "a Python dict in the field": sections(repr({"code": CODE})),
    "JSON in the reasoning": f"[[ ## reasoning ## ]]\n{json.dumps(_BOTH)}\n\n[[ ## completed ## ]]",
    "JSON in an answer": json.dumps({"answer": _BOTH}),
    "JSON in a list of outputs": json.dumps({"outputs": [_BOTH]}),
    "JSON in a response, as a string": json.dumps({"response": json.dumps(_BOTH)}),
    "JSON of a JSON string": json.dumps(json.dumps(_BOTH)),
    "JSON with markers as names": json.dumps({"[[ ## reasoning ## ]]": "r", "[[ ## code ## ]]": CODE}),
    "JSON with names in capitals": json.dumps({"Reasoning": "r", "Code": CODE}),
    "JSON with pythonCode": json.dumps({"thought": "r", "pythonCode": CODE}),
    "JSON with a name of two words": json.dumps({"thought": "r", "Python code": CODE}),
    "JSON with code_block": json.dumps({"reasoning": "r", "code_block": CODE}),
    "JSON of a kind and a content": json.dumps({"reasoning": "r", "action": {"type": "code", "content": CODE}}),
    "JSON objects one after the other": f"{json.dumps({'reasoning': 'r'})}\n{json.dumps({'code': CODE})}",
    "JSON of two turns": f"{json.dumps(_BOTH)}\n{json.dumps({'reasoning': 'I saw 7.', 'code': 'SUBMIT(7)'})}",
    "JSON with tabs in strings": '{"reasoning": "r", "code": "if 1:\n\tprint(6 * 7 * 1001)"}',
    "JSON with quotes that are not escaped": '{"reasoning": "r", "code": "print("042", 6 * 7 * 1001)"}',
    "JSON with backticks for quotes": f'{{"reasoning": "r", "code": `{CODE}`}}',
    "JSON with comments": '{\n  // why\n  "reasoning": "r",\n  "code": "print(6 * 7 * 1001)"\n}',
    "JSON without quotes around names": '{reasoning: "r", code: "print(6 * 7 * 1001)"}',
    "JSON with entities": json.dumps({"code": "if 1 &lt; 2:\n    print(6 * 7 * 1001)"}),
    "JSON with an indented program": json.dumps({"code": "    value = 6 * 7 * 1001\n    print(value)"}),
    "JSON with a fence as the value": f'{{"reasoning": "r", "code": {fence()}}}',
    "JSON with a byte order mark": f"\ufeff{json.dumps(_BOTH)}",
    "all escaped": json.dumps(sections(fence()))[1:-1],
    "all in a JSON string": json.dumps(sections(fence())),
    "YAML in a fence": fence(f"reasoning: I look.\ncode: |\n{_indented(CODE, '  ')}", "yaml"),
    "YAML with a chomping mark": f"reasoning: I look.\ncode: |-\n{_indented(CODE, '  ')}",
    "thoughts in another case": f"<Think>plan {fence('wrong wrong')}</Think>\n{fence()}",
    "thoughts without an end": f"<think>\nI plan it.\n{fence()}",
    "thoughts in brackets": f"[THINK]plan {fence('x y')}[/THINK]{fence()}",
    "thoughts in triangles": f"\u25c1think\u25b7plan {fence('x y')}\u25c1/think\u25b7{fence()}",
    "thoughts in tokens": f"<|begin_of_thought|>plan {fence('x y')}<|end_of_thought|>\n{fence()}",
    "a draft in the reasoning": sections(fence(), f"I tried:\n{fence('wrong = 1')}"),
    "an output field after the code": f"[[ ## reasoning ## ]]\nr\n[[ ## code ## ]]\n{fence()}\n[[ ## answer ## ]]\n7",
    "a call of the tool": f"python(code={CODE!r})",
}  # fmt: skip

# The formats of tool calls and messages of models, where a server has not parsed them.
_ARGUMENTS = json.dumps({"code": CODE})
_ANALYSIS = "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant"
AGENTS = {
    "gpt-oss, the final channel": f"{_ANALYSIS}<|channel|>final<|message|>{fence()}",
    "gpt-oss, code for Python": f"{_ANALYSIS}<|channel|>commentary to=python <|constrain|>code<|message|>{CODE}<|call|>",
    "gpt-oss, code in the final channel": f"<|channel|>final<|message|>{CODE}<|return|>",
    "Llama, a tag": f"<|python_tag|>{CODE}<|eom_id|>",
    "Llama, JSON": json.dumps({"type": "function", "name": "python", "parameters": {"code": CODE}}),
    "Mistral, arguments": f"[TOOL_CALLS]python[ARGS]{_ARGUMENTS}",
    "DeepSeek, tokens": (
        "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>python\n"
        f"```json\n{_ARGUMENTS}\n```<\uff5ctool\u2581call\u2581end\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>"
    ),
    "GLM, keys and values": f"<tool_call>python\n<arg_key>code</arg_key>\n<arg_value>{CODE}</arg_value>\n</tool_call>",
    "Qwen, XML": f"<tool_call>\n<function=python>\n<parameter=code>\n{CODE}\n</parameter>\n</function>\n</tool_call>",
    "Claude, XML": f'<function_calls>\n<invoke name="python">\n<parameter name="code">{CODE}</parameter>\n</invoke>\n</function_calls>',
    "a name and an action": json.dumps({"action": "Python REPL", "action_input": CODE}),
}  # fmt: skip

DAMAGE = {
    "entities escaped twice": fence("if 2 &amp;gt; 1:\n    print(6 * 7 * 1001)"),
    "quotes as entities": fence("print(&quot;a&quot;, &#39;b&#39;, 6 * 7 * 1001)"),
    "escaped quotes in a fence": fence('print(\\"a\\", 6 * 7 * 1001)'),
    "line ends as \\n after the label": "```python\\nvalue = 6 * 7 * 1001\\nprint(value)\\n```",
    "escapes of characters": fence("print(\\u0022a\\u0022, 6 * 7 * 1001)"),
    "backslashes of Markdown": fence("my\\_value = 6 \\* 7 * 1001\nprint(my\\_value)"),
    "non-breaking blanks between words": fence("value\u00a0=\u00a06\u00a0* 7 * 1001\nprint(value)"),
    "a non-breaking blank before the label": f"```\u00a0python\n{CODE}\n```",
    "non-breaking blanks before the fence": f"\u00a0\u00a0{fence()}",
    "a blank of no width in a name": fence("va\u200blue = 6 * 7 * 1001\nprint(value)"),
    "a blank of no width before the fence": f"\u200b{fence()}",
    "a byte order mark before the fields": f"\ufeff{sections(fence())}",
    "typographic quotes around an apostrophe": fence("print(\u201cit's\u201d, 6 * 7 * 1001)"),
    "typographic quotes of an f-string": fence("print(f\u201c{6 * 7 * 1001}\u201d)"),
    "typographic quotes, three each": fence(
        "s = \u201c\u201c\u201chi\u201d\u201d\u201d\nprint(6 * 7 * 1001)"
    ),
    "uniform indentation by tabs": fence("\tvalue = 6 * 7 * 1001\n\tprint(value)"),
    "uniform indentation below a comment": fence(
        "# look\n    value = 6 * 7 * 1001\n    print(value)"
    ),
    "%time before a statement": fence("%time value = 6 * 7 * 1001\nprint(value)"),
    "%%timeit with options": fence(f"%%timeit -n 1\n{CODE}"),
    "a shell line that is assigned": fence(f"files = !ls\n{CODE}"),
    "a shell line in a block": fence(f"if True:\n    !ls\n{CODE}"),
    "cell magic and an installation": fence(f"%%capture\n!pip install pandas\n{CODE}"),
    "a question mark after a name": fence(f"{CODE}\nvalue?"),
    "a prompt of a shell": fence(f"$ pip install x\n{CODE}"),
    "prompts without blanks": ">>>value = 6 * 7 * 1001\n>>>print(value)",
    "prompts over lines": fence(">>> for i in range(1):\n...     print(6 * 7 * 1001)\n... \n7"),
}

SEVERAL = {
    "an invented value is submitted": f"{fence()}\nThis prints 7. Now I submit it.\n{fence('SUBMIT(answer=7)')}",
    "an invented value is submitted at once": f"{fence()}\n{fence('SUBMIT(answer=chr(55))')}",
    "an invented value in a variable": f"{fence()}\nWe see 7, so:\n{fence('answer = 7' + chr(10) + 'SUBMIT(answer=answer)')}",
    "an invented value for FINAL": f"{fence()}\n{fence('FINAL(7)')}",
    "an invented output in a bare fence": f"{fence()}\nThis gives:\n```\n7\n```\nSo:\n{fence('SUBMIT(7)')}",
    "an invented output in a fence of text": f"{fence()}\nwhich prints\n```text\n7\n```\nSo:\n{fence('SUBMIT(7)')}",
    "an invented output in a comment": fence(f"{CODE}\n# Output: 7"),
    "a part without a label after it": f"{fence('value = 6 * 7 * 1001')}\nthen\n{fence('print(value)', '')}",
    "a part without a label before it": f"{fence('value = 6 * 7 * 1001', '')}\nthen\n{fence('print(value)')}",
    "an empty block, then a bare one": f"{fence('')}\n{fence(label='')}",
    "steps in prose": f"Step 1:\n{fence('value = 6 * 7 * 1001')}\nStep 2:\n{fence('print(value)')}\nStep 3: the answer.",
    "fields twice": f"{sections(fence())}\n\n{sections(fence())}",
    "FINAL in the prose before it": f"When done I call FINAL(answer).\n{fence()}",
    "FINAL in the reasoning": sections(fence(), "Later I use FINAL(value)."),
}  # fmt: skip

# Programs whose strings hold what readers of replies look for.
PROGRAMS = {
    "the end of thoughts in a string": 'x = "a</think>b".split("</think>")[-1]\nprint(6 * 7 * 1001)',
    "thoughts in an expression": 'import re\nx = re.sub(r"<think>.*?</think>", "", "a")\nprint(6 * 7 * 1001)',
    "thoughts on lines of a string": 's = """\n<think>\na\n</think>\nb"""\nprint(6 * 7 * 1001)',
    "an element on lines of a string": 's = """\n<code>\nx\n</code>\n"""\nprint(6 * 7 * 1001)',
    "HTML on a line of a string": 's = """\n<pre>x</pre>\n"""\nprint(6 * 7 * 1001)',
    "a dict like a reply": 'data = {"code": "x", "reasoning": "y"}\nprint(6 * 7 * 1001)',
    "a dict like a reply at its start": '{"code": "x", "reasoning": "y"}\nprint(6 * 7 * 1001)',
    "tokens in a string": 's = "<|channel|>final<|message|>x"\nprint(6 * 7 * 1001)',
    "typographic quotes on a line of a string": 's = """\n\u2019\u2019\u2019\n"""\nprint(6 * 7 * 1001)',
    "shell lines in a string": 's = """\nname?\n!ls\n%time x\n"""\nprint(6 * 7 * 1001)',
    "a remainder on a line of its own": "a = 84085\nb = 42043\nx = a \\\n  %b\nprint(x)",
    "a comparison on a line of its own": "x = (1\n != 2)\nprint(6 * 7 * 1001 if x else 0)",
    "a fence of tildes in a string": 's = """\n~~~python\nx\n~~~\n"""\nprint(6 * 7 * 1001)',
    "fields in a string": 's = """[[ ## reasoning ## ]]\nr\n[[ ## completed ## ]]"""\nprint(6 * 7 * 1001)',
}  # fmt: skip

# Code that no reader has to change, and that fails in other REPLs.
CELLS = {
    "true, false and null": 'row = {"a": true, "b": null}\nprint(6 * 7 * 1001 if row["a"] and not row["b"] else 0)',
    "true as a name of the cell": "true = 0\nprint(6 * 7 * 1001 if not true else 0)\ndel true",
    "true in nested functions": (
        "def f():\n    def g():\n        return [x for x in (true, false, null)]\n    return g()\n"
        "print(6 * 7 * 1001 if f() == [True, False, None] else 0)"
    ),
    "true in an f-string": 'print(f"{6 * 7 * 1001 if true else null}")',
    "true in a class": "class A:\n    x = true\n    y: bool = false\nprint(6 * 7 * 1001 if A.x else 0)",
    "true as an argument": "def f(true=1):\n    return true\nprint(6 * 7 * 1001 if f() == 1 and true is True else 0)",
    "JSON that was pasted": (
        'data = {\n  "items": [{"ok": true, "n": null, "x": NaN}]\n}\n'
        'print(6 * 7 * 1001 if data["items"][0]["ok"] else 0)'
    ),
    "exit at the end": f"{CODE}\nexit()",
    "quit in a condition": f"if False:\n    quit()\n{CODE}",
    "sys.exit at the end": f"import sys\n{CODE}\nsys.exit(0)",
    "a main function": "def main():\n    print(6 * 7 * 1001)\n\nif __name__ == '__main__':\n    main()",
}


def _call(arguments: str, name: str = "python") -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def _calls(*calls: dict[str, Any], content: str | None = None) -> Message:
    return {"content": content, "tool_calls": list(calls)}


CHANNELS: dict[str, Message] = {
    "as a tool call, encoded twice": _calls(_call(json.dumps(_ARGUMENTS))),
    "as a tool call with another argument": _calls(_call(json.dumps({"input": CODE}))),
    "as a tool call with __arg1": _calls(_call(json.dumps({"__arg1": CODE}), "Python_REPL")),
    "as a tool call with a fence": _calls(_call(json.dumps({"code": fence()}))),
    "as a tool call of a fence": _calls(_call(fence())),
    "as two tool calls": _calls(
        _call(json.dumps({"code": "value = 6 * 7 * 1001"})), _call(json.dumps({"code": "print(value)"}))
    ),
    "as a tool call of both fields": _calls(_call(json.dumps(_BOTH), "respond")),
    "as a tool call beside prose": _calls(_call(_ARGUMENTS), content="I will run it."),
    "as a tool call beside the reasoning": _calls(_call(_ARGUMENTS), content="[[ ## reasoning ## ]]\nI run it."),
    "JSON in the reasoning channel": {"content": None, "reasoning_content": json.dumps(_BOTH)},
    "tildes in the reasoning channel": {"content": "", "reasoning_content": f"I do\n{fence(mark='~~~')}"},
    "a bare fence in the reasoning channel": {"content": "", "reasoning_content": f"I do\n{fence(label='')}"},
    "in the reasoning channel, beside a marker": {"content": "[[ ## completed ## ]]", "reasoning_content": sections(fence())},
    "in the reasoning channel, beside empty fields": {"content": sections("", ""), "reasoning_content": fence()},
    "content of parts": {"content": [{"type": "text", "text": "I look.\n"}, {"type": "text", "text": fence()}]},
    "a fence over two parts": {
        "content": [
            {"type": "text", "text": "```python\nvalue = 6 * 7 * 1001"},
            {"type": "text", "text": "\nprint(value)\n```"},
        ]
    },
}  # fmt: skip

# Replies without code that should run, with the cause of the message.
NOTHING: dict[str, tuple[Message, str]] = {
    "a refusal": ({"content": None, "refusal": "I cannot do that."}, "empty"),
    "thoughts alone": ({"content": "<think>I plan it.</think>"}, "empty"),
    "thoughts alone, in their channel": ({"content": "", "reasoning_content": "I plan it."}, "empty"),
    "a field of outputs alone": ({"content": "[[ ## answer ## ]]\n7\n[[ ## completed ## ]]"}, "unreadable"),
    "another language beside prose": ({"content": f"I would:\n{fence('console.log(1)', 'js')}"}, "other_language"),
    "an output alone": ({"content": "```output\nvalue = 7\n```"}, "other_language"),
    "a submission below prose, in a bare fence": ({"content": f"It says:\n{fence('SUBMIT(7)', '')}\nNo."}, "quoted"),
    "a submission in a shell": ({"content": f"It says:\n{fence(chr(10).join(['python - <<E', 'SUBMIT(7)', 'E']), 'sh')}"}, "quoted"),
    "a submission in HTML below prose": ({"content": "It says:\n<pre>SUBMIT(7)</pre>\nNo."}, "quoted"),
    "a submission before a lone closing fence": ({"content": "It says:\n\nSUBMIT(7)\n```\nNo."}, "quoted"),
    "magic alone": ({"content": fence("%matplotlib inline")}, "shell"),
    "a comment in a tool call": (_calls(_call(json.dumps({"code": "# nothing"}))), "empty"),
}  # fmt: skip

# Replies that the limit of tokens cut off; the code of some is complete.
CUT: dict[str, tuple[Message, bool]] = {
    "in the closing fence": ({"content": f"```python\n{CODE}\n``"}, True),
    "after the block, in a marker": ({"content": f"{fence()}\n\n[[ ## comple"}, True),
    "after the tildes": ({"content": f"{fence(mark='~~~')}\nTh"}, True),
    "after a lone closing fence": ({"content": f"{CODE}\n```\nTh"}, True),
    "in the reasoning of JSON, after the code": ({"content": f'{{"code": {json.dumps(CODE)}, "reasoning": "I th'}, True),
    "after the element": ({"content": f"<code>\n{CODE}\n</code>\nAnd"}, True),
    "after a block in thoughts": ({"content": f"<think>draft\n{fence()}\nhm"}, True),
    "in the element": ({"content": f"<code>\n{CODE}\n"}, False),
    "in the thoughts": ({"content": "<think>I th"}, False),
    "in code without a fence": ({"content": f"{CODE}\nx = "}, False),
    "in a tool call": (_calls(_call('{"code": "value = 6 * 7')), False),
    "after a tool call": (_calls(_call(_ARGUMENTS)), True),
    "in the reasoning channel": ({"content": "", "reasoning_content": "I think"}, False),
    "in a block of the reasoning channel": ({"content": "", "reasoning_content": "I do\n```python\nx = 1"}, False),
    "after a block of the reasoning channel": ({"content": "", "reasoning_content": f"I do\n{fence()}"}, True),
}  # fmt: skip
