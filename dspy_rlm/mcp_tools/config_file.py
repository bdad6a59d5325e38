"""The file in which programs list MCP servers: `{"mcpServers": {"name": {"command": ..., "args": [...]}}}`."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dspy_rlm.errors import SignatureError

# Larger than any list of servers.
MAX_BYTES = 1024 * 1024

# The keys under which programs have the servers: most of them, and VS Code.
_KEYS = ("mcpServers", "servers")

# The keys of an address: of most programs, of Windsurf, of Gemini.
_ADDRESSES = ("url", "serverUrl", "httpUrl")

# The values of `type`, and the transport of each.
_TYPES = {
    "stdio": None,
    "http": "http",
    "streamable-http": "http",
    "streamableHttp": "http",
    "streamable_http": "http",
    "sse": "sse",
}


def servers_of(
    path: str | os.PathLike[str], only: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Returns the arguments of `MCP` for each server of a file, by name.

    Raises:
        SignatureError: The file cannot be read, or says something that cannot be used.
    """
    servers = _servers(Path(path))
    if only is not None:
        names = [only] if isinstance(only, str) else list(only)
        if unknown := [name for name in names if name not in servers]:
            raise SignatureError(
                f"{path} has no MCP server {unknown[0]!r}. It has: {', '.join(servers) or 'none'}."
            )
        servers = {name: servers[name] for name in names}
    else:
        servers = {name: one for name, one in servers.items() if not _is_disabled(one)}
    return {name: _settings(one, f"{path}: {name}") for name, one in servers.items()}


def _servers(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SignatureError(f"{path} is too large for a list of MCP servers.")
        whole = json.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise SignatureError(
            f"The MCP servers of {path} cannot be read: {error.strerror}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"{path} is not JSON: {error}.") from error
    key = next((key for key in _KEYS if isinstance(whole, dict) and key in whole), None)
    servers = whole.get(key) if key else None
    if not isinstance(servers, dict):
        raise SignatureError(
            f'{path} lists no MCP servers. It must be {{"mcpServers": {{"name": {{"command": ...}}}}}}.'
        )
    return servers


def _is_disabled(entry: Any) -> bool:
    return isinstance(entry, Mapping) and (
        entry.get("disabled") is True or entry.get("enabled") is False
    )


def _settings(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise SignatureError(f"{where} must be an object with a command or a url.")
    kind = entry.get("type", entry.get("transport"))
    if kind is not None and (not isinstance(kind, str) or kind not in _TYPES):
        raise SignatureError(
            f"{where} has the unknown type {kind!r:.100}. Known: {', '.join(_TYPES)}."
        )
    if "envFile" in entry:
        raise SignatureError(
            f"{where} has envFile, which is not read. Write its variables into env."
        )
    address = next((key for key in _ADDRESSES if key in entry), None)
    is_remote = address is not None
    if is_remote == ("command" in entry):
        raise SignatureError(f"{where} must have either a command or a url.")
    if is_remote:
        found: dict[str, Any] = {"url": entry[address], "headers": entry.get("headers")}
        found["transport"] = _TYPES[kind] if kind else None
    else:
        command, args = entry["command"], entry.get("args") or []
        if not isinstance(command, str) or not isinstance(args, list):
            raise SignatureError(f"{where}: command must be a text, and args a list of texts.")
        found = {"command": [command, *args], "env": entry.get("env"), "cwd": entry.get("cwd")}
    return {
        key: _expanded(value, f"{where}: {key}")
        for key, value in found.items()
        if value is not None
    }


# ---- Variables ----


def _expanded(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return expanded(value, where)
    if isinstance(value, list):
        return [_expanded(part, where) for part in value]
    if isinstance(value, Mapping):
        # Numbers and flags of `env` are texts there.
        return {key: _expanded(_as_text(part), f"{where}: {key}") for key, part in value.items()}
    return value


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


def expanded(text: str, where: str) -> str:
    """Returns a text with `${NAME}`, `${env:NAME}` and `${NAME:-default}` replaced by variables of the environment.

    Raises:
        SignatureError: A variable is not set and has no default, or is none of the environment.
    """
    parts = text.split("${")
    found = [parts[0]]
    for part in parts[1:]:
        name, is_closed, rest = part.partition("}")
        if not is_closed:
            found.append("${" + part)
            continue
        found += [_value(name, where), rest]
    return "".join(found)


def _value(inside: str, where: str) -> str:
    name, has_default, default = inside.removeprefix("env:").partition(":-")
    if not name.replace("_", "a").isalnum():
        raise SignatureError(
            f"{where} has ${{{inside[:100]}}}, which is no variable of the environment. Only ${{NAME}} and "
            "${NAME:-default} are replaced."
        )
    value = os.environ.get(name)
    if value:
        return value
    if has_default:
        return default
    if value is None:
        raise SignatureError(
            f"{where} needs the variable {name}, which is not set. Set it, or write ${{{name}:-default}}."
        )
    return value
