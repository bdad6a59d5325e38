"""The fields of a reply: `reasoning` and `code`, in the format that was asked for or in another.

Known formats: the sections of DSPy's `ChatAdapter`, JSON objects, XML elements, tool calls, and no format at all.
"""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dspy_rlm.replies.fences import FIELD, Blocks, fenced_blocks
from dspy_rlm.replies.python_source import Work
from dspy_rlm.values.bounded_parsing import HardTextError, check_repairable
from dspy_rlm.values.python_text import literal

_CODE_NAMES = ("code", "python_code", "python", "script", "repl", "next_code", "cell", "command")
_REASONING_NAMES = ("reasoning", "thought", "thoughts", "thinking", "rationale", "analysis", "plan")

# Names under which calls of functions keep their arguments.
_ARGUMENT_NAMES = (
    "arguments",
    "parameters",
    "args",
    "input",
    "action_input",
    "tool_input",
    "function",
    "action",
)

# Names of tools that run Python.
_PYTHON_TOOLS = frozenset(
    {
        *(
            "python",
            "python_repl",
            "pythonrepl",
            "python_interpreter",
            "code_interpreter",
            "ipython",
        ),
        *("python_repl_ast", "repl", "execute", "execute_python", "run_python", "run_code", "exec"),
        *("execute_code", "interpreter"),
    }
)

_MAX_DEPTH = 4


class Fields(NamedTuple):
    """The parts of a reply."""

    reasoning: str
    code: str | None
    """The text of the code field, with its fences; None if the reply has no such field."""
    repairs: tuple[str, ...] = ()
    is_complete: bool = False
    """True if the end of the code field was written: a reply that was cut off later has its code."""
    source: str = "text"
    """"field" if the reply names the field, "loose" if it does so amid prose, "text" if the code is the whole reply."""


def read_fields(text: str, work: Work) -> Fields:
    """Finds the fields of a reply."""
    thought, text = _without_thoughts(text)
    fields = (
        _call_fields(text)
        or _json_fields(text)
        or _sections(text, work)
        or _elements(text)
        or Fields("", None)
    )
    if fields.code is None and not fields.reasoning:
        fields = fields._replace(reasoning="", code=None)
        return Fields(thought, text, fields.repairs)
    if not fields.reasoning and thought:
        fields = fields._replace(reasoning=thought)
    return fields


_THOUGHT = re.compile(
    r"^\s*<(think|thinking|thought|reasoning_content)>(.*?)(?:</\1>|\Z)", re.DOTALL
)


def _without_thoughts(text: str) -> tuple[str, str]:
    """Returns the model's thoughts in front of a reply, as open reasoning models mark them, and the rest."""
    match = _THOUGHT.match(text)
    if match is not None:
        return match[2].strip(), text[match.end() :]
    before, mark, after = text.partition("</think>")
    if mark and "<think>" not in before and not FIELD.search(before):
        return before.strip(), after
    return "", text


# ---- Sections ----------------------------------------------------------------------------------------


class _Section(NamedTuple):
    name: str
    text: str
    marker: str = ""
    """The line of its marker."""


# A marker in a string of code without a fence is no field. So many are tried.
_MAX_MARKERS_IN_CODE = 12


def _sections(text: str, work: Work) -> Fields | None:
    """Reads the format of `ChatAdapter`; a marker inside a block is part of the code."""
    if not FIELD.search(text):
        return None
    sections = _split(fenced_blocks(text, work))
    code_at = next(
        (n for n, one in enumerate(sections) if one.name in _CODE_NAMES and one.text.strip()), None
    )
    if code_at is not None:
        sections = _with_whole_code(sections, code_at, work)
    before = sections[: code_at if code_at is not None else len(sections)]
    reasoning = next((one.text for one in before if one.name in _REASONING_NAMES), "").strip()
    if code_at is None:
        empty = any(one.name in _CODE_NAMES for one in sections)
        plain = next((one.text for one in sections if not one.name and one.text.strip()), "")
        found = reasoning or plain
        if fenced_blocks(found, work).blocks:
            return Fields(reasoning, found, is_complete=len(sections) > 1, source="loose")
        return Fields(reasoning or plain.strip(), "" if empty else None)
    after = sections[code_at + 1 :]
    if not reasoning:
        reasoning = next((one.text for one in after if one.name in _REASONING_NAMES), "").strip()
        after = [one for one in after if one.text.strip() != reasoning]
    plain = sections[0].text.strip() if not sections[0].name else ""
    invented = any(one.name != "completed" or one.text.strip() for one in after)
    return Fields(
        reasoning or plain,
        sections[code_at].text,
        ("text_after_the_code",) if invented else (),
        is_complete=code_at + 1 < len(sections),
        source="field",
    )


