"""Programs that turn hostile files into records; they run in a confined process of their own.

Standard library and the packages of the extra `files` only. Each converter yields records as dicts; `main.py` writes them as JSON
lines.
"""
