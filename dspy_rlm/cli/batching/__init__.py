"""`dspy-rlm batch`: one RLM over many rows."""
