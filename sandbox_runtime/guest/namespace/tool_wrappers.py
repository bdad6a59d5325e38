"""Loads the guest modules of a `WrappedTool`, which run between a cell and a host tool.

Compiling a module takes a tenth of a second here, and most sessions never need it, so modules are loaded late. But
whoever can reach what loads a module decides what it does, and a cell can reach everything. So there are two ways:

- Between cells, `load` loads what the next cell's source names. No code of a cell can run then, and `foundation_of_tools` makes
  everything that was loaded part of the foundation, which is restored before each cell.
- A cell that reaches a tool without naming it loads a copy of its own, which ends with the cell.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from opcode import opmap
from typing import Any

from sandbox_runtime.guest.integrity.foundation import Foundation
from sandbox_runtime.guest.tracebacks import HARNESS_FOLDER

# These three are part of the foundation of the tools: see `foundation_of_tools`.
_SOURCES: dict[str, str] = {}
_LOADED: dict[str, tuple[str, types.ModuleType, types.CodeType]] = {}
_WRAPPERS: dict[str, _Wrapper] = {}

# The modules that the running cell has loaded for itself.
_OWN_MODULES: dict[str, types.ModuleType] = {}
_OWN_FRONTS: dict[str, Any] = {}

# Python's instructions that bind a global name, and the one that extends the argument of the next.
_BIND_GLOBAL = (opmap["STORE_GLOBAL"], opmap["DELETE_GLOBAL"])
_EXTENDED_ARG = opmap["EXTENDED_ARG"]


class _Wrapper:
    """A wrapped tool. `front` is what its last module has created; None until that is loaded."""

    def __init__(self, name: str, modules: Sequence[str], call: Any) -> None:
        self.name = name
        self.modules = tuple(modules)
        self.call = call
        self.shown: types.ModuleType | None = None
        self.always = False
        self.front: Any = None

    def current(self) -> Any:
        """Returns the front; if it is not loaded, one that the running cell keeps for itself."""
        if self.front is not None:
            return self.front
        if self.name not in _OWN_FRONTS:
            _OWN_FRONTS[self.name] = _own(self.modules).front(self.name, self.call)
        return _OWN_FRONTS[self.name]


def begin() -> list[Any]:
    """Forgets all tools, and returns them. What is loaded stays, for tools with the same sources."""
    wrappers: list[Any] = [*_WRAPPERS.values()]
    _WRAPPERS.clear()
    return wrappers


def add(sources: Mapping[str, str]) -> None:
    """Registers the sources of modules by name."""
    _SOURCES.update(sources)


def function(modules: Sequence[str], name: str, call: Any) -> Callable[..., Any]:
    """Returns the function for cells."""
    wrapper = _WRAPPERS[name] = _Wrapper(name, modules, call)

    def tool(*args: Any, **kwargs: Any) -> Any:
        return wrapper.current()(*args, **kwargs)

    async def aio(*args: Any, **kwargs: Any) -> Any:
        return await wrapper.current().aio(*args, **kwargs)

    def batched(*args: Any, **kwargs: Any) -> Any:
        return wrapper.current().batched(*args, **kwargs)

    for own, original in ((tool, call), (aio, call.aio), (batched, call.batched)):
        own.__name__, own.__qualname__ = original.__name__, original.__qualname__
        own.__doc__ = original.__doc__
    tool.aio, tool.batched = aio, batched  # type: ignore[attr-defined]
    return tool


def display(modules: Sequence[str], name: str, call: Any) -> Callable[..., Any]:
    """Returns the function that gets the last value of each cell, which no cell names."""
    tool = function(modules, name, call)
    _WRAPPERS[name].always = True
    return tool


def importable(modules: Sequence[str], name: str, call: Any) -> types.ModuleType:
    """Returns a module that cells can import."""
    wrapper = _WRAPPERS[name] = _Wrapper(name, modules, call)
    module = wrapper.shown = _Importable(name, call.__doc__)
    sys.modules[name] = module
    return module


class _Importable(types.ModuleType):
    """A module whose contents are those of its wrapper's front."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # requested by `import` itself
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        wrapper = _WRAPPERS[self.__name__]
        contents = _contents(wrapper.current()) if wrapper.front is None else {}
        vars(self).update(contents)
        if attribute not in contents:
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        return contents[attribute]


def _contents(front: types.ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(front).items() if name[:2] != "__"}


