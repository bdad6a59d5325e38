"""Texts and directories that stay on the host, as cells have them. Knows nothing of cells."""
