"""Forms in which language models reply with code: ours, those of public reports, those of a real small model.

Each form carries the same program, whose output is not in its text, so a later prompt shows whether it was run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import reply_variants as variants
from benchmarks.reply_parts import CODE, OUTPUT, Form, Message, fence, sections

LABELS = [
    "python", "py", "repl", "Python3", "PYTHON", 'python title="a.py"', "{.python}", "{python}", "python3.11",
    "tool_code", "", " python", "Python 3", "ipython", "python:main.py", "python,linenos", "code", "text", "python-repl",
]  # fmt: skip

PLACES = {
    "tildes": fence(mark="~~~"),
    "four backticks": fence(mark="````"),
    "below a list item": "1. Do this:\n   ```python\n   value = 6 * 7 * 1001\n   print(value)\n   ```\n2. done",
    "as a list item": "- ```python\n  value = 6 * 7 * 1001\n  print(value)\n  ```",
    "indented with a tab": "1. Do this:\n\t```python\n\tvalue = 6 * 7 * 1001\n\tprint(value)\n\t```",
    "in a quotation": "> ```python\n> value = 6 * 7 * 1001\n> print(value)\n> ```",
    "after a word": f"Code: {fence()}",
    "after a bold word": f"**Code:** {fence()}",
    "below a heading": f"### Code\n{fence()}",
    "closed on the last line of code": f"```python\n{CODE}```\nThis prints it.",
    "closed on the last line, in the field": sections(f"```python\n{CODE}```"),
    "closed beside the next marker": f"[[ ## code ## ]]\n```python\n{CODE}\n```[[ ## completed ## ]]",
    "never closed": f"```python\n{CODE}",
    "never closed, in the field": sections(f"```python\n{CODE}\n"),
    "closed by the next field": f"[[ ## code ## ]]\n```python\n{CODE}\n\n[[ ## completed ## ]]",
    "closed by fewer backticks": f"````python\n{CODE}\n```",
    "closed by tildes": f"```python\n{CODE}\n~~~",
    "a lone closing fence": f"{CODE}\n```",
    "a lone closing fence, in the field": sections(f"{CODE}\n```"),
    "a lone closing fence before prose": f"{CODE}\n```\nThis prints it.",
    "in a fence of Markdown": f"```markdown\n{fence()}\n```",
    "in a bare fence": f"```\n{fence()}\n```",
    "a bare fence before the fence": f"```\n{fence()}",
    "the opening fence twice": f"```python\n{fence()}",
    "a plan in a fence before": f"Plan:\n```\n1. look\n2. count\n```\nThen:\n{fence()}",
    "a plan before a bare fence": f"Plan:\n```\n1. look\n2. count\n```\nThen:\n{fence(label='')}",
    "data in a fence before": f'The data is:\n```json\n{{"a": 1}}\n```\n{fence()}',
    "data before a bare fence": f'The data is:\n```\n{{"a": 1}}\n```\n{fence(label="")}',
    "a shell command before": f"```bash\nls\n```\n{fence()}",
    "no fence": CODE,
    "no fence, in the field": sections(CODE),
    "a label without a fence": sections(f"python\n{CODE}"),
    "prose before code without a fence": f"Let me look at the value.\n\n{CODE}",
    "on one line": "```python print(6 * 7 * 1001)```",
    "in single backticks": "`print(6 * 7 * 1001)`",
    "code after the label": "```python import math\nprint(6 * 7 * 1001)\n```",
    "a blank line after the opening": f"```python\n\n\n{CODE}\n\n```",
    "blanks after the closing": f"```python\n{CODE}\n```   \n\n",
    "prose after it": f"{fence()}\nThis prints the value, and then I will submit it.",
    "a fence in HTML": f"<details>\n\n{fence()}\n\n</details>",
    "HTML code": f"<pre><code>\n{CODE}\n</code></pre>",
    "HTML code with a language": f'<pre><code class="language-python">\n{CODE}\n</code></pre>',
}

FIELDS = {
    "as asked": sections(fence()),
    "reasoning is missing": f"[[ ## code ## ]]\n{fence()}",
    "reasoning is empty": sections(fence(), ""),
    "both in one": f"[[ ## reasoning ## ]]\nI do it.\n{fence()}",
    "code before reasoning": f"[[ ## code ## ]]\n{fence()}\n\n[[ ## reasoning ## ]]\nI look.",
    "markers in bold": f"**[[ ## reasoning ## ]]**\nI look.\n**[[ ## code ## ]]**\n{fence()}",
    "markers as headings": f"## reasoning\nI look.\n\n## code\n{fence()}",
    "markers without brackets": f"## Reasoning ##\nI look.\n\n## Code ##\n{fence()}",
    "names with colons": f"Reasoning: I look.\n\nCode:\n{fence()}",
    "names with colons, no fence": f"reasoning: I look.\ncode:\n{CODE}",
    "markers in capitals": f"[[ ## REASONING ## ]]\nI look.\n[[ ## CODE ## ]]\n{fence()}",
    "markers with a colon": f"[[ ## reasoning ## ]]: I look.\n[[ ## code ## ]]:\n{fence()}",
    "markers without blanks": f"[[##reasoning##]]\nI look.\n[[##code##]]\n{fence()}",
    "code beside its marker": f"[[ ## reasoning ## ]] I look.\n[[ ## code ## ]] {fence()}",
    "no completed marker": f"[[ ## reasoning ## ]]\nI look.\n[[ ## code ## ]]\n{fence()}",
    "prose before the markers": f"Sure!\n\n{sections(fence())}",
    "an empty field first": f"[[ ## code ## ]]\n\n[[ ## reasoning ## ]]\nI look.\n{fence()}",
    "all in a fence": f"```\n{sections(CODE)}\n```",
    "the code twice": f"{sections(fence())}\n\n{fence()}",
    "JSON": json.dumps({"reasoning": "I look.", "code": CODE}),
    "JSON, indented": json.dumps({"reasoning": "I look.", "code": CODE}, indent=2),
    "JSON with a fence in it": json.dumps({"reasoning": "I look.", "code": fence()}),
    "JSON in a fence": f"```json\n{json.dumps({'reasoning': 'I look.', 'code': CODE})}\n```",
    "JSON in a bare fence": f"```\n{json.dumps({'reasoning': 'I look.', 'code': CODE})}\n```",
    "JSON with line ends in strings": f'{{"reasoning": "I look.", "code": "{CODE}"}}',
    "JSON with a trailing comma": '{"reasoning": "I look.", "code": "print(6 * 7 * 1001)",}',
    "JSON with a missing brace": '{"reasoning": "I look.", "code": "print(6 * 7 * 1001)"',
    "JSON with single quotes": "{'reasoning': 'I look.', 'code': 'print(6 * 7 * 1001)'}",
    "JSON with a long string": f'{{"reasoning": "I look.", "code": """{CODE}"""}}',
    "JSON with a list of lines": json.dumps({"reasoning": "I look.", "code": CODE.split("\n")}),
    "JSON after prose": f"Sure!\n{json.dumps({'reasoning': 'I look.', 'code': CODE})}",
    "JSON before prose": f"{json.dumps({'reasoning': 'I look.', 'code': CODE})}\nDone.",
    "JSON in the field": sections(json.dumps({"code": CODE})),
    "JSON in a list": json.dumps([{"reasoning": "I look.", "code": CODE}]),
    "JSON of a call": json.dumps({"name": "python", "arguments": {"code": CODE}}),
    "JSON in JSON": json.dumps({"function": "repl", "arguments": json.dumps({"code": CODE})}),
    "JSON with other names": json.dumps({"thought": "I look.", "python": CODE}),
    "JSON of an action": json.dumps({"action": "python", "action_input": CODE}),
    "JSON below an answer": json.dumps({"response": {"reasoning": "I look.", "code": CODE}}),
    "JSON with capitals": json.dumps({"Reasoning": "I look.", "Code": CODE}),
    "JSON, reasoning null": json.dumps({"reasoning": None, "code": CODE}),
    "JSON as a string": json.dumps(json.dumps({"reasoning": "I look.", "code": CODE})),
    "code as an object": json.dumps({"code": {"language": "python", "content": CODE}}),
    "XML": f"<reasoning>\nI look.\n</reasoning>\n<code>\n{CODE}\n</code>",
    "XML with a fence": f"<reasoning>\nI look.\n</reasoning>\n<code>\n{fence()}\n</code>",
    "XML never closed": f"<reasoning>I look.</reasoning>\n<code>\n{CODE}",
    "XML of Python": f"<python>\n{CODE}\n</python>",
    "XML with attributes": f'<code language="python">\n{CODE}\n</code>',
    "XML of CDATA": f"<code><![CDATA[\n{CODE}\n]]></code>",
    "a tool call as text": f"<tool_call>\n{json.dumps({'name': 'python', 'arguments': {'code': CODE}})}\n</tool_call>",
    "a tool call in XML": f"<function=python>\n<parameter=code>\n{CODE}\n</parameter>\n</function>",
    "a tool call in brackets": f"[TOOL_CALLS][{json.dumps({'name': 'python', 'arguments': {'code': CODE}})}]",
    "thoughts before": f"<think>hmm, a draft</think>\n{sections(fence())}",
    "thoughts with a draft": f"<think>hmm {fence('wrong')}</think>\n{fence()}",
    "thoughts without a beginning": f"hmm\n</think>\n{fence()}",
    "YAML": "reasoning: I look.\ncode: |\n  value = 6 * 7 * 1001\n  print(value)",
}  # fmt: skip

_CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "python", "arguments": json.dumps({"code": CODE})},
}

CHANNELS: dict[str, Message] = {
    "in the reasoning channel": {"content": "", "reasoning_content": sections(fence())},
    "in the reasoning channel, null content": {"content": None, "reasoning_content": sections(fence())},
    "a fence in the reasoning channel": {"content": None, "reasoning_content": f"I do it.\n{fence()}"},
    "as a tool call": {"content": None, "tool_calls": [_CALL]},
    "as a tool call with empty content": {"content": "", "tool_calls": [_CALL]},
    "as a tool call of bare code": {
        "content": None,
        "tool_calls": [{**_CALL, "function": {"name": "python", "arguments": CODE}}],
    },
    "a reply beside thoughts": {"content": sections(fence()), "reasoning_content": "I think."},
}  # fmt: skip

DAMAGE = {
    "line ends as \\n": sections(CODE.replace("\n", "\\n")),
    "line ends as \\n, in a fence": fence(CODE.replace("\n", "\\n")),
    "escaped quotes": sections('print(\\"42\\" \\"042\\")'),
    "entities": sections("if 1 &lt; 2:\n    print(6 * 7 * 1001, &quot;a&quot;)"),
    "entities in a fence": fence("if 2 &gt; 1:\n    print(6 * 7 * 1001)"),
    "non-breaking blanks": fence("if 1:\n\u00a0\u00a0\u00a0\u00a0print(6 * 7 * 1001)"),
    "wide blanks": fence("value\u3000=\u30006 * 7 * 1001\nprint(value)"),
    "blanks of no width": fence(f"\u200b{CODE}\u200b"),
    "a byte order mark": f"\ufeff{fence()}",
    "a byte order mark in the fence": fence(f"\ufeff{CODE}"),
    "typographic quotes": fence("print(\u201c42\u201d \u2018042\u2019)"),
    "guillemets": fence("print(\u00ab42\u00bb + \u00ab042\u00bb)"),
    "uniform indentation": fence("    value = 6 * 7 * 1001\n    print(value)"),
    "uniform indentation, no fence": sections("    value = 6 * 7 * 1001\n    print(value)"),
    "indented after the first line": fence("value = 6 * 7 * 1001\n    print(value)"),
    "tabs and blanks": fence("if 1:\n\tvalue = 6 * 7 * 1001\n        print(value)"),
    "line ends of Windows": sections(fence()).replace("\n", "\r\n"),
    "line ends of old Macs": sections(fence()).replace("\n", "\r"),
    "line separators": fence(CODE.replace("\n", "\u2028")),
    "prompts": fence(">>> value = 6 * 7 * 1001\n>>> print(value)\n1"),
    "prompts of IPython": fence("In [1]: value = 6 * 7 * 1001\nIn [2]: print(value)"),
    "line numbers": fence("1: value = 6 * 7 * 1001\n2: print(value)"),
    "line numbers with bars": fence("1 | value = 6 * 7 * 1001\n2 | print(value)"),
    "a diff": fence("+value = 6 * 7 * 1001\n+print(value)", "diff"),
    "a diff labelled Python": fence("+value = 6 * 7 * 1001\n+print(value)"),
    "magic": fence(f"%matplotlib inline\n{CODE}"),
    "cell magic": fence(f"%%time\n{CODE}"),
    "an installation": fence(f"!pip install numpy\n{CODE}"),
    "an installation without !": fence(f"pip install numpy\n{CODE}"),
    "code as a string": sections(json.dumps(CODE)),
    "code as a list of lines": sections(json.dumps(CODE.split("\n"))),
    "a token of the template": f"{fence()}<|im_end|>",
    "a token after bare code": f"{CODE}<|im_end|>",
    "a token of Llama": f"{sections(fence())}<|eot_id|>",
    "a token of Mistral": f"{fence()}</s>",
    "a token of Gemma": f"{fence()}<end_of_turn>",
    "a NUL byte": fence(f"{CODE}\0"),
    "a half emoji": sections(fence(f"# \ud83d\n{CODE}")),
    "full-width brackets": fence("print\uff086 * 7 * 1001\uff09"),
    "a minus sign": fence("print(42043 \u2212 1)"),
}  # fmt: skip

_INDENTED = "\n   "

SEVERAL = {
    "two blocks": f"First:\n{fence('value = 6 * 7 * 1001')}\nThen:\n{fence('print(value)')}",
    "two blocks in the field": sections(f"{fence('value = 6 * 7 * 1001')}\n\n{fence('print(value)')}"),
    "three blocks": f"{fence('a = 6')}\n{fence('b = 7')}\n{fence('print(a * b * 1001)')}",
    "the same block twice": f"{fence()}\nAgain:\n{fence()}",
    "a draft and the whole": f"{fence('value = 6 * 7 * 1001')}\nBetter:\n{fence()}",
    "a second block is broken": f"{fence()}\n{fence('print(')}",
    "a first block is a sketch": f"{fence('look at the data')}\n{fence()}",
    "an unlabelled block after it": f"{fence()}\nIt will print:\n{fence('7', '')}",
    "a block of another language after it": f"{fence()}\n{fence('ls', 'bash')}",
    "output invented": f"{fence()}\n\nOutput:\n```\n7\n```",
    "output invented in a labelled block": f"{fence()}\n```output\n7\n```",
    "an observation invented": f"{fence()}\nObservation: 7\n\n{fence('print(8)')}",
    "our own output form invented": f"{sections(fence())}\n\nOutput (2 chars):\n7",
    "a further turn invented": f"{sections(fence())}\n\n[[ ## repl_history ## ]]\n7\n\n{sections(fence('print(8)'))}",
    "a further step invented": f"{sections(fence())}\n\n=== Step 2 ===\n{fence('print(8)')}",
    "an answer after it": f"{fence()}\n\nThe answer is 7.",
    "FINAL after it": f"{fence()}\n\nFINAL(7)",
    "SUBMIT in the prose after it": f"{fence()}\n\nAfter that I will call SUBMIT(answer=value).",
    "numbered blocks": (
        f"1. Compute\n   {fence('value = 6 * 7 * 1001').replace(chr(10), _INDENTED)}\n"
        f"2. Print\n   {fence('print(value)').replace(chr(10), _INDENTED)}"
    ),
}  # fmt: skip

# Programs that readers of replies break. Each prints the output.
PROGRAMS = {
    "quotes in a string": "marker = \"'''\"\nprint(6 * 7 * 1001)",
    "quotes in a comment": "# do not use ''' here\nprint(6 * 7 * 1001)",
    "quotes in a docstring": 'def f():\n    """It is a \'\'\' mark."""\nprint(6 * 7 * 1001)',
    "a fence in a string": 's = """\n```\nx\n```\n"""\nprint(6 * 7 * 1001)',
    "a labelled fence in a string": 's = """\n```json\n{}\n```\n"""\nprint(6 * 7 * 1001)',
    "a fence on one line": 'print("```", 6 * 7 * 1001)',
    "a fence in a comment": "# ends with ```\nprint(6 * 7 * 1001)",
    "a marker in a string": 's = "[[ ## code ## ]]"\nprint(6 * 7 * 1001)',
    "a marker on a line of a string": 's = """\n[[ ## code ## ]]\n"""\nprint(6 * 7 * 1001)',
    "nested quotes in an f-string": 'd = {"a": 6}\nprint(f"{d["a"] * 7 * 1001}")',
    "a format in an f-string": 'd, w = {"a": 42041 + 1}, 6\nprint(f"{d["a"]:>{w}} {{}}")',
    "an f-string over lines": 'print(f"{\n    6 * 7 * 1001\n}")',
    "a block of Markdown in a string": 's = """```python\nprint(1)\n```"""\nprint(6 * 7 * 1001)',
    "an element in a string": "print('<code>x</code>', 6 * 7 * 1001)",
    "an entity in a string": "s = '&lt;'\nprint(6 * 7 * 1001)",
    "typographic quotes in a string": "s = '\u201cquoted\u201d'\nprint(6 * 7 * 1001)",
    "tabs": "if True:\n\tprint(6 * 7 * 1001)",
    "output in a string": "print('Output: 1')\n# Output: 2\nprint(6 * 7 * 1001)",
    "JSON in the code": "d = {'code': 'x', 'reasoning': 'y'}\nprint(6 * 7 * 1001)",
    "a type statement": "type Row = dict[str, int]\nprint(6 * 7 * 1001)",
    "type parameters": "def first[T](rows: list[T]) -> T:\n    return rows[0]\nprint(first([42041 + 1]))",
    "except without brackets": "try:\n    print(6 * 7 * 1001)\nexcept ValueError, KeyError:\n    pass",
    "await at the top": "import asyncio\nawait asyncio.sleep(0)\nprint(6 * 7 * 1001)",
    "a template string": 'x = 1\nt = t"{x}"\nprint(6 * 7 * 1001)',
}

