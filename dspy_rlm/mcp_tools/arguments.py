"""The arguments of `MCP`, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from dspy_rlm.errors import SignatureError
from sandbox_runtime.helpers import url_without_secrets

# Programs that start another program, whose name is more informative.
_RUNNERS = frozenset({"npx", "uvx", "uv", "node", "python", "python3", "bunx", "deno", "docker", "pipx", "sh", "bash"})  # fmt: skip
_SHOWN_CHARS = 100


def checked_command(command: Any) -> list[str]:
    """Returns the command as a list. Raises `SignatureError` if it is none."""
    parts = [command] if isinstance(command, (str, os.PathLike)) else command
    if not isinstance(parts, Sequence) or not parts:
        raise SignatureError(
            f'MCP: command must be a list of texts, such as ["npx", "-y", "a-server"], not {command!r:.100}.'
        )
    if isinstance(command, str) and (" " in command.strip()) and not os.path.exists(command):  # noqa: PTH110
        raise SignatureError(
            f"MCP: command must be a list, each argument on its own: {command.split()!r:.100}."
        )
    texts = [os.fspath(part) if isinstance(part, os.PathLike) else part for part in parts]
    for text in texts:
        if not isinstance(text, str) or "\0" in text:
            raise SignatureError(f"MCP: command has {text!r:.100}, which is not an argument.")
    if not texts[0].strip():
        raise SignatureError("MCP: command has no program.")
    return texts


def checked_url(url: Any) -> str:
    """Returns the address. Raises `SignatureError` if it is none."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise SignatureError(
            f"MCP: url must be an address, such as https://example.com/mcp, not {str(url)!r:.100}."
        )
    return str(url)


def checked_texts(name: str, values: Any) -> dict[str, str]:
    """Returns a mapping of texts. Raises `SignatureError` if it is none."""
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise SignatureError(f"MCP: {name} must be a mapping of texts.")
    for key, value in values.items():
        if not isinstance(key, str) or not key or "\0" in key or ("=" in key and name == "env"):
            raise SignatureError(f"MCP: {name} has the name {key!r:.100}, which is none.")
        if not isinstance(value, str) or "\0" in value:
            # Not the value: it may be a secret.
            raise SignatureError(
                f"MCP: {name}[{key!r:.100}] must be a text, not a {type(value).__name__}."
            )
    return dict(values)


def checked_headers(headers: Any) -> dict[str, str]:
    """Returns the headers. Raises `SignatureError` if they are none."""
    checked = checked_texts("headers", headers)
    for key, value in checked.items():
        if "\n" in key + value or "\r" in key + value:
            raise SignatureError(f"MCP: headers[{key!r:.100}] has a line break.")
    return checked


def checked_seconds(name: str, seconds: Any) -> float | None:
    """Returns a number of seconds. Raises `SignatureError` if it is none."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise SignatureError(f"MCP: {name} must be a number of seconds, not {seconds!r:.100}.")
    if not (0 < seconds < math.inf):
        raise SignatureError(
            f"MCP: {name} must be a number of seconds above 0, not {seconds!r:.100}."
        )
    return float(seconds)


def checked_names(name: str, names: Any) -> tuple[str, ...] | None:
    """Returns names of tools. Raises `SignatureError` if they are none."""
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Collection):
        raise SignatureError(f"MCP: {name} must be a list of names, not {names!r:.100}.")
    if not all(isinstance(one, str) for one in names):
        raise SignatureError(f"MCP: {name} must be a list of names.")
    return tuple(names)


def name_of(name: Any, command: Sequence[str] | None, url: str | None) -> str:
    """Returns the server's name: the user's, or one from the command or the address."""
    if name is not None:
        if not isinstance(name, str) or not name.strip():
            raise SignatureError(f"MCP: name must be a text, not {name!r:.100}.")
        return name[:_SHOWN_CHARS]
    if url is not None:
        return urlsplit(url_without_secrets(url)).hostname or "server"
    words = [word for word in command or () if not word.startswith("-")]
    for word in words:
        stem = PurePath(word.partition("@")[0] or word).stem
        if stem and stem.rstrip("0123456789.") not in _RUNNERS:
            return stem[:_SHOWN_CHARS]
    return PurePath(words[0]).stem[:_SHOWN_CHARS] if words else "server"
