"""Artefacts derived from the parser of the command line: completion for shells, and the reference page."""
