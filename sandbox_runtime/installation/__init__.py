"""Builds the engine and its images, verifies them, lists their parts, and diagnoses them.

May open sessions, as no lower layer may; sessions know nothing of it.
"""
