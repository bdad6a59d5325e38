"""Sub-LMs by name, the metering of every LM call, and the secrets in an LM. Knows no sandbox and no prompt."""
