"""The command line: `dspy-rlm ask`, `demo` and `run`. Nothing else imports it."""
