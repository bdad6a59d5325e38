"""OpenAI's chat-completions format, without I/O: bytes in, a request out; a reply in, bytes out.

Knows the field names, the validation of requests and the wording of errors. Knows nothing of sockets, models and
prompt conventions; `listener.py` and `server.py` have those.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Part of every reply, so that a saved transcript shows that a script answered.
FINGERPRINT = "scripted-player-not-a-language-model"

# A common rule of thumb for English text. It has to be stable, not exact.
CHARS_PER_TOKEN = 4

# OpenAI's limit. A larger number is a mistake of the caller.
MAX_CANDIDATES = 128


class InvalidRequestError(ValueError):
    """The body is not a chat-completions request; the message says why."""


@dataclass(frozen=True)
class Message:
    """One message of a request, with its text parts joined."""

    role: str
    """`system`, `user`, `assistant` or another role of the chat API."""

    text: str
    """The text; pictures and other parts are left out."""


@dataclass(frozen=True)
class ChatRequest:
    """One chat-completions request, as a player sees it."""

    model: str
    """The name of the requested model, without DSPy's `openai/`."""

    messages: tuple[Message, ...]
    """All messages, first to last."""

    response_format: Mapping[str, Any] | None
    """OpenAI's `response_format`, when the caller asks for JSON."""

    raw: Mapping[str, Any]
    """The whole decoded body, including fields that have no attribute here."""

    @property
    def system(self) -> str:
        """The text of all system (or developer) messages."""
        texts = [m.text for m in self.messages if m.role in {"system", "developer"}]
        return "\n\n".join(texts)

    @property
    def prompt(self) -> str:
        """The text of the last user message, or "" when there is none."""
        texts = [m.text for m in self.messages if m.role == "user"]
        return texts[-1] if texts else ""

    @property
    def stream(self) -> bool:
        """True if the reply is to be sent as server-sent events."""
        return self.raw.get("stream") is True

    @property
    def most_tokens(self) -> int | None:
        """The maximum length of the reply, if the request has one."""
        limit = self.raw.get("max_tokens") or self.raw.get("max_completion_tokens")
        return limit if isinstance(limit, int) else None

    @property
    def candidates(self) -> int:
        """The number of requested alternatives (`n`)."""
        return int(self.raw.get("n") or 1)


class Counted(str):
    """A reply with the token counts and the finish reason that the server reports, to script costs."""

    input_tokens: int
    """Tokens of the prompt."""

    output_tokens: int
    """Tokens of all candidates together."""

    finish_reason: str
    """The reason for its end."""

    cost: float | None
    """US dollars that are reported in a header, as LiteLLM's proxy does."""

    def __new__(
        cls,
        text: str,
        input_tokens: int,
        output_tokens: int,
        finish_reason: str = "stop",
        cost: float | None = None,
    ) -> Counted:
        """A reply with this text.

        Args:
            text: The text.
            input_tokens: Tokens of the prompt.
            output_tokens: Tokens of all candidates together.
            finish_reason: The reason for its end, such as "stop", "length" or "content_filter".
            cost: US dollars for the header; None sends none.
        """
        reply = super().__new__(cls, text)
        reply.cost = cost
        reply.input_tokens, reply.output_tokens = input_tokens, output_tokens
        reply.finish_reason = finish_reason
        return reply


class Called(str):
    """A reply that calls a tool besides its text."""

    call: Mapping[str, Any]
    """The call as the chat API has it."""

    def __new__(cls, text: str, name: str, arguments: Mapping[str, Any]) -> Called:
        """A reply with this text, which calls the tool `name`.

        Args:
            text: The text, usually empty.
            name: The name of the tool.
            arguments: The arguments by name; anything that JSON can hold.
        """
        reply = super().__new__(cls, text)
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        reply.call = {"id": "call_1", "type": "function", "function": function}
        return reply


def read_request(body: bytes) -> ChatRequest:
    """Decode one request.

    Raises:
        InvalidRequestError: The body is not JSON, or not a chat-completions request.
    """
    raw = _read_object(body)
    model = raw.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequestError("'model' must be a non-empty string.")
    response_format = raw.get("response_format")
    if response_format is not None and not isinstance(response_format, dict):
        raise InvalidRequestError("'response_format' must be an object.")
    _check_candidates(raw.get("n"))
    return ChatRequest(model, _read_messages(raw.get("messages")), response_format, raw)


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    # Text nested too deeply is a RecursionError, not a ValueError.
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The body is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    return raw


