"""Loads files and folders as texts: `load_texts`, by the rules of `dspy-rlm ask`.

For inputs that stay on the host, whatever their size, see `TextFile` and `Directory`.
"""

from dspy_rlm.cli.files import Skipped, Texts, load_texts

__all__ = ["Skipped", "Texts", "load_texts"]
