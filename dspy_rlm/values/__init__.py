"""Typed values: converted for the sandbox and back, previewed, and parsed from text.

Knows nothing of signatures and LMs.
"""
