"""`dspy-rlm skill`: a file that tells coding agents when and how to use the command line."""
