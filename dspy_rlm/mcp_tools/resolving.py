"""The settings of a run with the tools of its servers, which are listed when it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import dspy

from dspy_rlm.prompts.tool_docs import document
from dspy_rlm.protocols.tool_servers import ToolServer
from dspy_rlm.settings.config import RLMConfig
from dspy_rlm.signatures.served_tools import is_served, shorten

# With more tools of servers, or longer documentation of them, prompts have one line for each.
MANY_TOOLS, LONG_CHARS = 20, 12_000


def split_servers(tools: Any) -> tuple[tuple[ToolServer, ...], Any]:
    """Splits the argument `tools` into servers and other tools.

    In a mapping, the key of a server begins the names of its tools.
    """
    if isinstance(tools, ToolServer):
        return (tools,), None
    if isinstance(tools, Mapping):
        named = {name: one for name, one in tools.items() if isinstance(one, ToolServer)}
        servers = tuple(_prefixed(one, str(name)) for name, one in named.items())
        return servers, {n: v for n, v in tools.items() if n not in named} if named else tools
    if isinstance(tools, (list, tuple)):
        flat = [part for one in tools for part in (one if _is_servers(one) else [one])]
        found = tuple(one for one in flat if isinstance(one, ToolServer))
        return found, [one for one in flat if not isinstance(one, ToolServer)] if found else tools
    return (), tools


def with_served_tools(config: RLMConfig) -> RLMConfig:
    """Returns the settings of a run: with the tools of all servers, which are opened if needed.

    Raises:
        ToolServerError: A server cannot be started or reached.
    """
    if not config.servers:
        return config
    tools: dict[str, dspy.Tool] = dict(config.tools)
    taken = {*config.signature.input_fields, *config.signature.output_fields, *tools}
    for server in config.servers:
        found = server.tools_for(taken)
        tools.update(found)
        taken |= set(found)
    served = [tool for tool in tools.values() if is_served(tool)]
    if len(served) > MANY_TOOLS or sum(len(document(tool)) for tool in served) > LONG_CHARS:
        shorten(served)
    return dataclasses.replace(config, tools=tools, servers=())


def close_all(servers: Iterable[ToolServer]) -> None:
    """Closes all servers, even if closing one of them fails."""
    errors = []
    for server in servers:
        try:
            server.close()
        except Exception as error:  # noqa: BLE001 - the others are closed first
            errors.append(error)
    if errors:
        raise errors[0]


def _is_servers(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(one, ToolServer) for one in value)


def _prefixed(server: Any, name: str) -> ToolServer:
    prefixed: ToolServer = server.prefixed(name) if hasattr(server, "prefixed") else server
    return prefixed
