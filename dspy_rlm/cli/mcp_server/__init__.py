"""`dspy-rlm mcp`: an MCP server that offers `ask`, `runs` and `view` to any MCP client, within limits of its command line."""
