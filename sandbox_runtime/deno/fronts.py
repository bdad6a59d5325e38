"""Python that the host puts between a cell and a host tool: what a `FrontedTool` brings along.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from sandbox_runtime.deno.failures import HARNESS_FOLDER

_LOADED: dict[str, tuple[str, types.ModuleType]] = {}


def load(sources: Mapping[str, str]) -> None:
    """Makes modules of their sources, in order. One that is there already is made once."""
    for name, source in sources.items():
        known, module = _LOADED.get(name, ("", None))
        if module is None or known != source:
            module = types.ModuleType(name)
            # In our own folder, so that tracebacks of cells do not show it.
            code = compile(source, f"{HARNESS_FOLDER}/{name}.py", "exec", dont_inherit=True)
            sys.modules[name] = module
            exec(code, module.__dict__)  # noqa: S102
            _LOADED[name] = source, module
        sys.modules[name] = module


def front(module: str, name: str, call: Callable[..., Any]) -> Any:
    """What cells get under a name, made by a module of the function that calls the host."""
    _, loaded = _LOADED[module]
    return loaded.front(name, call)
