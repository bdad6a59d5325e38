"""Recognises the host's secrets and takes them out of text.

Imports nothing else of this package.
"""
