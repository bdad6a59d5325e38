"""Typed values: converted for the sandbox and back, previewed, and parsed from text.

Knows no signature and no LM.
"""
