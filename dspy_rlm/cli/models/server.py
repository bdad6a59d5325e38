"""The list of models that an OpenAI-compatible server offers. Asking for it costs nothing."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The names under which servers state a context window: vLLM and SGLang, OpenRouter, LM Studio, llama.cpp.
_WINDOWS = (
    "max_model_len",
    "context_length",
    "max_context_length",
    "context_window",
    "n_ctx",
    "n_ctx_train",
)

SECONDS = 5.0

# A list of models is shorter; a server may send anything.
_MAX_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Listed:
    """The answer of a server."""

    windows: Mapping[str, int | None] = field(default_factory=dict)
    """The context windows by the names of the models; None if the server does not state it."""

    problem: str = ""
    """The reason why there is no list."""

    status: int | None = None
    """The HTTP status of a refusal."""


def listed_at(api_base: str, key: str | None) -> Listed:
    """Returns the models of a server."""
    url = f"{api_base.rstrip('/')}/models"
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked below
    if not url.startswith(("http://", "https://")):
        return Listed(problem="the address does not begin with http:// or https://")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return Listed(_windows(json.loads(answer.read(_MAX_BYTES))))
    except urllib.error.HTTPError as error:
        return Listed(problem=f"HTTP {error.code}", status=error.code)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "reason", None) or error
        return Listed(problem=str(reason) or type(error).__name__)


def _windows(answer: Any) -> dict[str, int | None]:
    rows = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(rows, list):
        raise ValueError("the answer is not a list of models")
    return {str(row["id"]): _window(row) for row in rows if isinstance(row, dict) and row.get("id")}


def _window(row: Mapping[str, Any]) -> int | None:
    meta = row.get("meta")
    for part in (row, meta if isinstance(meta, dict) else {}):
        for name in _WINDOWS:
            value = part.get(name)
            if type(value) is int and value > 0:
                return value
    return None


def key_of(variable: str) -> str | None:
    """Returns the key of a provider; None if it is not set."""
    return os.environ.get(variable) or None