def _with_whole_code(sections: list[_Section], at: int, work: Work) -> list[_Section]:
    """Joins the sections that are one code: their markers are in its strings."""
    code = sections[at].text
    if "```" in code or work.compiles(code.strip("\n")):
        return sections
    for end in range(at + 1, min(len(sections), at + _MAX_MARKERS_IN_CODE)):
        code = f"{code}\n{sections[end].marker}\n{sections[end].text}"
        if work.compiles(code.strip("\n")):
            whole = sections[at]._replace(text=code)
            return [*sections[:at], whole, *sections[end + 1 :]]
    return sections


def _split(found: Blocks) -> list[_Section]:
    """Splits the lines at the markers that are not in a block."""
    inside = {n for block in found.blocks for n in range(block.first, block.end)}
    sections = [("", "", list[str]())]
    for number, line in enumerate(found.lines):
        match = None if number in inside else FIELD.match(line)
        if match is None:
            sections[-1][2].append(line)
        else:
            rest = line[match.end() :]
            sections.append((match["name"].lower(), line, [rest.strip()] if rest.strip() else []))
    return [_Section(name, "\n".join(lines), marker) for name, marker, lines in sections]


# ---- JSON --------------------------------------------------------------------------------------------

_JSON_FENCE = re.compile(
    r"```(?:json|JSON)?[ \t]*\n(?P<json>[{\[].*?)(?:\n[ \t]*```|\Z)", re.DOTALL
)


def _json_fields(text: str) -> Fields | None:
    """Reads a reply that is a JSON object or list, alone or in the only fence."""
    whole = text.strip()
    if not whole.startswith(("{", "[", '"')) or FIELD.match(whole):
        match = _JSON_FENCE.search(whole)
        start = -1 if match else _object_at(whole)
        whole = match["json"].strip() if match else (whole[start:] if start >= 0 else "")
    if not whole:
        return None
    value, is_whole = parsed_json(whole)
    if isinstance(value, str):
        value, is_whole = (
            parsed_json(value.strip()) if value.lstrip().startswith("{") else (None, True)
        )
    fields = fields_of_value(value, is_complete=is_whole)
    if fields is None or text.strip().startswith(whole[:1]):
        return fields
    outside = text.replace(whole, "").replace("```", "").strip()
    return fields if outside in ("", "json", "JSON") else fields._replace(source="loose")


_CALL = re.compile(r"\s*(\w{1,40})\(\s*(?=\{)")


def _call_fields(text: str) -> Fields | None:
    """Reads a reply that is a call of a tool for Python, with an object as its argument."""
    match = _CALL.match(text)
    if match is None or match[1].lower() not in _PYTHON_TOOLS or not text.rstrip().endswith(")"):
        return None
    value, _ = parsed_json(text[match.end() :].rstrip()[:-1])
    return fields_of_value(value)


_NAMED = re.compile(
    r"[{\[]\s*(?:\{\s*)?[\"'](?:" + "|".join((*_CODE_NAMES[:4], *_REASONING_NAMES)) + r")[\"']\s*:"
)


def _object_at(text: str) -> int:
    """Returns the position of a JSON object with our fields after other text; -1 if there is none."""
    match = _NAMED.search(text)
    if match is None or "```" in text[: match.start()] or FIELD.search(text):
        return -1
    return match.start()


def parsed_json(text: str) -> tuple[Any, bool]:
    """Parses JSON, a Python literal, or JSON that needs repair; returns the value, and whether it was complete."""
    for strict in (True, False):
        try:
            value, end = json.JSONDecoder(strict=strict).raw_decode(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict | list) or not text[end:].strip():
            return value, True
    try:
        return literal(text), True
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    try:
        return check_repairable(text), False
    except HardTextError:
        return None, False


