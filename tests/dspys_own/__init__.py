"""DSPy's own tests of its RLM and its interpreter, run on ours."""
