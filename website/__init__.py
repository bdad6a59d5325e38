"""The documentation site: pages of the repository, the API reference from docstrings, and the checks of both."""
