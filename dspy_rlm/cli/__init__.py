"""The command line: `dspy-rlm ask`, `demo` and `run`. No other folder imports it."""
