"""Reads the inputs of a run from files, folders, archives, addresses and streams. See docs/inputs.md."""
