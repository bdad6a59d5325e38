"""Scripted policies for the tasks of `dspy_rlm.tasks`: honest ones with a known ceiling, and ways to fail that others have published.

None of them is a language model, so none of their scores says how good a model is: they measure the engine.
"""
