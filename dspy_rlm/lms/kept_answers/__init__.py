"""Calls that need no request, because their answers are kept: recorded by a journal, or in a memo on disk."""
