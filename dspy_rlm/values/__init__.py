"""Typed values: how they cross to the sandbox and back, how they are shown, how they are made of text.

Knows no signature and no LM.
"""
