"""LM calls and tool calls as a page shows them: status, latency, tokens, cost, prompt and reply."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.export.contents import value_of
from dspy_rlm.journal.lines import dumped
from dspy_rlm.journal.records import AttemptRecord, CallRecord, ErrorRecord, ToolRecord
from dspy_rlm.protocols.recording import OWN_KINDS
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.content.indexes import Index, amount, end_of_call, span
from dspy_rlm.viewer.series import Series
from dspy_rlm.viewer.texts import Texts

# Characters of the JSON of one argument or result, and of a data URL in a prompt: images are not shown.
MAX_JSON_CHARS = 200_000
MAX_DATA_URL_CHARS = 200


def call_views(index: Index, texts: Texts) -> tuple[list[doc.Call], list[doc.Prompt]]:
    """Returns all LM calls, and their prompts, each of which is there once."""
    prompts = _Prompts(texts)
    for at, call in _by_run(index):
        prompts.add(at, call)
    numbers, listed = prompts.finish()
    groups = _groups_by_call(index)
    views = [
        _call(index, texts, call, numbers.get(at), groups.get(at))
        for at, call in enumerate(index.calls)
    ]
    return views, listed


def groups_of(index: Index) -> list[list[int]]:
    """Returns the sub-calls with equal model, prompt and options, as groups of two or more."""
    equal: dict[str, list[int]] = {}
    for at, call in enumerate(index.calls):
        if call.is_sub_call and call.digest:
            equal.setdefault(call.digest, []).append(at)
    return [group for group in equal.values() if len(group) > 1]


def _groups_by_call(index: Index) -> dict[int, int]:
    return {at: number for number, group in enumerate(groups_of(index)) for at in group}


def _by_run(index: Index) -> list[tuple[int, CallRecord]]:
    """Returns the calls with their places; those of a run's own turns first, so that equal parts of their prompts touch."""
    calls = list(enumerate(index.calls))
    return sorted(
        calls, key=lambda one: (one[1].kind not in OWN_KINDS, index.run_at[one[1].run_id], one[0])
    )


@dataclasses.dataclass
class _Placed:
    """A message whose text is in a series."""

    role: str
    series: tuple[str, str, int]
    at: int
    more: doc.Text


class _Prompts:
    """The prompts of the calls. Those of a run's turns, and of one of its functions, are compared with the ones before."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._series: dict[tuple[str, str, int], Series] = {}
        self._lengths: dict[tuple[str, str, int], int] = {}
        self._calls: list[tuple[int, str, list[_Placed]]] = []

    def add(self, at: int, call: CallRecord) -> None:
        """Adds the prompt of a call; nothing if a part of it is missing."""
        try:
            messages = call.prompt.messages()
        except MissingValueError:
            return
        placed = []
        for number, message in enumerate(messages):
            content, more = _parts(message)
            place = call.run_id, call.kind if call.is_sub_call else "", number
            self._series.setdefault(place, Series(self._texts)).add(content)
            length = self._lengths[place] = self._lengths.get(place, 0) + 1
            role = self._texts.name(str(message.get("role", "")))
            placed.append(_Placed(role, place, length - 1, self._texts.add(more)))
        self._calls.append((at, call.digest, placed))

    def finish(self) -> tuple[dict[int, int], list[doc.Prompt]]:
        """Returns the numbers of the prompts by call, and the prompts."""
        texts = {place: series.finish() for place, series in self._series.items()}
        prompts: dict[bytes, int] = {}
        numbers: dict[int, int] = {}
        listed: list[doc.Prompt] = []
        for at, digest, placed in self._calls:
            messages: list[doc.Message] = [
                {"role": one.role, "content": texts[one.series][one.at], "more": one.more}
                for one in placed
            ]
            # Removed texts of different prompts may be equally long.
            key = dumped([messages, digest if self._texts.redact else ""])
            if key not in prompts:
                prompts[key] = len(listed)
                listed.append({"messages": messages})
            numbers[at] = prompts[key]
        return numbers, listed


def _parts(message: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the text of a message, and all else in it as JSON."""
    content = message.get("content")
    rest = {key: part for key, part in message.items() if key not in ("role", "content")}
    if isinstance(content, str):
        text = content
    elif isinstance(content, list):
        text = "\n".join(
            str(part.get("text", ""))
            for part in content
            if isinstance(part, dict) and "text" in part
        )
        others = [part for part in content if not (isinstance(part, dict) and "text" in part)]
        rest |= {"content": others} if others else {}
    else:
        text = ""
        rest |= {"content": content} if content is not None else {}
    return text, as_json(_without_data(rest)) if rest else ""


