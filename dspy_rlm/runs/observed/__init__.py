"""Joins a run with what observes it: its journal, its spans, the live view."""
