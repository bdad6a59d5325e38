"""Reads files, folders, archives and addresses as inputs, by the rules of `dspy-rlm ask`: `load` and `load_texts`.

For texts that stay on the host, whatever their size, see `TextFile` and `Directory`.
"""

from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.gathering import Skipped
from dspy_rlm.inputs.loading import Texts, load, load_texts

__all__ = ["InputBounds", "Skipped", "Texts", "load", "load_texts"]
