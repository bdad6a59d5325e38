"""Replies that are JSON: objects with the fields, lists of them, calls of tools."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dspy_rlm.replies.fences import FIELD
from dspy_rlm.values.bounded_parsing import HardTextError, check_repairable
from dspy_rlm.values.python_text import literal, syntax_tree

# Names of fields, without their case and all that is no letter.
CODE_NAMES = (
    *("code", "pythoncode", "python", "script", "repl", "nextcode", "cell", "command", "codeblock"),
    *("codesnippet", "codetorun", "codetoexecute", "sourcecode", "snippet", "program"),
)
REASONING_NAMES = ("reasoning", "thought", "thoughts", "thinking", "rationale", "analysis", "plan")

# Names under which calls of functions keep their arguments, and replies keep the fields.
_INNER_NAMES = (
    *("arguments", "parameters", "args", "input", "actioninput", "toolinput", "function", "action"),
    *(
        "response",
        "output",
        "outputs",
        "result",
        "answer",
        "reply",
        "step",
        "nextstep",
        "content",
        "toolcalls",
    ),
)

# Names of the kind of an object that holds code, and of its text.
_KIND_NAMES, _TEXT_NAMES = (
    ("type", "language", "kind", "lang"),
    ("content", "text", "value", "body"),
)

# Names of tools that run Python.
_PYTHON_TOOLS = frozenset(
    {
        *(
            "python",
            "pythonrepl",
            "pythoninterpreter",
            "codeinterpreter",
            "ipython",
            "pythonreplast",
        ),
        *(
            "repl",
            "execute",
            "executepython",
            "runpython",
            "runcode",
            "exec",
            "executecode",
            "interpreter",
        ),
        *("code", "runcell", "executecell", "pythontool", "pythonexec"),
    }
)


def is_python_tool(name: str) -> bool:
    """Returns whether a tool of that name runs Python."""
    return squashed(name) in _PYTHON_TOOLS


_NO_LETTERS = re.compile(r"[\W\d_]+")


def squashed(name: Any) -> str:
    """Returns the letters of a name, in lower case."""
    return _NO_LETTERS.sub("", str(name)[:100]).lower()


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
    """"field" if the reply names the field, "loose" if it does so amid prose, "text" if the code is the whole reply,
    "thoughts" if the reply is thoughts without an end."""


_JSON_FENCE = re.compile(
    r"```(?:json|JSON)?[ \t]*\n(?P<json>[{\[].*?)(?:\n[ \t]*```|\Z)", re.DOTALL
)


def json_fields(text: str) -> Fields | None:
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
    if is_whole and isinstance(value, Mapping):
        fields = _with_further_objects(fields, whole)
    if fields is None or text.strip().startswith(whole[:1]):
        return fields
    outside = text.replace(whole, "").replace("```", "").strip()
    return fields if outside in ("", "json", "JSON") else fields._replace(source="loose")


# The objects after the first one that are read.
_MAX_OBJECTS = 8


def _with_further_objects(fields: Fields | None, text: str) -> Fields | None:
    """Returns the fields of the first object and those after it: one a line, or invented further turns."""
    at, decoder = 0, json.JSONDecoder(strict=False)
    for number in range(_MAX_OBJECTS):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        at += len(text[at : at + 10]) - len(text[at : at + 10].lstrip(" ,\n\t"))
        if number == 0:
            continue
        further = fields_of_value(value)
        if further is None:
            continue
        if fields is not None and fields.code is not None:
            return fields._replace(repairs=("text_after_the_code",))
        reasoning = (fields.reasoning if fields else "") or further.reasoning
        fields = further._replace(reasoning=reasoning)
    return fields


_CALL = re.compile(r"\s*(\w{1,40})\(\s*(?:\{|[\"'rR]|\w{1,20}\s{0,9}=)")


def call_fields(text: str) -> Fields | None:
    """Reads a reply that is a call of a tool for Python, with the code or an object with it as its only argument."""
    match = _CALL.match(text)
    if match is None or not is_python_tool(match[1]) or match[1] == "exec":
        return None
    inner = text[match.end(1) + 1 :].strip().removesuffix(")")
    if inner.startswith("{"):
        return fields_of_value(parsed_json(inner)[0])
    try:
        tree = syntax_tree(text.strip(), "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(tree.body, ast.Call):
        return None
    values = [*tree.body.args, *(keyword.value for keyword in tree.body.keywords)]
    code = [one.value for one in values if isinstance(one, ast.Constant)]
    is_code = len(code) == len(values) == 1 and isinstance(code[0], str)
    return Fields("", str(code[0]), (), is_complete=True, source="field") if is_code else None


_NAMED = re.compile(
    r"[{\[]\s*(?:\{\s*)?[\"'](?:code|python_?code|python|script|code_?block|"
    + "|".join(REASONING_NAMES)
    + r")[\"']\s*:",
    re.IGNORECASE,
)


def _object_at(text: str) -> int:
    """Returns the position of a JSON object with our fields after other text; -1 if there is none."""
    match = _NAMED.search(text)
    if match is None or FIELD.search(text):
        return -1
    if any(mark in text[: match.start()] for mark in ("```", "~~~")):
        return -1  # it is in a block, or below one
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
    named = {squashed(name): item for name, item in value.items()}
    reasoning = next((named[name] for name in REASONING_NAMES if name in named), None)
    code = next((named[name] for name in CODE_NAMES if named.get(name)), None)
    name = next((name for name in CODE_NAMES if name in named), None)
    if name is not None:
        # The last value of an object that was cut off may be a part of it.
        is_whole = is_complete or name != next(reversed(named))
        return Fields(_text(reasoning), _text(code), (), is_whole, "field")
    arguments = _arguments(named)
    if arguments is not None:
        return Fields(_text(reasoning), arguments, (), is_complete, "field")
    inner_values = [named[name] for name in _INNER_NAMES if name in named]
    inner_values += [
        one for one in itertools.islice(named.values(), 20) if isinstance(one, Mapping)
    ]
    for one in inner_values:
        inner = fields_of_value(one, is_complete=is_complete, depth=depth + 1)
        if inner is not None:
            return inner._replace(reasoning=inner.reasoning or _text(reasoning))
    return Fields(_text(reasoning), None) if isinstance(reasoning, str) else None


def _arguments(named: Mapping[str, Any]) -> str | None:
    """Returns the code of an object that is a call of a tool for Python, or that says that its text is code."""
    tool = named.get("action") or named.get("tool") or named.get("name")
    if isinstance(tool, str) and is_python_tool(tool):
        found = next(
            (named[name] for name in _INNER_NAMES if name in named and named[name] is not tool),
            None,
        )
        if isinstance(found, str) and not found.lstrip().startswith("{"):
            return found
    if any(
        isinstance(named.get(name), str) and is_python_tool(named[name]) for name in _KIND_NAMES
    ):
        found = next(
            (named[name] for name in _TEXT_NAMES if isinstance(named.get(name), str)), None
        )
        return found if isinstance(found, str) else None
    return None


def _text(value: Any, depth: int = 0) -> str:
    """Returns the text of a field that may be a list of lines, or an object that holds the text."""
    if isinstance(value, str):
        return value
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, Sequence):
        return "\n".join(_text(one, depth + 1).rstrip("\n") for one in value)
    if isinstance(value, Mapping):
        named = {squashed(name): item for name, item in value.items()}
        for name in (*CODE_NAMES, *_TEXT_NAMES, "source"):
            if named.get(name):
                return _text(named[name], depth + 1)
    return ""
