"""`dspy-rlm optimize`: a better prompt from examples, measured on examples that the optimizer has not seen."""
