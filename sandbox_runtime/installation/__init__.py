"""Builds the engine and its images, verifies them, lists their parts, and diagnoses them.

Opens sessions, as nothing below it does; no session knows of it.
"""
