"""The user's tools: their names, and the host functions that cells call. Knows no prompt."""
