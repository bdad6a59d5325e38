"""The result of a tool as plain data: texts, structured data, images and audio for sub-LMs, bytes.

Nothing is dropped: content that is neither text nor data becomes a record that describes it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import dspy
import mcp_types as types

from dspy_rlm.mcp_tools.bounds import MAX_ERROR_CHARS

# The only key of a result that is no object itself: SDKs wrap lists, texts and numbers in it.
_WRAPPED = "result"


def plain_result(result: types.CallToolResult, schema: Mapping[str, Any]) -> Any:
    """Returns a result as data of the REPL.

    Structured content is returned unchanged, in place of the texts that repeat it. A single part is that part,
    several are a list, and none is None.

    Args:
        result: The server's result.
        schema: The schema of the tool's result, as `schemas` reads it; empty if it states none.
    """
    parts = [_part(block) for block in result.content]
    if result.structured_content is not None:
        media = [part for part in parts if not isinstance(part, str)]
        value = _unwrapped(result.structured_content, schema)
        return [value, *media] if media else value
    return parts[0] if len(parts) == 1 else parts or None


def error_text(result: types.CallToolResult) -> str:
    """Returns the text of a result that is an error."""
    texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
    text = "\n".join(texts).strip() or "the tool failed without a message"
    return f"{text[:MAX_ERROR_CHARS]} ..." if len(text) > MAX_ERROR_CHARS else text


def is_wrapped(schema: Mapping[str, Any]) -> bool:
    """Returns whether results are objects only because structured content must be one."""
    return list(schema.get("properties", {})) == [_WRAPPED] and _WRAPPED in schema.get(
        "required", ()
    )


def _unwrapped(value: Any, schema: Mapping[str, Any]) -> Any:
    if is_wrapped(schema) and isinstance(value, Mapping) and list(value) == [_WRAPPED]:
        return value[_WRAPPED]
    return value


def _part(block: Any) -> Any:
    match block:
        case types.TextContent(text=text):
            return text
        case types.ImageContent(data=data, mime_type=kind):
            return _media(kind, data) or _unread(kind, data)
        case types.AudioContent(data=data, mime_type=kind):
            return _media(kind, data) or _unread(kind, data)
        case types.EmbeddedResource(resource=resource):
            return _resource(resource)
        case types.ResourceLink():
            facts = block.model_dump(
                include={"uri", "name", "description", "mime_type", "size"}, exclude_none=True
            )
            return {"type": "link", **facts}
    return {"type": "unknown", "content": str(block)[:MAX_ERROR_CHARS]}


def _resource(resource: Any) -> dict[str, Any]:
    found = {"uri": str(resource.uri), "mime_type": resource.mime_type}
    if isinstance(resource, types.BlobResourceContents):
        content = _decoded(resource.blob)
        if content is None:
            return {**found, **_unread(resource.mime_type, resource.blob)}
        return {**found, "data": content}
    return {**found, "text": resource.text}


def _media(kind: str, data: str) -> Any:
    """Returns an image or audio for sub-LMs; None if it is neither, or not Base64."""
    if _decoded(data) is None:
        return None
    family, _, form = kind.partition("/")
    if not form.replace("-", "").replace("+", "").replace(".", "").isalnum():
        return None
    if family == "image":
        return dspy.Image(url=f"data:{kind};base64,{data}")
    if family == "audio":
        return dspy.Audio(data=data, audio_format=form.removeprefix("x-"))
    return None


def _decoded(data: str) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def _unread(kind: str | None, data: str) -> dict[str, Any]:
    """Returns the record of content that cannot be used."""
    content = _decoded(data)
    if content is None:
        return {"type": "unreadable", "mime_type": kind, "characters": len(data)}
    return {"type": "file", "mime_type": kind, "data": content}