# ---- Between cells ----


def restore(kept: list[Any]) -> None:
    """Takes out what the last cell has loaded for itself, and adds it to `kept`. Binds the names of modules again."""
    for own in (_OWN_FRONTS, _OWN_MODULES):
        kept += own.items()
        own.clear()
    for name in _SOURCES:
        sys.modules.pop(name, None)
    for name, (_, module, _) in _LOADED.items():
        sys.modules[name] = module
    for name, wrapper in _WRAPPERS.items():
        if wrapper.shown is not None:
            sys.modules[name] = wrapper.shown


def unloaded(code: str) -> list[str]:
    """Returns the names of the tools that a cell's source names and that are not loaded."""
    return [
        name
        for name, wrapper in _WRAPPERS.items()
        if wrapper.front is None and (wrapper.always or name in code)
    ]


def load(names: Sequence[str]) -> None:
    """Loads tools. Only while no code of a cell can run; see `PyodideDriver.load_tools`."""
    for wrapper in map(_WRAPPERS.__getitem__, names):
        wrapper.front = _trusted(wrapper.modules).front(wrapper.name, wrapper.call)
        if wrapper.shown is not None:
            vars(wrapper.shown).update(_contents(wrapper.front))
            wrapper.front = wrapper.shown


def unload() -> None:
    """Forgets everything that was loaded: something of a cell may have run meanwhile."""
    for wrapper in _WRAPPERS.values():
        if wrapper.front is not None and wrapper.shown is not None:
            for name in _contents(wrapper.shown):
                del vars(wrapper.shown)[name]
        wrapper.front = None
    _LOADED.clear()


def foundation_of_tools(belongs: Callable[[str], bool]) -> Foundation:
    """Returns a foundation of all tools and of what is loaded of them."""
    foundation = Foundation(lambda module: belongs(module) or module in _LOADED)
    tables: tuple[dict[str, Any], ...] = (_SOURCES, _LOADED, _WRAPPERS)
    for names in tables:
        foundation.add_names(names, tuple(names), changing=())
    for _, module, code in _LOADED.values():
        assigned = {*_assigned_in_functions(code)}
        foundation.add_module(module, whole=True, codes=[code], changing=assigned)
    for wrapper in _WRAPPERS.values():
        foundation.add_object(wrapper)
        foundation.add(wrapper.call)
        foundation.add(wrapper.front)
        if wrapper.shown is not None:
            foundation.add_kind(wrapper.shown)
            foundation.add_names(vars(wrapper.shown), tuple(vars(wrapper.shown)), changing=())
    return foundation


def _assigned_in_functions(code: types.CodeType) -> Iterator[str]:
    """Yields the names that functions of a module declare `global` and bind."""
    for part in code.co_consts:
        if type(part) is types.CodeType:
            yield from _globals_bound_by(part)
            yield from _assigned_in_functions(part)


def _globals_bound_by(code: types.CodeType) -> Iterator[str]:
    extended = 0
    for instruction, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = extended << 8 | low
        extended = argument if instruction == _EXTENDED_ARG else 0
        if instruction in _BIND_GLOBAL:
            yield code.co_names[argument]


# ---- Loading ----


def _trusted(names: Sequence[str]) -> Any:
    """Returns the last module, after loading those it needs. A loaded module is reused."""
    for name in names:
        source = _SOURCES[name]
        if name not in _LOADED or _LOADED[name][0] != source:
            module, code = _run(name, source)
            _LOADED[name] = source, module, code
        sys.modules[name] = _LOADED[name][1]
    return _LOADED[names[-1]][1]


def _own(names: Sequence[str]) -> Any:
    """Returns a copy of the last module for the running cell, after those it needs."""
    for name in names:
        if name not in _OWN_MODULES:
            _OWN_MODULES[name], _ = _run(name, _SOURCES[name])
        sys.modules[name] = _OWN_MODULES[name]
    return _OWN_MODULES[names[-1]]


def _run(name: str, source: str) -> tuple[types.ModuleType, types.CodeType]:
    """Returns a new module with its code, which has run. Its name is bound while it runs."""
    module = types.ModuleType(name)
    # In our own folder, so that tracebacks of cells do not show it.
    code = compile(source, f"{HARNESS_FOLDER}/{name}.py", "exec", dont_inherit=True)
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102
    return module, code