def fields_of_value(value: Any, *, is_complete: bool = True, depth: int = 0) -> Fields | None:
    """Returns the fields of a parsed reply; None if it has none of them."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, str) and depth:
        parsed, whole = parsed_json(value) if value.lstrip().startswith("{") else (None, True)
        return fields_of_value(parsed, is_complete=whole, depth=depth + 1) if parsed else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        found = (fields_of_value(one, is_complete=is_complete, depth=depth + 1) for one in value)
        return next((fields for fields in found if fields is not None), None)
    if not isinstance(value, Mapping):
        return None
    named = {str(name).strip().lower(): item for name, item in value.items()}
    reasoning = next((named[name] for name in _REASONING_NAMES if name in named), None)
    code = next((named[name] for name in _CODE_NAMES if name in named), None)
    if any(name in named for name in _CODE_NAMES):
        return Fields(_text(reasoning), _text(code), (), is_complete, "field")
    tool = named.get("action") or named.get("tool") or named.get("name")
    if isinstance(tool, str) and tool.strip().lower().replace(" ", "_") in _PYTHON_TOOLS:
        arguments = next((named[name] for name in _ARGUMENT_NAMES if name in named), None)
        if isinstance(arguments, str) and not arguments.lstrip().startswith("{"):
            return Fields(_text(reasoning), arguments, (), is_complete, "field")
    inner_values = [named[name] for name in _ARGUMENT_NAMES if name in named]
    inner_values += [
        one for one in itertools.islice(named.values(), 20) if isinstance(one, Mapping)
    ]
    for one in inner_values:
        inner = fields_of_value(one, is_complete=is_complete, depth=depth + 1)
        if inner is not None:
            return inner
    return Fields(_text(reasoning), None) if isinstance(reasoning, str) else None


def _text(value: Any, depth: int = 0) -> str:
    """Returns the text of a field that may be a list of lines, or an object that holds the text."""
    if isinstance(value, str):
        return value
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, Sequence):
        return "\n".join(_text(one, depth + 1).rstrip("\n") for one in value)
    if isinstance(value, Mapping):
        for name in (*_CODE_NAMES, "text", "content", "value", "source"):
            if value.get(name):
                return _text(value[name], depth + 1)
    return ""


# ---- XML ---------------------------------------------------------------------------------------------

_CODE_ELEMENTS = ("code", "python", "execute", "tool_code", "repl", "parameter=code")


def _elements(text: str) -> Fields | None:
    """Reads the format of `XMLAdapter`, whose elements need not be valid XML, and calls in `<tool_call>`."""
    call, _, _ = _element(text, "tool_call")
    if call.lstrip().startswith("{"):
        value, is_whole = parsed_json(call.strip())
        fields = fields_of_value(value, is_complete=is_whole)
        if fields is not None:
            return fields
    thought, end = "", 0
    for name in _REASONING_NAMES:
        thought, _, end = _element(text, name)
        if thought:
            break
    match = _CODE_ELEMENT.search(text, end)
    if match is None:
        is_all = thought and not text[end:].strip()
        return Fields(thought.strip(), None) if is_all else None
    name = match["name"]
    code, is_complete, _ = _element(f"<{name}>{text[match.end() :]}", name, last=True)
    if "```" in text.replace(code, "") and "```" not in code:
        return None  # the element is a part of the prose, or of the code
    is_amid = "\n" not in code.strip() and bool(text[end : match.start()].strip())
    source = "loose" if is_amid else "field"
    return Fields(thought.strip(), _unescaped(code, name), (), is_complete, source)


_CODE_ELEMENT = re.compile(
    rf"^[ \t]*(?:<pre>)?<(?P<name>{'|'.join(_CODE_ELEMENTS)})(?:[ ][^<>\n]{{0,200}})?>",
    re.MULTILINE,
)


_NEXT_ELEMENT = re.compile(r"</(\w{1,20})>\s*<\1>")


def _element(text: str, name: str, *, last: bool = False) -> tuple[str, bool, int]:
    """Returns the content of the first element of a name, whether it is closed, and the position after it."""
    opening, closing = f"<{name}>", f"</{name.partition('=')[0]}>"
    start = text.find(opening)
    if start < 0:
        return "", False, 0
    start += len(opening)
    end = text.rfind(closing, start) if last else text.find(closing, start)
    if end < 0:
        return text[start:], False, len(text)
    content = text[start:end]
    if last:
        # A second element is another step.
        at = next((m.start() for m in _NEXT_ELEMENT.finditer(content) if m[1] == name), None)
        content = content[:at]
    return content, True, end + len(closing)


def _unescaped(text: str, name: str) -> str:
    """Returns the text of an element as XML has it; as it is if it is not well-formed."""
    if "=" in name:
        return text.strip("\n")
    try:
        # Entities cannot be declared inside an element.
        element = ET.fromstring(f"<code>{text}</code>")  # noqa: S314
    except ET.ParseError:
        return text.strip("\n")
    return ((element.text or "") if len(element) == 0 else text).strip("\n")
