"""Texts and directories that stay on the host: the classes that cells use. Knows nothing of cells."""
