"""The names that the host puts before a cell: variables, tools, SUBMIT, builtins. Knows no driver and no event loop."""
