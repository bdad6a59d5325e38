"""An MCP server for tests, over stdio or HTTP: `python mcp_server.py [http PORT | sse PORT]`."""

from __future__ import annotations

import enum
import os
import sys
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

server = MCPServer("warehouse")


class Kind(enum.Enum):
    """Kinds of goods."""

    DRY = "dry"
    WET = "wet"


class Item(BaseModel):
    """An item."""

    sku: str
    amount: int = Field(1, ge=0, description="How many.")


@server.tool()
def move(
    warehouse: str,
    amount: int = 1,
    mode: Literal["fast", "slow"] = "fast",
    kind: Kind = Kind.DRY,
    items: list[Item] | None = None,
    weight: Annotated[float, Field(description="In kg.", gt=0)] = 1.5,
) -> str:
    """Moves goods."""
    skus = [item.sku for item in items or []]
    return f"{warehouse} {amount} {mode} {kind.value} {skus} {weight}"


@server.tool(name="web-search")
def web_search(query: str) -> list[str]:
    """Searches the web."""
    return [query, query.upper()]


@server.tool()
def refuse() -> str:
    """Fails, and quotes the key that the server was started with."""
    raise ToolError(f"the warehouse answered 401 to the key {os.environ['WAREHOUSE_KEY']}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["http", port]:
            server.run("streamable-http", port=int(port))
        case ["sse", port]:
            server.run("sse", port=int(port))
        case _:
            server.run()
