"""Inputs that stay on the host: files, streams and directories, and searches in them.

Knows no session and no wire.
"""
