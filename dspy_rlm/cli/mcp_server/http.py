"""The server behind an address of this machine: the checks of host, origin and token."""

from __future__ import annotations

import hmac
import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from dspy_rlm.cli.exit_codes import CONFIGURATION, USAGE, CommandError
from dspy_rlm.terminal.escaping import show

# The variable with the token that clients must send; without it, every program on this machine is served.
TOKEN_VARIABLE = "DSPY_RLM_MCP_TOKEN"  # noqa: S105 - a name

PATH = "/mcp"

# A question with its text.
MAX_REQUEST_BYTES = 64 * 1024 * 1024

# Others would need transport security and users.
_HOSTS = {"127.0.0.1": socket.AF_INET, "localhost": socket.AF_INET, "[::1]": socket.AF_INET6}


def place_of(text: str) -> tuple[str, int]:
    """Returns the host and the port of `--http`, such as `8000` or `127.0.0.1:8000`.

    Raises:
        CommandError: It is no port, or no address of this machine.
    """
    host, _, port = text.rpartition(":")
    host = host or "127.0.0.1"
    if host not in _HOSTS:
        raise CommandError(
            f"--http {text}: the server is for this machine only. Write a port, or one of {', '.join(_HOSTS)} before it.",
            USAGE,
        )
    if not port.isdecimal() or not 0 <= int(port) < 65_536:
        raise CommandError(f"--http {text}: {port!r} is not a port.", USAGE)
    return host, int(port)


async def serve_http(server: MCPServer, text: str) -> None:
    """Serves until it is cancelled. The first line on stdout is the address.

    Raises:
        CommandError: The port cannot be used.
    """
    host, port = place_of(text)
    family = _HOSTS[host]
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"Cannot serve on {text}: {error.strerror}.", CONFIGURATION
            ) from error
        port = listening.getsockname()[1]
        names = [f"{name}:{port}" for name in _HOSTS]
        security = TransportSecuritySettings(
            allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names]
        )
        app: Any = server.streamable_http_app(
            streamable_http_path=PATH,
            transport_security=security,
            host=host,
            max_request_body_size=MAX_REQUEST_BYTES,
        )
        if token := os.environ.get(TOKEN_VARIABLE):
            app = _Guarded(app, token)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        show(f"http://{host}:{port}{PATH}", sys.stdout)
        await uvicorn.Server(config).serve(sockets=[listening])


class _Guarded:
    """An application that answers only requests with the token."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request."""
        if scope["type"] == "http":
            sent = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(sent, self._expected):
                start = {
                    "type": "http.response.start",
                    "status": 401,
                    "headers": [(b"www-authenticate", b"Bearer"), (b"content-length", b"0")],
                }
                await send(start)
                await send({"type": "http.response.body"})
                return
        await self._app(scope, receive, send)