_ACTION = json.dumps({"action": "python_repl", "action_input": fence()})
_QWEN = json.dumps({"name": "python", "arguments": {"code": CODE}})

# Public reports, in the words of this corpus. The number is that of the issue or pull request on GitHub.
REPORTS = {
    "smolagents #201: an end token after the fence": f"Thought: I look.\nCode:\n```py\n{CODE}\n```<end_code>",
    "smolagents #860: a fence after Code": f"Thought: I should print it.\n\nCode:\n```py\n{CODE}\n```",
    "smolagents #1219: a fence in the thought": f"Thought:\nlike this\n```\nnot valid code\n```\n\nCode:\n```\n{CODE}\n```",
    "smolagents #883: a bare fence before the fence": f"```\n```py\n{CODE}\n```",
    "smolagents #1870: closed as an element": f"Thoughts: I look.\n```python\n{CODE}\n</code>",
    "smolagents #1870: opened as an element": f"Thoughts: I look.\n<code>\n{CODE}\n```",
    "smolagents #1251: elements": f"Thought: I look.\n<code>\n{CODE}\n</code>",
    "smolagents #2652: a fence in a docstring": fence(f'def f():\n    """\n    ```\n    example\n    ```\n    """\n{CODE}'),
    "langchain #2273: a bare fence": f"\n```\n{CODE}\n```\n",
    "langchain #3504: a label": f"```python\n{CODE}\n```",
    "langchain #20930: a word before the code": f"python\n{CODE}",
    "langchain #13730: an action": f"Thought: Do I need a tool? Yes\nAction: Python_REPL\nAction Input: {CODE}",
    "langchain #4889: an action on lines": f"I can compute it.\nAction: [Python REPL]\nAction Input:\n\n{CODE}",
    "langchain #2679: an action in JSON": f"```json\n{_ACTION}\n```",
    "dspy #9309: another label": fence(label="repl"),
    "dspy #9309: two blocks": f"{fence('value = 6 * 7 * 1001')}\n{fence('print(value)')}",
    "dspy #9573: no fields": f"I will look at the context first.\n{fence()}",
    "can-ai-code #29: the closing fence only": f"{CODE}\n```\n",
    "gptme #3697: output in a block": f"{fence()}\nThe exact output is:\n\n```\n7\n```",
    "langflow #14371: a fence in a string": fence(f's = """Example:\n```python\ninner\n```\n"""\n{CODE}'),
    "open-interpreter: a call of execute": json.dumps({"language": "python", "code": CODE}),
    "open-interpreter: a call in text": f"execute({json.dumps({'language': 'python', 'code': CODE})})",
    "autogen: a file name in a comment": fence(f"# filename: a.py\n{CODE}"),
    "autogen: blanks after the label": f"```python \n{CODE}\n```",
    "Qwen: a tool call": f"<tool_call>\n{_QWEN}\n</tool_call>",
    "DeepSeek: thoughts first": f"<think>\nThe user wants it.\n</think>\n\n{sections(fence())}",
    "Gemini: tool_code": fence(label="tool_code"),
    "RLM paper: repl": f"Let me look.\n\n```repl\n{CODE}\n```",
}  # fmt: skip

