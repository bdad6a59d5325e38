"""MCP servers as tools of the REPL: their processes and connections, their tools as functions, their results as plain data.

Everything that a server sends is untrusted: names, descriptions, schemas, results and errors.
"""
