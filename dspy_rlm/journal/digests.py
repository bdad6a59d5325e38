"""An LM call as JSON data, and a digest that equal calls share, in any process.

Keys, addresses and the number of retries are no part of it: a run may be resumed with another key.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import orjson
import pydantic

from dspy_rlm.lms.call_arguments import CallArguments
from sandbox_runtime.helpers import is_secret_name

# Options that do not change the request. `messages` and `request` are the prompt.
_NOT_ASKED = frozenset({"messages", "request", "cache", "num_retries", "callbacks"})

# Options of the connection, as in DSPy's `CLIENT_KEYS`.
_CONNECTION = frozenset(
    {"api_base", "api_key", "api_version", "azure_ad_token_provider", "base_url", "custom_llm_provider",
     "extra_headers", "extra_query", "headers", "organization", "project", "timeout"}
)  # fmt: skip

_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


def messages_of(arguments: CallArguments) -> list[Any]:
    """Returns the messages of a call as JSON data; a plain text is one message of the user."""
    request = arguments.merged.get("request") or arguments.prompt
    if not isinstance(request, str) and request is not None:
        return [{"role": "request", "content": _plain(request)}]
    messages = arguments.options.get("messages")
    if messages:
        plain: list[Any] = _plain(messages)
        return plain
    return [{"role": "user", "content": arguments.prompt or ""}]


def options_of(arguments: CallArguments) -> dict[str, Any]:
    """Returns the options of the LM and of the call as JSON data, without keys and addresses."""
    options_sent = {
        name: value
        for name, value in arguments.merged.items()
        if value is not None
        and name not in _NOT_ASKED
        and name not in _CONNECTION
        and not is_secret_name(name)
    }
    plain: dict[str, Any] = _plain(options_sent)
    return plain


def digest_of(kind: str, model: str, messages: Any, options: Mapping[str, Any]) -> str:
    """Returns the digest of a call: 32 hexadecimal digits."""
    return hashlib.sha256(_json([kind, model, messages, options])).hexdigest()[:32]


def call_digest(kind: str, arguments: CallArguments) -> str:
    """Returns the digest of a call; see `CallRecord.digest`."""
    return digest_of(kind, arguments.model, messages_of(arguments), options_of(arguments))


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_shown, option=_SORTED)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        return json.dumps(value, default=_shown, sort_keys=True).encode()


def _plain(value: Any) -> Any:
    """Returns a value as JSON data. Parts that are none are described."""
    return json.loads(_json(value)) if not _is_plain(value) else value


def _is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(key) is str and _is_plain(part) for key, part in value.items())
    if type(value) is list:
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def _shown(value: Any) -> Any:
    if isinstance(value, type):
        return {"class": f"{value.__module__}.{value.__qualname__}", "schema": _schema(value)}
    if isinstance(value, pydantic.BaseModel):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Mapping):
        return dict(value)
    return {"class": f"{type(value).__module__}.{type(value).__qualname__}"}


@functools.lru_cache(maxsize=64)
def _schema(kind: type) -> Any:
    try:
        return kind.model_json_schema() if issubclass(kind, pydantic.BaseModel) else None
    except pydantic.errors.PydanticUserError:
        return None