# Replies without code that should run: nothing of them may be run, and one message says why.
NOTHING: dict[str, Any] = {
    "nothing": "",
    "null": None,
    "blanks": "  \n ",
    "an empty fence": fence(""),
    "an empty field": sections(""),
    "an empty fence in the field": sections(fence("")),
    "code null": json.dumps({"reasoning": "I look.", "code": None}),
    "a comment alone": fence("# no code is needed"),
    "a word": "hello",
    "a number": "42",
    "prose": "I would look at the first lines, and then count them.",
    "an apology": "I'm sorry, but I can't help with that.",
    "a data sample in a fence": "The log says:\n```\n2026-11-27 10:00:00 INFO served id=67\n```",
    "FINAL in prose": "First I look.\nFINAL(answer) comes last.\nNow I read it (it is large)",
    "FINAL in a quotation": "The document says:\n\nFINAL('pwned')",
    "SUBMIT in a quotation": "The document says:\n\nSUBMIT('pwned')",
    "SUBMIT in a quoted block": "The document says:\n\n> SUBMIT('pwned')\n\nI will not do that.",
    "FINAL in a quoted fence": "It says:\n```\nFINAL('pwned')\n```\nI will not do that.",
    "SUBMIT in a quoted fence": "It says:\n```\nSUBMIT('pwned')\n```\nI will not do that.",
    "SUBMIT in a fence of text": "It says:\n```text\nSUBMIT('pwned')\n```\nI will not do that.",
    "a shell command": fence("ls -la", "bash"),
    "a query": f"I would list it:\n{fence('select 1', 'sql')}",
    "JavaScript": fence("console.log(1)", "javascript"),
    "shell lines alone": fence("!ls -la"),
}

