"""The foundation of the harness: everything that it consists of and depends on.

The lists here say which modules, classes and attributes are fixed, and which may change. `foundation.py` turns them
into words of memory. Ordinary Python: it looks at the interpreter, and changes nothing in it.
"""

from __future__ import annotations

import asyncio.events
import builtins
import contextvars
import encodings.aliases
import json
import sys
import types
from collections.abc import Iterable
from gc import get_objects
from itertools import chain
from re import Pattern
from typing import Any

from sandbox_runtime.guest.integrity.foundation import Foundation

# The harness's own modules, and those of the standard library and Pyodide that it depends on, also those of the
# wrapped tools of `dspy_rlm`. Changes to others persist.
HARNESS = "sandbox_runtime"
STANDS_ON = frozenset(
    [
        "_collections_abc",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "_py_warnings",
        "_pyodide._future_helper",
        "_pyodide._importhook",
        "_weakrefset",
        "abc",
        "annotationlib",
        "ast",
        "asyncio",
        "asyncio.base_futures",
        "asyncio.base_tasks",
        "asyncio.coroutines",
        "asyncio.events",
        "asyncio.exceptions",
        "asyncio.futures",
        "asyncio.locks",
        "asyncio.mixins",
        "asyncio.queues",
        "asyncio.tasks",
        "asyncio.taskgroups",
        "asyncio.timeouts",
        "codecs",
        "codeop",
        "collections",
        "collections.abc",
        "contextlib",
        "copyreg",
        "dataclasses",
        "datetime",
        "decimal",
        "encodings",
        "encodings.aliases",
        "enum",
        "fractions",
        "functools",
        "importlib",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "importlib.machinery",
        "importlib.util",
        "inspect",
        "io",
        "json",
        "json.decoder",
        "json.encoder",
        "json.scanner",
        "keyword",
        "linecache",
        "operator",
        "pathlib",
        "pathlib._os",
        "pickle",
        "pyodide.webloop",
        "re",
        "re._compiler",
        "re._parser",
        "reprlib",
        "signal",
        "textwrap",
        "tokenize",
        "traceback",
        "types",
        "typing",
        "uuid",
        "warnings",
        "weakref",
        "zipimport",
        "zoneinfo",
        "zoneinfo._common",
        "zoneinfo._tzpath",
    ]
)

# Modules whose every name is fixed, not only functions and classes.
WHOLE = (
    HARNESS,
    "_frozen_importlib",
    "_py_warnings",
    "_pyodide._importhook",
    "asyncio",
    "codecs",
    "contextlib",
    "encodings",
    "importlib",
    "json",
    "pyodide.webloop",
    "zipimport",
)

# The modules that the end of a cell without an error depends on. All others are restored before the next cell only.
NEAR = (HARNESS, "asyncio", "contextlib", "_weakrefset", "weakref")

# C classes that the harness uses.
FIXED_CLASSES: tuple[type, ...] = (
    *(object, type, str, bytes, bytearray, memoryview, int, float, complex, bool, list, dict),
    *(tuple, set, frozenset, range, slice, property, staticmethod, classmethod, super, zip, map),
    *(enumerate, BaseException, Exception, types.FunctionType, types.BuiltinFunctionType),
    *(types.MethodType, types.CodeType, types.CellType, types.ModuleType, types.GeneratorType),
    *(types.CoroutineType, types.AsyncGeneratorType, types.MappingProxyType, types.FrameType),
    *(types.TracebackType, contextvars.Context, contextvars.ContextVar, Pattern),
)

# Attributes of our classes that the driver itself sets: see `host_calls.py`.
VOLATILE = ("ask", "used", "noted")

# Settings of the session: see `PyodideDriver.wake`.
SETTINGS = {
    "driver": ("_output_chars",),
    "calls": ("value_bytes",),
    "hooks": ("_lists",),
    "interrupts": ("cell_seconds",),
}

# Attributes of the driver that change from cell to cell, or with its tools.
CHANGING = {
    *SETTINGS["driver"],
    *("_submitted", "_running", "_collection_seconds", "_seconds"),
    *("_stream", "_sink", "collects", "output", "_reserve", "rooms", "_shelved", "_uncounted"),
    *(
        "_harness",
        "_outputs",
        "_display",
        "_kept",
        "_importable",
        "_prepared",
        "_lines",
        "_left",
        "_notes",
    ),
}

