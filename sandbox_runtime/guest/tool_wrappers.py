"""Python that the host puts between a cell and a host tool: what a `WrappedTool` brings along.

Runs inside the sandbox, so it uses the standard library only. Nothing is compiled before it is used:
that takes a quarter of a second here, which most cells need not wait for.
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
_PUT_BACK: list[Callable[[], None]] = []


def add(sources: Mapping[str, str]) -> None:
    """Takes the sources of modules, by name."""
    _SOURCES.update(sources)


def function(modules: list[str], name: str, call: Any) -> Callable[..., Any]:
    """What cells get under a name: made by the last of the modules, when it is first called."""

    @functools.cache
    def made() -> Any:
        front = _load(modules).front(name, call)
        _keep(front)
        return front

    def tool(*args: Any, **kwargs: Any) -> Any:
        return made()(*args, **kwargs)

    async def aio(*args: Any, **kwargs: Any) -> Any:
        return await made().aio(*args, **kwargs)

    def batched(*args: Any, **kwargs: Any) -> Any:
        return made().batched(*args, **kwargs)

    for own, original in ((tool, call), (aio, call.aio), (batched, call.batched)):
        own.__name__, own.__qualname__ = original.__name__, original.__qualname__
        own.__doc__ = original.__doc__
    tool.aio, tool.batched = aio, batched  # type: ignore[attr-defined]
    return tool


def importable(modules: list[str], name: str, call: Any) -> types.ModuleType:
    """A module that cells can import, made by the last of the modules when something of it is used."""
    made = _Importable(name, modules, call)
    sys.modules[name] = _IMPORTABLE[name] = made
    return made


def restore() -> None:
    """Gives the modules, and what they made, their own functions and classes back, whatever a cell set there.

    Other values stay, as names do that a cell has added.
    """
    sys.modules.update(_IMPORTABLE)
    for made in _IMPORTABLE.values():
        made.__class__ = _Importable
        _Importable._reset(made)
    for name, (_, module) in _LOADED.items():
        sys.modules[name] = module
    for restore in _PUT_BACK:
        restore()


def _keep(what: Any) -> None:
    """Takes a module or a function as it is now for what it is to be in each cell."""
    foundation = Foundation(_LOADED.__contains__)
    if isinstance(what, types.ModuleType):
        foundation.add_module(what, whole=False)
    else:
        foundation.add(what)
    _PUT_BACK.append(foundation.putter())


class _Importable(types.ModuleType):
    def __init__(self, name: str, modules: list[str], call: Any) -> None:
        super().__init__(name, call.__doc__)
        self.__front = (modules, call)
        self.__fixed: dict[str, Any] | None = dict(vars(self))

    def _reset(self) -> None:
        """Takes away what a cell has set before anything of the module was used; see `restore`."""
        if self.__fixed is not None:
            names = vars(self)
            front, fixed = self.__front, self.__fixed
            names.clear()
            names.update(fixed)
            self.__front, self.__fixed = front, fixed

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # what `import` itself asks for
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        modules, call = self.__front
        made = vars(_load(modules).front(self.__name__, call))
        vars(self).update({name: value for name, value in made.items() if name[:2] != "__"})
        if self.__fixed is not None:
            self.__fixed = None
            _keep(self)
        if attribute not in made:
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        return made[attribute]


def _load(names: list[str]) -> Any:
    """The last of the modules, after those that it needs. One that is there already is not made again."""
    for name in names:
        source = _SOURCES[name]
        known, module = _LOADED.get(name, ("", None))
        if module is None or known != source:
            module = types.ModuleType(name)
            # In our own folder, so that tracebacks of cells do not show it.
            code = compile(source, f"{HARNESS_FOLDER}/{name}.py", "exec", dont_inherit=True)
            sys.modules[name] = module
            exec(code, module.__dict__)  # noqa: S102
            _LOADED[name] = source, module
            _keep(module)
        sys.modules[name] = module
    return _LOADED[names[-1]][1]