def _without_data(value: Any, depth: int = 0) -> Any:
    """Returns JSON data with the data of images and sounds left out."""
    if isinstance(value, str):
        if len(value) > MAX_DATA_URL_CHARS and (value.startswith("data:") or " " not in value):
            return f"{value[:60]}… ({len(value):,} characters)"
        return value
    if depth > 50:
        return "…"
    if isinstance(value, dict):
        return {str(key): _without_data(part, depth + 1) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_data(part, depth + 1) for part in value]
    return value


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Returns JSON for people: with its letters as they are, cut where it is very long."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        return "(cannot be shown as JSON)"
    if len(text) > MAX_JSON_CHARS:
        more = len(text) - MAX_JSON_CHARS
        return f"{text[:MAX_JSON_CHARS]}\n… ({more:,} more characters)"
    return text


def _call(
    index: Index, texts: Texts, call: CallRecord, prompt: int | None, group: int | None
) -> doc.Call:
    end = end_of_call(call)
    replies = _replies(call)
    error = call.error
    return {
        "run": index.run_at[call.run_id],
        "step": call.iteration,
        "kind": texts.name(call.kind),
        "is_sub_call": call.is_sub_call,
        "tool": index.tool_at.get(call.parent_call or ""),
        "model": texts.name(call.model),
        "depth": call.depth,
        "status": _status(call, replies),
        "cached": call.cached,
        "started": index.since(call.started_at),
        "seconds": None if end is None else span(end - call.started_at),
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cost": amount(call.cost),
        "finish_reason": texts.name(call.finish_reason),
        "prompt": prompt,
        "chars_in": max((one.chars_in for one in call.attempts), default=0),
        "chars_out": max((one.chars_out for one in call.attempts), default=0),
        "replies": [texts.add(reply) for reply in replies or ()],
        "error": _error_text(error, texts),
        "error_type": texts.type_name(error.type) if error else "",
        "error_status": error.status if error else None,
        "attempts": [_attempt(index, texts, one) for one in call.attempts],
        "group": group,
        "options": texts.add(as_json(dict(call.options))) if call.options else "",
    }


def _replies(call: CallRecord) -> list[str] | None:
    if not call.answered:
        return None
    try:
        replies: Sequence[Any] = call.reply
    except MissingValueError:
        return ["(not in the journal)"]
    return [_reply_text(reply) for reply in replies]


def _reply_text(reply: Any) -> str:
    """Returns a reply: DSPy's form of it is a text, or a dict with a text and more."""
    if isinstance(reply, str):
        return reply
    if isinstance(reply, dict) and set(reply) == {"text"} and isinstance(reply["text"], str):
        return reply["text"]
    return "" if reply is None else as_json(_without_data(reply))


def _status(call: CallRecord, replies: list[str] | None) -> str:
    if call.error is not None:
        return "failed"
    if replies is None:
        return "running"
    if call.attempts and call.attempts[-1].refusal:
        return "refused"
    if call.was_cut:
        return "cut"
    return "answered" if any(reply.strip() for reply in replies) else "empty"


def _attempt(index: Index, texts: Texts, attempt: AttemptRecord) -> doc.Attempt:
    return {
        "started": index.since(attempt.started_at),
        "seconds": span(attempt.seconds),
        "error": texts.add(attempt.error),
        "cached": attempt.cached,
        "cut": attempt.was_cut,
        "input_tokens": attempt.input_tokens,
        "output_tokens": attempt.output_tokens,
        "cost": amount(attempt.cost),
    }


def _error_text(error: ErrorRecord | None, texts: Texts) -> doc.Text:
    return texts.add(error.message) if error else ""


def tool_views(index: Index, texts: Texts) -> list[doc.ToolCall]:
    """Returns all calls of tools and of the REPL's functions."""
    return [_tool(index, texts, tool) for tool in index.tools]


def _tool(index: Index, texts: Texts, tool: ToolRecord) -> doc.ToolCall:
    run = index.runs[index.run_at[tool.run_id]]

    def shown(value: Any) -> doc.Text:
        plain = value_of(run, value)
        return "" if value is None else texts.add(as_json(_without_data(plain)))

    return {
        "run": index.run_at[tool.run_id],
        "step": tool.iteration or 0,
        "name": texts.name(tool.name),
        "is_tool": tool.is_tool,
        "started": index.since(tool.started_at),
        "seconds": None if tool.seconds is None else span(tool.seconds),
        "arguments": shown(tool.arguments),
        "result": shown(tool.result),
        "error": _error_text(tool.error, texts),
        "error_type": texts.type_name(tool.error.type) if tool.error else "",
    }