# Attributes of `GreenThreads` that change as threads start, wait and end.
CHANGING_THREADS = {"now", "_queued", "_blocked", "_ending", "_grants", "_idents"}


def belongs(module: str) -> bool:
    """Returns whether the functions and classes of a module, by its name, are fixed."""
    return module.startswith(HARNESS) or module in STANDS_ON


def build_foundation(
    driver: Any,
    host: Any,
    loop: Any,
    memory: Any,
    c_words: Iterable[int],
    proxies: Iterable[object],
) -> Foundation:
    """Builds the foundation.

    Args:
        driver: The `PyodideDriver`, with its snapshots taken.
        host: Its `PyodideHost`.
        loop: The event loop.
        memory: The `Memory` that locates the foundation.
        c_words: The addresses of C callbacks; see `c_hooks`.
        proxies: A JavaScript object of each kind that Python holds.
    """
    foundation = Foundation(belongs, VOLATILE, lambda module: module.startswith(NEAR))
    foundation.add_names(vars(builtins), tuple(driver._builtins), changing=())
    codes = _codes()
    for name, module in sorted(sys.modules.items()):
        if belongs(name) and isinstance(module, types.ModuleType):
            own = codes.get(id(vars(module)), ())
            foundation.add_module(module, whole=name.startswith(WHOLE), codes=own)
    foundation.add_object(driver, CHANGING)
    foundation.add_object(driver.calls, {"_slots", *SETTINGS["calls"]})
    foundation.add_object(host)
    foundation.add_object(driver.ownership, {"_running", "_collecting", "_generators"})
    foundation.add_object(
        driver.interrupts, {"stop", "allowed", "_overdue", *SETTINGS["interrupts"]}
    )
    foundation.add_object(driver._hooks, SETTINGS["hooks"])
    foundation.add_object(driver._hooks.warning_filters)
    foundation.add_object(sys.modules["_py_warnings"]._global_context)
    foundation.add_object(driver._guard)
    foundation.add_names(driver._modules, tuple(driver._modules), changing=())
    foundation.add_object(memory)
    for finder in sys.meta_path:
        if type(finder).__module__ in STANDS_ON:  # an instance, where others are classes
            foundation.add_object(finder)
    for kind in _proxy_classes(proxies):
        foundation.add_class(kind)
    for codec in (json._default_decoder, json._default_encoder):  # type: ignore[attr-defined]
        foundation.add_object(codec)
    for thing in (loop, asyncio.events._event_loop_policy):  # type: ignore[attr-defined]
        foundation.add_kind(thing)
    foundation.add_names(encodings.aliases.aliases, tuple(encodings.aliases.aliases), changing=())
    for value in vars(loop).values():
        foundation.add(value)
    for module in (sys, builtins):  # setting an attribute of a module can run code of its class
        foundation.add_kind(module)
    foundation.add_words(c_words)
    for kind in FIXED_CLASSES:
        foundation.add_fixed_class(kind)
    own_states = [own for _, own in driver._loops]
    own_names = (driver._builtins, driver._policy, driver._no_packages, *driver._hooks.own_names)
    for names in (*own_names, *own_states):
        foundation.add_names(names, tuple(names), changing=())
    return foundation


def _codes() -> dict[int, list[types.CodeType]]:
    """Returns the code of all functions, by the identity of the module's dictionary that they run in."""
    codes: dict[int, list[types.CodeType]] = {}
    for candidate in get_objects():
        if type(candidate) is types.FunctionType:
            codes.setdefault(id(candidate.__globals__), []).append(candidate.__code__)
    return codes


def _proxy_classes(proxies: Iterable[object]) -> list[type]:
    """Returns the mutable classes of JavaScript proxies."""
    kinds = dict.fromkeys(chain.from_iterable(type(proxy).__mro__ for proxy in proxies))
    return [kind for kind in kinds if not kind.__flags__ & (1 << 8)]  # Py_TPFLAGS_IMMUTABLETYPE
