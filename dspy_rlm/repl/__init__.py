"""The functions that cells can call: `sub_llm`, `predict`, `sub_rlm` and the `dspy` module.

Knows what a run lends them (`context.py`), not the run itself.
"""
