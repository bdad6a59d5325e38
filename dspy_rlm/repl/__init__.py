"""The functions that cells can call: `sub_llm`, `predict`, `sub_rlm` and the `dspy` module.

They receive the `RunContext`, never the run itself.
"""