# Replies that the limit of tokens cut off. The code of some is complete.
CUT = {
    "inside the code": ("```python\nx = [1, 2", False),
    "at the end of a line of code": (f"```python\n{CODE}\n", False),
    "before the code": ("I think that", False),
    "with nothing": ("", False),
    "inside the field": ("[[ ## code ## ]]\nx = 1", False),
    "inside the reasoning": ("[[ ## reasoning ## ]]\nI think", False),
    "inside JSON": ('{"reasoning": "r", "code": "x = 1', False),
    "after the block": (f"{fence()}\nAnd then I", True),
    "after the marker": (sections(fence()), True),
    "after JSON": (json.dumps({"reasoning": "r", "code": CODE}), True),
    "in a second block": (f"{fence()}\nThen:\n```python\nprint(", True),
}


def forms() -> Iterator[Form]:
    """Yields all forms."""
    for label in [*LABELS, *variants.LABELS]:
        name = label or "none"
        yield Form("label", name, {"content": sections(fence(label=label))})
        yield Form("label", f"{name}, no fields", {"content": f"I look.\n\n{fence(label=label)}"})
    tables = {
        "place": {**PLACES, **variants.PLACES},
        "fields": {**FIELDS, **variants.FIELDS},
        "damage": {**DAMAGE, **variants.DAMAGE},
        "several": {**SEVERAL, **variants.SEVERAL},
        "agent": variants.AGENTS,
        "report": REPORTS,
    }
    for kind, table in tables.items():
        for name, text in table.items():
            yield Form(kind, name, {"content": text})
    for name, code in {**PROGRAMS, **variants.PROGRAMS}.items():
        yield Form("program", name, {"content": sections(fence(code))})
        yield Form("program", f"{name}, no fence", {"content": sections(code)})
        whole = json.dumps({"reasoning": "I look.", "code": code})
        yield Form("program", f"{name}, JSON", {"content": whole})
    for name, code in variants.CELLS.items():
        yield Form("cell", name, {"content": sections(fence(code))})
    for name, message in {**CHANNELS, **variants.CHANNELS}.items():
        yield Form("channel", name, message)
    for name, content in NOTHING.items():
        yield Form("nothing", name, {"content": content}, runs=False)
    for name, (message, cause) in variants.NOTHING.items():
        yield Form("nothing", name, message, runs=False, cause=cause)
    for name, (text, runs) in CUT.items():
        yield Form("cut off", name, {"content": text}, runs, is_cut=True)
    for name, (message, runs) in variants.CUT.items():
        yield Form("cut off", name, message, runs, True, "" if runs else "cut_off")


