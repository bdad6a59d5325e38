"""Lets a cell import the names of the REPL: `import f` and `from f import f`, though they are there without it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

Modules = dict[str, Any]


# Python's own. Those that earlier cells have left would run in the preparation of a cell.
_FINDERS, _HOOKS = tuple(sys.meta_path), tuple(sys.path_hooks)


def add(names: Mapping[str, Any]) -> None:
    """Makes functions importable under their names, except where a module has the name."""
    modules: Modules = sys.modules
    with _only(sys.meta_path, _FINDERS), _only(sys.path_hooks, _HOOKS):
        found = {name for name in names if name not in modules and _is_module(name)}
    for name, value in names.items():
        if name in modules or not callable(value) or name in found:
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


@contextmanager
def _only(finders: list[Any], own: tuple[Any, ...]) -> Iterator[None]:
    """Uses some finders alone."""
    all_of_them = [*finders]
    finders[:] = own
    try:
        yield
    finally:
        finders[:] = all_of_them


def _is_module(name: str) -> bool:
    if name in sys.stdlib_module_names:
        return True
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return True
