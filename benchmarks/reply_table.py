"""The table of docs/replies.md of all forms: `python -m benchmarks.reply_table` prints it, and a test compares it with the page."""

from __future__ import annotations

import re

from benchmarks.reply_forms import forms
from benchmarks.reply_parts import Form
from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.reader import read_reply

KINDS = {
    "label": "labels of the fence",
    "place": "places of the code",
    "fields": "fields and formats",
    "damage": "damage",
    "several": "several blocks",
    "agent": "formats of models' tool calls",
    "report": "public reports",
    "program": "programs that readers break",
    "cell": "cells that other REPLs refuse",
    "channel": "channels",
    "nothing": "no code",
    "cut off": "cut off",
}

# The variants of a form that are one entry.
_VARIANT = re.compile(r", (?:no fields|no fence|JSON)$")


def raw(form: Form) -> RawReply:
    """Returns the reply of a form, as a client returns it."""
    message = form.message
    thoughts, calls = message.get("reasoning_content") or "", message.get("tool_calls") or ()
    return RawReply(message.get("content"), thoughts, calls, form.is_cut)


def becomes(form: Form) -> str:
    """Returns what a form becomes, in the words of the page."""
    reading = read_reply(raw(form))
    if reading.problem:
        return f"message `{reading.cause}`"
    repaired = ", ".join(f"`{name}`" for name in reading.repairs)
    note = ", with a note" if reading.notes else ""
    return f"runs{f', repaired: {repaired}' if repaired else ''}{note}"


def table() -> str:
    """Returns the table, in Markdown."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for form in forms():
        name = _VARIANT.sub("", form.name) if form.kind in ("label", "program") else form.name
        shown = f"`{name}`" if form.kind == "label" else name.replace("|", "\\|")
        rows.setdefault((form.kind, becomes(form)), {})[shown] = None
    lines = [
        f"| {KINDS[kind]} | {result} | {'; '.join(names)} |"
        for (kind, result), names in rows.items()
    ]
    return "\n".join(["| kind | becomes | forms |", "|---|---|---|", *lines])


if __name__ == "__main__":
    print(table())
