"""Recognises the host's secrets and removes them from text.

Imports nothing else of this package.
"""
