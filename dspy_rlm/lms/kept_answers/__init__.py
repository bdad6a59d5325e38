"""Answers that calls may have without being sent: those on disk, and those that a lost cell had received."""
