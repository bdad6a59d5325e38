"""A tool with the public surface of LangChain's, and the JSON schema of a tool of a server."""

from __future__ import annotations

from typing import Any

SCHEMA = {
    "type": "object",
    "required": ["warehouse"],
    "properties": {
        "amount": {"default": 1, "title": "Amount", "type": "integer"},
        "warehouse": {"title": "Warehouse", "type": "string"},
        "mode": {"default": "fast", "enum": ["fast", "slow"], "type": "string"},
        "items": {"default": [], "items": {"$ref": "#/$defs/Item"}, "type": "array"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "weight": {"description": "In kg.", "exclusiveMinimum": 0, "type": "number"},
        "from": {"type": "string"},
    },
    "$defs": {
        "Item": {
            "type": "object",
            "required": ["sku"],
            "properties": {
                "sku": {"type": "string"},
                "amount": {"default": 1, "description": "How many.", "type": "integer"},
            },
        }
    },
}


class Structured:
    """It has a name, a description, a schema, and `ainvoke`."""

    description = "Moves goods."

    def __init__(self, name: str, schema: dict[str, Any] | None) -> None:
        """Takes a schema as a dict, or none, as old tools with one text."""
        self.name = name
        self.args_schema = schema and {**schema, "properties": {**schema["properties"]}}
        self.args = {"tool_input": {"type": "string"}}

    async def ainvoke(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns its arguments."""
        return arguments

    def invoke(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns its arguments."""
        return arguments
