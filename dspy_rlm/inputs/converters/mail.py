"""Mail: `.eml` and `.mbox` as messages, with their headers, their text, and the names of their attachments."""

from __future__ import annotations

import email
import email.policy
import email.utils
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

_HEADERS = ("from", "to", "cc", "subject")
_MAX_PARTS = 1000
_MAX_MESSAGE_BYTES = 256 * 1024 * 1024


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields a record for each message."""
    with open(path, "rb") as file:  # noqa: PTH123
        is_mbox = file.read(5) == b"From "
        file.seek(0)
        if not is_mbox:
            yield {"record": _message(file.read())}
            return
        lines: list[bytes] = []
        size, number, blank = 0, 0, True
        for line in file:
            if line.startswith(b"From ") and blank:
                if lines:
                    number += 1
                    yield {"record": {"number": number, **_message(b"".join(lines))}}
                lines, size = [], 0
            else:
                # `mboxrd` quotes lines that look like a separator.
                if line.startswith(b">") and line.lstrip(b">").startswith(b"From "):
                    line = line[1:]
                size += len(line)
                if size <= _MAX_MESSAGE_BYTES:
                    lines.append(line)
            blank = not line.strip()
        if lines:
            yield {"record": {"number": number + 1, **_message(b"".join(lines))}}


def _message(data: bytes) -> dict[str, Any]:
    message: EmailMessage = email.message_from_bytes(data, policy=email.policy.default)
    record: dict[str, Any] = {header: _header(message, header) for header in _HEADERS}
    record["date"] = _date(message)
    texts: dict[str, list[str]] = {"plain": [], "html": []}
    attachments = []
    for at, part in enumerate(message.walk()):
        if at >= _MAX_PARTS:
            break
        if part.is_multipart():
            continue
        if filename := _filename(part):
            attachments.append(filename)
        elif part.get_content_maintype() == "text":
            texts["html" if part.get_content_subtype() == "html" else "plain"].append(
                _content(part)
            )
        else:
            attachments.append(part.get_content_type())
    text = "\n".join(texts["plain"]).replace("\r\n", "\n").strip("\n")
    if not text.strip() and texts["html"]:
        text = _from_html("\n".join(texts["html"]))
    return {**record, "text": text, "attachments": attachments}


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except Exception:  # noqa: BLE001 - the parser of headers fails in many ways on damaged ones
        return ""


def _date(message: EmailMessage) -> Any:
    text = _header(message, "date")
    try:
        return email.utils.parsedate_to_datetime(text) if text else None
    except (TypeError, ValueError):
        return text


def _filename(part: Any) -> str:
    try:
        return part.get_filename() or ""
    except Exception:  # noqa: BLE001 - as above
        return "attachment"


def _content(part: Any) -> str:
    data = part.get_payload(decode=True) or b""
    try:
        return data.decode(part.get_content_charset() or "utf-8", "replace")
    except (LookupError, ValueError):
        return data.decode("latin-1")


def _from_html(html: str) -> str:
    try:
        from dspy_rlm.inputs.converters.html import markdown

        return markdown(html, headings=False)
    except ModuleNotFoundError:
        return html
