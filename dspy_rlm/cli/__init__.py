"""The command line, `dspy-rlm`. No other folder imports it."""
