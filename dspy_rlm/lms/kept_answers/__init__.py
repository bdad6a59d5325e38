"""Answers to calls that need no request: those on disk, and those that a lost cell had received."""
