"""`dspy-rlm compare` and `dspy-rlm bench`: systems on the same items, with the expected bill first."""
