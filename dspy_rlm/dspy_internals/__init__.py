"""The undocumented parts of DSPy that we use, each under a name. Imports nothing else of this package.

`tests/rlm/test_dspy_still_has.py` has a test for each, which says what breaks when DSPy changes it.
"""
