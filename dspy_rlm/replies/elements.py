"""Replies in XML elements, as DSPy's `XMLAdapter` asks for them, and calls in `<tool_call>`. They need not be valid XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from dspy_rlm.replies.objects import REASONING_NAMES, Fields, fields_of_value, parsed_json

_CODE_ELEMENTS = ("code", "python", "execute", "tool_code", "repl", "parameter=code", "arg_value")


def element_fields(text: str) -> Fields | None:
    """Reads the format of `XMLAdapter`, whose elements need not be valid XML, and calls in `<tool_call>`."""
    call, _, _ = _element(text, "tool_call")
    if call.lstrip().startswith("{"):
        value, is_whole = parsed_json(call.strip())
        fields = fields_of_value(value, is_complete=is_whole)
        if fields is not None:
            return fields
    thought, end = "", 0
    for name in REASONING_NAMES:
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
    before = text[end : match.start("name") - 1]
    is_after_a_word = bool(before.rpartition("\n")[2].replace("<pre>", "").strip())
    is_amid = ("\n" not in code.strip() or is_after_a_word) and bool(before.strip())
    source = "loose" if is_amid else "field"
    return Fields(thought.strip(), _unescaped(code, name), (), is_complete, source)


_CODE_ELEMENT = re.compile(
    rf"(?:^[ \t]*(?:<pre>)?|[ :>](?=<[^<>\n]{{1,220}}>\n))<(?P<name>{'|'.join(_CODE_ELEMENTS)}"
    r"|parameter(?= name=[\"'](?:code|command|python)[\"']))(?:[ ][^<>\n]{0,200})?>",
    re.MULTILINE,
)


def has_element(text: str) -> bool:
    """Returns whether an element of a reply opens in the text."""
    names = ("tool_call", *REASONING_NAMES)
    return _CODE_ELEMENT.search(text) is not None or any(f"<{name}>" in text for name in names)


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
