"""Lets a cell import the names of the REPL: `import f` and `from f import f`, though they are there without it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

Modules = dict[str, Any]


def add(names: Mapping[str, Any]) -> None:
    """Makes functions importable under their names, except where a module has the name."""
    modules: Modules = sys.modules
    for name, value in names.items():
        if name in modules or not callable(value) or _is_module(name):
            continue
        with suppress(AttributeError, TypeError):
            if getattr(value, name, None) is not value:
                setattr(value, name, value)
            modules[name] = value


def remove(names: Mapping[str, Any]) -> None:
    """Undoes `add`."""
    modules: Modules = sys.modules
    for name, value in names.items():
        if modules.get(name) is value and callable(value):
            del modules[name]


def _is_module(name: str) -> bool:
    if name in sys.stdlib_module_names:
        return True
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return True
