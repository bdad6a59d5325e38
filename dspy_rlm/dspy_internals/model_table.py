"""DSPy's table of models: prices and context windows. Import it where it is needed: loading it is slow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dspy.clients.capabilities import resolve
from dspy.clients.model_metadata import model_info

__all__ = ["model_info", "resolve", "table_entry"]


@lru_cache(maxsize=256)
def table_entry(provider: str, name: str) -> Mapping[str, Any]:
    """Returns the entry of a model; empty if there is none.

    DSPy loads its table once per process. It compares an unknown name, such as that of a self-hosted model, with each
    of some thousand entries, which takes 5 ms, and every run asks for several.
    """
    entry: dict[str, Any] = model_info(provider, name)
    return entry
