"""Packages that cells can import: resolved, fetched and stored on the host, never run there.

Knows no session.
"""