def _check_candidates(n: object) -> None:
    if n is None:
        return
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_CANDIDATES:
        raise InvalidRequestError(f"'n' must be an integer from 1 to {MAX_CANDIDATES}.")


def _read_messages(messages: object) -> tuple[Message, ...]:
    if not isinstance(messages, list) or not messages:
        raise InvalidRequestError("'messages' must be a non-empty array.")
    return tuple(_read_message(message) for message in messages)


def _read_message(message: object) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise InvalidRequestError("Every message must be an object with a 'role'.")
    return Message(message["role"], _read_content(message.get("content")))


def _read_content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequestError("'content' must be a string or an array of parts.")
    return "".join(_read_part(part) for part in content)


def _read_part(part: object) -> str:
    if not isinstance(part, dict):
        raise InvalidRequestError("Every content part must be an object.")
    text = part.get("text", "")
    if not isinstance(text, str):
        raise InvalidRequestError("'text' of a content part must be a string.")
    return text


def estimate_tokens(text: str) -> int:
    """Estimates a token count: the characters divided by four, rounded up. No tokenizer is run."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def estimate_usage(request: ChatRequest, reply: str) -> dict[str, int]:
    """Returns OpenAI's `usage` object: the reply's own counts, otherwise those of `estimate_tokens`."""
    if isinstance(reply, Counted):
        prompt_tokens, completion_tokens = reply.input_tokens, reply.output_tokens
    else:
        prompt_tokens = sum(estimate_tokens(message.text) for message in request.messages)
        completion_tokens = estimate_tokens(reply) * request.candidates
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def write_completion(request: ChatRequest, reply: str, *, number: int, created: int) -> bytes:
    """Returns the body of a whole reply."""
    message: dict[str, Any] = {"role": "assistant", "content": reply}
    if isinstance(reply, Called):
        message["tool_calls"] = [reply.call]
    choices = [
        {"index": index, "message": message, "finish_reason": _reason(reply), "logprobs": None}
        for index in range(request.candidates)
    ]
    head = _head(request, "chat.completion", number=number, created=created)
    usage = estimate_usage(request, reply)
    return _encode({**head, "choices": choices, "usage": usage})


def write_events(
    request: ChatRequest, reply: str, *, number: int, created: int
) -> tuple[bytes, ...]:
    """Yields the same reply as server-sent events, with a word or whitespace in each."""
    head = _head(request, "chat.completion.chunk", number=number, created=created)
    events = [_event({**head, "choices": [choice]}) for choice in _stream_choices(request, reply)]
    options = request.raw.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        events.append(_event({**head, "choices": [], "usage": estimate_usage(request, reply)}))
    return (*events, b"data: [DONE]\n\n")


def _stream_choices(request: ChatRequest, reply: str) -> Iterator[dict[str, Any]]:
    words: list[str] = re.findall(r"\s+|\S+", reply)
    for index in range(request.candidates):
        first = {"role": "assistant", "content": ""}
        for delta in (first, *({"content": word} for word in words)):
            yield {"index": index, "delta": delta, "finish_reason": None}
        if isinstance(reply, Called):
            called = {"tool_calls": [{"index": 0, **reply.call}]}
            yield {"index": index, "delta": called, "finish_reason": None}
        yield {"index": index, "delta": {}, "finish_reason": _reason(reply)}


def _reason(reply: str) -> str:
    if isinstance(reply, Called):
        return "tool_calls"
    return reply.finish_reason if isinstance(reply, Counted) else "stop"


def write_models(names: Iterable[str]) -> bytes:
    """Returns the body of `GET /v1/models`."""
    models = [
        {"id": name, "object": "model", "created": 0, "owned_by": "dspy-rlm"} for name in names
    ]
    return _encode({"object": "list", "data": models})


def write_error(status: int, message: str, code: str | None = None) -> bytes:
    """Returns the body of an error, in OpenAI's wording."""
    if status == 429:
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error" if status < 500 else "server_error"
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _head(request: ChatRequest, kind: str, *, number: int, created: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": kind,
        "created": created,
        "model": request.model,
        "system_fingerprint": FINGERPRINT,
    }


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: " + _encode(payload) + b"\n\n"


def _encode(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload).encode()
