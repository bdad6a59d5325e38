"""The parts of `dspy-rlm ask`: its arguments, its models and inputs, its output, its dry run."""
