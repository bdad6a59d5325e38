"""The fields of a reply: `reasoning` and `code`, in the format that was asked for or in another.

Known formats: the sections of DSPy's `ChatAdapter`, JSON objects, XML elements, tool calls, and no format at all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dspy_rlm.replies.elements import element_fields, has_element
from dspy_rlm.replies.fences import FIELD, Blocks, fenced_blocks
from dspy_rlm.replies.objects import (
    CODE_NAMES,
    REASONING_NAMES,
    Fields,
    call_fields,
    json_fields,
    parsed_json,
    squashed,
)
from dspy_rlm.replies.python_source import Work, does_something
from dspy_rlm.replies.repairs import with_single_escapes, without_special_tokens
from dspy_rlm.replies.thoughts import without_thoughts


def read_fields(text: str, work: Work) -> Fields:
    """Finds the fields of a reply."""
    text, repairs = _unescaped(text)
    thoughts, text, is_code, is_all = without_thoughts(text)
    if is_all:
        fields = _in_any_format(thoughts, work)
        repairs = (*repairs, "reasoning_channel", *fields.repairs)
        if not (fields.code or "").strip():
            fields = Fields("", thoughts, source="thoughts")
        return fields._replace(repairs=repairs)
    if text.lstrip().startswith(_PYTHON_TAG):
        is_code, text = True, text.lstrip().removeprefix(_PYTHON_TAG)
    if is_code and not text.lstrip().startswith("{"):
        return Fields(thoughts, text, repairs, source="field")
    called = call_fields(text)
    tree = None if called else work.tree(text.strip())
    if tree is not None and does_something(tree):
        return Fields(thoughts, text, repairs)  # all is code; fields in it are in its strings
    fields = called or _in_any_format(text, work)
    fields = fields._replace(repairs=(*repairs, *fields.repairs))
    if fields.code is None and not fields.reasoning:
        return Fields(thoughts, text, fields.repairs)
    return fields._replace(reasoning=fields.reasoning or thoughts)


# The beginning of code for a tool in Llama's format.
_PYTHON_TAG = "<|python_tag|>"


def _in_any_format(text: str, work: Work) -> Fields:
    return json_fields(text) or _sections(text, work) or _elements(text, work) or Fields("", None)


def _elements(text: str, work: Work) -> Fields | None:
    """Reads XML elements, unless they are all inside of code."""
    fields = element_fields(text)
    if fields is not None and element_fields(_without_code(text, work)) is None:
        return None
    return fields


def _without_code(text: str, work: Work) -> str:
    """Returns the text without the blocks of Python that no element opens before."""
    found = fenced_blocks(text, work)
    lines = list(found.lines)
    for block in found.blocks:
        if has_element("\n".join(lines[: block.first])):
            break
        if (not block.is_vague and not block.is_python) or not work.compiles(block.code):
            continue
        lines[block.first : block.end] = [""] * (block.end - block.first)
    return "\n".join(lines)


# The beginning of a block or of a field in a reply whose line ends are all escaped.
_ESCAPED_FORM = re.compile(r"(?:`{3}\w{0,20}|\]\])\\n")


def _unescaped(text: str) -> tuple[str, tuple[str, ...]]:
    """Returns the text of a reply that is a JSON string as a whole, and the repair; other replies as they are."""
    whole = text.strip()
    if whole.startswith('"') and whole.endswith('"'):
        value = parsed_json(whole)[0]
        if isinstance(value, str) and ("```" in value or FIELD.search(value)):
            return value, ("quoted_code",)
    escaped = None if "\n" in whole else _ESCAPED_FORM.search(whole)
    if escaped is not None and "{" not in whole[: escaped.start()]:
        return with_single_escapes(whole) or text, ("escapes",)
    return text, ()


class _Section(NamedTuple):
    name: str
    text: str
    marker: str = ""
    """The line of its marker."""
    below: str = ""
    """The text below that line."""


# A marker in a string of code without a fence is no field. So many are tried.
_MAX_MARKERS_IN_CODE = 12


def _sections(text: str, work: Work) -> Fields | None:
    """Reads the format of `ChatAdapter`; a marker inside a block is part of the code."""
    if not FIELD.search(text):
        return None
    sections = _split(fenced_blocks(text, work))
    code_at = next(
        (
            n
            for n, one in enumerate(sections)
            if squashed(one.name) in CODE_NAMES and one.text.strip()
        ),
        None,
    )
    if code_at is not None:
        sections = _with_whole_code(sections, code_at, work)
    before = sections[: code_at if code_at is not None else len(sections)]
    reasoning = next(
        (one.text for one in before if squashed(one.name) in REASONING_NAMES), ""
    ).strip()
    if code_at is None:
        empty = any(squashed(one.name) in CODE_NAMES for one in sections)
        plain = next((one.text for one in sections if not one.name and one.text.strip()), "")
        found = reasoning or plain
        if (inner := json_fields(found)) is not None and inner.code:
            return inner
        if fenced_blocks(found, work).blocks:
            return Fields(reasoning, found, is_complete=len(sections) > 1, source="loose")
        return Fields(reasoning or plain.strip(), "" if empty else None)
    after = sections[code_at + 1 :]
    if not reasoning:
        reasoning = next(
            (one.text for one in after if squashed(one.name) in REASONING_NAMES), ""
        ).strip()
        after = [one for one in after if one.text.strip() != reasoning]
    plain = sections[0].text.strip() if not sections[0].name else ""
    invented = any(one.name != "completed" or _says_something(one.text) for one in after)
    return Fields(
        reasoning or plain,
        sections[code_at].text,
        ("text_after_the_code",) if invented else (),
        is_complete=code_at + 1 < len(sections),
        source="field",
    )


def _says_something(text: str) -> bool:
    """Returns whether a text is more than the end of a fence or a token of a chat template."""
    return bool(without_special_tokens(text).strip(" \t\n`~"))


def _with_whole_code(sections: list[_Section], at: int, work: Work) -> list[_Section]:
    """Joins the sections that are one code: their markers are in its strings."""
    code = sections[at].text
    if "```" in code or work.compiles(code.strip("\n")):
        return sections
    for end in range(at + 1, min(len(sections), at + _MAX_MARKERS_IN_CODE)):
        code = f"{code}\n{sections[end].marker}\n{sections[end].below}"
        if work.compiles(code.strip("\n")):
            whole = sections[at]._replace(text=code)
            return [*sections[:at], whole, *sections[end + 1 :]]
    return sections


def _split(found: Blocks) -> list[_Section]:
    """Splits the lines at the markers that are not in a block."""
    inside = {n for block in found.blocks for n in range(block.first, block.end)}
    sections = [("", "", "", list[str]())]
    for number, line in enumerate(found.lines):
        match = None if number in inside else FIELD.match(line)
        if match is None:
            sections[-1][3].append(line)
        else:
            rest = line[match.end() :].strip()
            sections.append((match["name"].lower(), line, rest, []))
    return [
        _Section(name, "\n".join([rest, *lines] if rest else lines), marker, "\n".join(lines))
        for name, marker, rest, lines in sections
    ]
