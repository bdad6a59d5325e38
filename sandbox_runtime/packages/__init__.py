"""Packages that cells can import: resolved, fetched and stored on the host, never executed there.

Knows nothing of sessions.
"""