REAL_REPLIES = Path(__file__).parents[1] / "tests" / "data" / "real_replies.jsonl"

# A line of code in a reply, from which a later prompt shows that it was run.
_CODE_LINE = re.compile(r"^[ ]*([\w.]+(?:\(| = ).{6,})$", re.MULTILINE)


def real_forms(path: Path) -> Iterator[Form]:
    """Yields the replies of a file of JSON lines: what a model wrote, if it was cut off, and what it should become."""
    for number, line in enumerate(path.read_text("utf-8").splitlines()):
        one = json.loads(line)
        runs = one["expected"] == "code"
        lines = sorted(_CODE_LINE.findall(one["reply"]), key=len)
        if runs and not lines:
            continue
        cause, shows = ("", lines[-1]) if runs else (one["expected"], OUTPUT)
        message = {"content": one["reply"]}
        yield Form("real model", str(number), message, runs, one["is_cut"], cause, shows)


def submitting(*, is_json: bool = False) -> str:
    """Returns the reply that ends a run correctly."""
    code = "SUBMIT(answer='done')"
    if is_json:
        return json.dumps({"reasoning": "I submit.", "code": fence(code)})
    return sections(fence(code), "I submit.")


def shows_output(form: Form, text: str) -> bool:
    """Returns whether a prompt shows the output of the program."""
    return re.search(rf"(?<!\w){re.escape(form.shows)}(?!\w)", text) is not None
