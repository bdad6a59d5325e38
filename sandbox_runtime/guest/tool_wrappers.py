"""Loads the guest modules of a `WrappedTool`, which run between a cell and a host tool.

Runs inside the sandbox, so it uses the standard library only. Modules are compiled at first use, which takes a
quarter of a second here; most cells never need it.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from sandbox_runtime.guest.integrity.foundation import Foundation
from sandbox_runtime.guest.tracebacks import HARNESS_FOLDER

_SOURCES: dict[str, str] = {}
_LOADED: dict[str, tuple[str, types.ModuleType]] = {}
_IMPORTABLE: dict[str, _Importable] = {}
_RESTORERS: list[Callable[[], None]] = []


def add(sources: Mapping[str, str]) -> None:
    """Registers the sources of modules by name."""
    _SOURCES.update(sources)


def function(modules: list[str], name: str, call: Any) -> Callable[..., Any]:
    """Returns the function for cells; the last module creates it at the first call."""

    @functools.cache
    def wrapper() -> Any:
        front = _load(modules).front(name, call)
        _track(front)
        return front

    def tool(*args: Any, **kwargs: Any) -> Any:
        return wrapper()(*args, **kwargs)

    async def aio(*args: Any, **kwargs: Any) -> Any:
        return await wrapper().aio(*args, **kwargs)

    def batched(*args: Any, **kwargs: Any) -> Any:
        return wrapper().batched(*args, **kwargs)

    for own, original in ((tool, call), (aio, call.aio), (batched, call.batched)):
        own.__name__, own.__qualname__ = original.__name__, original.__qualname__
        own.__doc__ = original.__doc__
    tool.aio, tool.batched = aio, batched  # type: ignore[attr-defined]
    return tool


def importable(modules: list[str], name: str, call: Any) -> types.ModuleType:
    """Returns a module that cells can import; the last module creates its contents at first use."""
    module = _Importable(name, modules, call)
    sys.modules[name] = _IMPORTABLE[name] = module
    return module


def restore() -> None:
    """Restores the functions and classes of the modules and of the objects they created.

    Other values stay, and so do names that a cell has added.
    """
    sys.modules.update(_IMPORTABLE)
    for importable_module in _IMPORTABLE.values():
        importable_module.__class__ = _Importable
        _Importable._reset(importable_module)
    for name, (_, module) in _LOADED.items():
        sys.modules[name] = module
    for restore_object in _RESTORERS:
        restore_object()


def _track(created: Any, *codes: types.CodeType) -> None:
    """Records a module, with the code that runs in it, or a function as the state to restore before each cell."""
    foundation = Foundation(_LOADED.__contains__)
    if isinstance(created, types.ModuleType):
        foundation.add_module(created, whole=False, codes=codes)
    else:
        foundation.add(created)
    _RESTORERS.append(foundation.putter())


class _Importable(types.ModuleType):
    def __init__(self, name: str, modules: list[str], call: Any) -> None:
        super().__init__(name, call.__doc__)
        self.__front = (modules, call)
        self.__fixed: dict[str, Any] | None = dict(vars(self))

    def _reset(self) -> None:
        """Removes attributes that a cell set before the module was first used; see `restore`."""
        if self.__fixed is not None:
            names = vars(self)
            front, fixed = self.__front, self.__fixed
            names.clear()
            names.update(fixed)
            self.__front, self.__fixed = front, fixed

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # requested by `import` itself
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        modules, call = self.__front
        contents = vars(_load(modules).front(self.__name__, call))
        vars(self).update({name: value for name, value in contents.items() if name[:2] != "__"})
        if self.__fixed is not None:
            self.__fixed = None
            _track(self)
        if attribute not in contents:
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        return contents[attribute]


def _load(names: list[str]) -> Any:
    """Returns the last module, after loading those it needs. A loaded module is reused."""
    for name in names:
        source = _SOURCES[name]
        loaded_source, module = _LOADED.get(name, ("", None))
        if module is None or loaded_source != source:
            module = types.ModuleType(name)
            # In our own folder, so that tracebacks of cells do not show it.
            code = compile(source, f"{HARNESS_FOLDER}/{name}.py", "exec", dont_inherit=True)
            sys.modules[name] = module
            exec(code, module.__dict__)  # noqa: S102
            _LOADED[name] = source, module
            _track(module, code)
        sys.modules[name] = module
    return _LOADED[names[-1]][1]
