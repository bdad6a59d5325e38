"""The driver inside Pyodide. Importing this module creates `driver`, which `worker.ts` calls.

The only Python module here that CPython cannot import.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import builtins
import contextvars
import encodings.aliases
import importlib
import json
import sys
import time
import types
import warnings
from collections.abc import Awaitable, Iterator, Sequence
from gc import freeze, get_objects
from itertools import chain, islice, repeat
from operator import is_

# By name: a cell that replaces it in its module does not replace it here.
from time import monotonic
from typing import Any, NamedTuple

import _pyodide._importhook as import_hook
import js  # what `worker.ts` gives; see pythonGlobals() there
import pyodide.code
import pyodide.ffi.wrappers
import pyodide.http
import pyodide.webloop
from pyodide.ffi import run_sync, to_js, unregister_js_module

from sandbox_runtime.guest import tool_wrappers
from sandbox_runtime.guest.driver import BORDER_CODES, Driver
from sandbox_runtime.guest.integrity.c_hooks import c_hooks
from sandbox_runtime.guest.integrity.foundation import Foundation, give_dictionary
from sandbox_runtime.guest.integrity.hooks import Hooks
from sandbox_runtime.guest.integrity.namespace_guard import NamespaceGuard, merge_into, restore
from sandbox_runtime.guest.integrity.object_memory import Memory, audit_hooks
from sandbox_runtime.guest.tasks import settled
from sandbox_runtime.guest.values.codec import INLINE_CHARS, Part

# Not imported here, but values of it come from the host.
importlib.import_module("sandbox_runtime.guest.texts.directory")

# Modules that cells often import are in the image already: compiling one takes 20 to 300 ms here.
for _name in (
    "calendar",
    "csv",
    "difflib",
    "gzip",
    "hashlib",
    "html.parser",
    "pprint",
    "statistics",
    "unicodedata",
    "xml.etree.ElementTree",
):
    importlib.import_module(_name)

# The harness's own modules, and those of the standard library and Pyodide that it depends on. Changes to others
# persist.
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
        "io",
        "json",
        "json.decoder",
        "json.encoder",
        "json.scanner",
        "keyword",
        "linecache",
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
        "uuid",
        "warnings",
        "weakref",
        "zipimport",
        "zoneinfo",
    ]
)

# Modules whose every name is fixed, not only functions and classes.
WHOLE = (
    HARNESS,
    "_frozen_importlib",
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

# C classes that the harness uses.
FIXED_CLASSES: tuple[type, ...] = (
    *(object, type, str, bytes, bytearray, memoryview, int, float, complex, bool, list, dict),
    *(tuple, set, frozenset, range, slice, property, staticmethod, classmethod, super, zip, map),
    *(enumerate, BaseException, Exception, types.FunctionType, types.BuiltinFunctionType),
    *(types.MethodType, types.CodeType, types.CellType, types.ModuleType, types.GeneratorType),
    *(types.CoroutineType, types.AsyncGeneratorType, types.MappingProxyType, types.FrameType),
    *(types.TracebackType, contextvars.Context, contextvars.ContextVar),
)

# Attributes of our classes that the driver itself sets: see `host_calls.py`.
VOLATILE = ("ask", "used")

# An attribute of the import hook that Pyodide replaces by an empty dictionary at each load.
_PACKAGES = "REPODATA_PACKAGES_IMPORT_TO_PACKAGE_NAME"

# Settings of the session: see `PyodideDriver.wake`.
SETTINGS = {"driver": ("_output_chars",), "calls": ("value_bytes",), "hooks": ("_lists",)}

# Attributes of the driver that change from cell to cell, or with its tools.
CHANGING = {
    *SETTINGS["driver"],
    *("_stop", "_overdue", "_submitted", "_running", "_interruptible", "_collection_seconds"),
    *("_stream", "output", "_reserve", "rooms", "_fresh"),
    *("_harness", "_outputs", "_display"),
}

_ANYTHING = BaseException

# The number of `sys.monitoring` tools, and the functions that remove tracers.
_TOOLS = 6
_free_tool: Any = sys.monitoring.free_tool_id  # type: ignore[attr-defined, unused-ignore]
_set_trace: Any = sys.settrace
_set_profile: Any = sys.setprofile
_set_generator_hooks: Any = sys.set_asyncgen_hooks

# A collection after a cell may take this share of the cell's time.
COLLECTION_SHARE = 0.02

# A sleeping cell checks for an interrupt at this interval.
SLEEP_SLICE_SECONDS = 0.02


def _run_sync(awaitable: Awaitable[Any]) -> Any:
    """Waits without letting an exception pass through JavaScript, which would print it."""
    _host.set_idle(True)
    try:
        value, error = run_sync(settled(awaitable, driver.raise_overdue))
    finally:
        _host.set_idle(False)
    if error is not None:
        raise error
    driver.raise_overdue()
    return value


class PyodideHost:
    """The driver's host, reached through the worker."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        # Looked up once: crossing over to JavaScript is slow.
        self._call_host = worker.callHost
        self._drain_raw = worker.drainRaw
        self.intact = worker.intact
        self.heard = worker.heard
        self.set_idle = worker.setIdle

    def call(
        self, mode: str, tool: str, arguments: str, extras: list[Part]
    ) -> tuple[str, Sequence[Part]]:
        """See `CallHost`."""
        if extras or len(arguments) > INLINE_CHARS:
            answer = self._call_host(mode, tool, "", to_js([arguments.encode(), *extras]))
        else:
            answer = self._call_host(mode, tool, arguments)
        if isinstance(answer, str):
            return answer, ()
        text, *parts = answer
        return text, [part.to_bytes() for part in parts]

    def begin(self, ticket: int, tool: str, arguments: str, extras: list[Part]) -> None:
        """See `CallHost`."""
        if extras or len(arguments) > INLINE_CHARS:
            self._worker.beginCall(ticket, tool, "", to_js([arguments.encode(), *extras]))
        else:
            self._worker.beginCall(ticket, tool, arguments)

    def emit(self, text: str) -> None:
        """See `DriverHost`."""
        self._worker.emit(text)

    def drain_raw(self) -> str:
        """See `DriverHost`."""
        return str(self._drain_raw())

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """See `DriverHost`."""
        return _run_sync(awaitable)

    def sleep(self, seconds: float, /) -> None:
        """Replaces `time.sleep`, which could not be interrupted here."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            self._worker.pause(min(left, SLEEP_SLICE_SECONDS) * 1000)


class Ground(NamedTuple):
    """A part of the foundation, as passed to `integrity.ts`. Nothing in it can be replaced."""

    restore: Any
    locate: Any
    """Returns the addresses of all words."""
    core: bytes
    """Returns the addresses of the words of these two functions and of the cell that holds the ground."""


def _keeper() -> tuple[Any, Any]:
    """Creates a cell for a ground: a closure variable, which never moves in memory."""
    kept: Ground

    def lay(foundation: Foundation) -> Ground:
        nonlocal kept
        kept = Ground(
            foundation.putter(), foundation.locator(_memory), b""
        )  # the place has to be filled
        functions: tuple[Any, ...] = (kept.restore, kept.locate, ground)
        kept = kept._replace(core=foundation.core(functions, _memory))
        return kept

    def ground() -> Ground:
        return kept

    return lay, ground


class PyodideDriver(Driver):
    """The driver as `worker.ts` calls it: JavaScript buffers in, JavaScript arrays out."""

    def __init__(self, host: PyodideHost) -> None:
        super().__init__(host)
        self._fresh = True  # no cell has run
        self.rooms: list[Any] = []
        """Buffers for large parts of the next value, which `value_buffers.ts` allocates and fills."""

    def settle(self) -> None:
        """Records the current interpreter as the state to restore before each cell."""
        self.ownership.watch_collector()
        self._hooks = Hooks(whole=True, audits=[_audits])
        policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
        for owner in (_loop, policy):
            give_dictionary(owner)
        self._loops = tuple((vars(owner), dict(vars(owner))) for owner in (_loop, policy))
        self._policy = {"_event_loop_policy": policy}
        self._no_packages = {_PACKAGES: vars(import_hook)[_PACKAGES]}
        self._modules = dict(sys.modules)
        restore(vars(builtins), self._builtins, sealed=True)
        self._footing = self._telling = NamespaceGuard((), ())  # covered by the foundation
        lay_harness(_foundation(self))

    def ground(self) -> Any:
        """Returns the parts that `integrity.ts` checks: how to restore them, and their addresses."""
        return to_js(harness())

    def register(self, declared: str) -> Any:
        """See `Driver`. Returns the ground of the tools."""
        super().register(declared)
        foundation = Foundation(_belongs)
        foundation.add_names(vars(self), ("_harness", "_outputs", "_display"))
        foundation.add_names(self._harness, tuple(self._harness), changing=())
        foundation.add(self._display)
        for field in self._outputs or ():
            foundation.add_names(field, tuple(field), changing=())
        foundation.add_names(tool_wrappers._SOURCES, tuple(tool_wrappers._SOURCES), changing=())
        return to_js(lay_tools(foundation))

    def wake(self, output_chars: int, value_bytes: int, seed: str) -> Any:
        """See `Driver`. Returns the ground of what this sets: that of all else is older than the session."""
        super().wake(output_chars, value_bytes, seed)
        merge_into(vars(import_hook), self._no_packages)
        foundation = Foundation(_belongs)
        foundation.add_names(vars(self), SETTINGS["driver"])
        foundation.add_names(vars(self.calls), SETTINGS["calls"])
        foundation.add_names(vars(self._hooks), SETTINGS["hooks"])
        return to_js(lay_settings(foundation))

    def rest(self) -> None:
        """See `Driver`."""
        super().rest()
        if self._fresh:
            freeze()  # a collection then visits only objects of cells, not the whole interpreter

    def _restore_interpreter(self) -> None:
        """See `Driver`."""
        super()._restore_interpreter()
        for now, own in self._loops:
            restore(now, own, sealed=True)
        merge_into(vars(asyncio.events), self._policy)

    def _drop_callbacks(self) -> int:
        """See `Driver`. `worker.ts` drops the timers."""
        left = sum(not handle.cancelled() for handle in _waiting)
        _waiting.clear()
        return left

    def _stand_up(self) -> None:
        """See `Driver`. Before a cell `worker.ts` does this, which nothing here can prevent."""
        if _host.intact():
            return
        for ground in (harness, settings, tools):
            # If a cell has changed this function as well, `worker.ts` restores it before the next one.
            try:  # noqa: SIM105 - neither suppress() nor builtins may be whole here
                ground().restore()
            except _ANYTHING:
                pass

    def _may_collect(self, seconds: float) -> bool:
        """See `Driver`."""
        return self._collection_seconds <= COLLECTION_SHARE * seconds

    def _prepare(self) -> None:
        """See `Driver`."""
        super()._prepare()
        self._fresh = False
        _take_generators()

    def drop_rooms(self) -> None:
        """Drops a partly received value."""
        self.rooms.clear()

    def assign(self, name: str, kind: str, parts: Any) -> Any:
        """See `Driver`. An exception is returned as name and text: JavaScript would lose them."""
        rooms, self.rooms = self.rooms, []
        try:
            super().assign(name, kind, [*(part.to_bytes() for part in parts), *rooms])
        except Exception as error:  # noqa: BLE001 - unpickling may raise anything
            return to_js([type(error).__name__, str(error)])
        return None

    def answered(self, ticket: int, text: str, parts: Any) -> None:
        """See `HostCalls`."""
        self.calls.answered(ticket, text, [part.to_bytes() for part in parts])

    def _tracers_quietened(self) -> Iterator[object]:
        """See `Driver`."""
        return islice(_quiet, 1)

    def run(self, cell: int, code: str) -> Any:
        """See `Driver`."""
        text, *parts = super().run(cell, code)
        return to_js([text, *parts]) if parts else text


def _quiet_loop(loop: Any) -> None:
    """Keeps exceptions of a cell's tasks inside Python: JavaScript cannot handle them."""
    loop.set_exception_handler(lambda _loop, _context: None)
    pyodide.webloop.run_sync = _run_sync  # used by asyncio.run()
    loop._system_exit_handler = loop._keyboard_interrupt_handler = lambda *_: None


def _own_callbacks(loop: Any) -> None:
    """Makes a callback run only in the cell that registered it.

    Also reports when Python works while host calls are awaited: the cell's clock runs then.
    """
    run = asyncio.events.Handle._run
    owns = driver.ownership.owns
    call_later = loop.call_later

    def noted(delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = call_later(delay, callback, *args, context=context)
        _waiting.add(handle)
        return handle

    loop.call_later = noted

    def run_own(handle: Any) -> None:
        _waiting.discard(handle)
        if not owns(handle._context):
            return None
        _take_generators()
        if not driver.calls.in_flight:
            return run(handle)
        _host.set_idle(False)
        try:
            return run(handle)
        finally:
            _host.set_idle(True)

    asyncio.events.Handle._run = run_own  # type: ignore[assignment, method-assign]


def _own_generators(loop: Any) -> None:
    """Makes the loop close an asynchronous generator in the cell that started it, or never."""
    began, ended = loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook
    ownership = driver.ownership

    def begin(generator: Any) -> None:
        ownership.generator_began(generator)
        began(generator)

    def end(generator: Any) -> None:
        if ownership.owns_generator(generator):
            ended(generator)

    loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook = begin, end


def _take_generators() -> None:
    """Sets the hooks of asynchronous generators, which are per thread."""
    _set_generator_hooks(
        firstiter=_loop._asyncgen_firstiter_hook, finalizer=_loop._asyncgen_finalizer_hook
    )


def _note_unawaited() -> None:
    """Reports a forgotten `await` as a note, in place of a warning that shows a line of the harness.

    Not if the cell was stopped: then the stop is the reason.
    """

    def note(coroutine: Any) -> None:
        if driver.running and not driver.stopped:
            driver.output.write(f"[coroutine {coroutine.__qualname__!r} was never awaited]\n")

    warnings._warn_unawaited_coroutine = note  # type: ignore[attr-defined]


def _hide_javascript() -> None:
    """Removes the modules that lead to JavaScript, after everything that needs them has imported them."""
    for name in ("js", "pyodide_js"):
        unregister_js_module(name)
        sys.modules.pop(name, None)


def _belongs(module: str) -> bool:
    return module.startswith(HARNESS) or module in STANDS_ON


def _proxy_classes() -> list[type]:
    """Returns the proxy classes of JavaScript objects: one for each kind."""
    samples = (to_js([b""]), to_js(b""), _host._worker, _host._call_host)
    kinds = dict.fromkeys(chain.from_iterable(type(sample).__mro__ for sample in samples))
    return [kind for kind in kinds if not kind.__flags__ & (1 << 8)]


def _codes() -> dict[int, list[types.CodeType]]:
    """Returns the code of all functions, by the identity of the module's dictionary that they run in."""
    codes: dict[int, list[types.CodeType]] = {}
    for thing in get_objects():
        if type(thing) is types.FunctionType:
            codes.setdefault(id(thing.__globals__), []).append(thing.__code__)
    return codes


def _foundation(driver: PyodideDriver) -> Foundation:
    """Builds the foundation: everything that the harness consists of and depends on."""
    foundation = Foundation(_belongs, VOLATILE)
    foundation.add_names(vars(builtins), tuple(driver._builtins), changing=())
    codes = _codes()
    for name, module in sorted(sys.modules.items()):
        if _belongs(name) and isinstance(module, types.ModuleType):
            own = codes.get(id(vars(module)), ())
            foundation.add_module(module, whole=name.startswith(WHOLE), codes=own)
    foundation.add_object(driver, CHANGING)
    foundation.add_object(driver.calls, {"_room", *SETTINGS["calls"]})
    foundation.add_object(_host)
    foundation.add_object(driver.ownership, {"_running", "_collecting", "_generators"})
    foundation.add_object(driver._hooks, SETTINGS["hooks"])
    foundation.add_object(driver._footing)
    foundation.add_names(driver._modules, tuple(driver._modules), changing=())
    foundation.add_object(_memory)
    for finder in sys.meta_path:
        if type(finder).__module__ in STANDS_ON:  # an instance, where others are classes
            foundation.add_object(finder)
    for kind in _proxy_classes():
        foundation.add_class(kind)
    for thing in (json._default_decoder, json._default_encoder):  # type: ignore[attr-defined]
        foundation.add_object(thing)
    for thing in (_loop, asyncio.events._event_loop_policy):  # type: ignore[attr-defined]
        foundation.add_kind(thing)
    foundation.add_names(encodings.aliases.aliases, tuple(encodings.aliases.aliases), changing=())
    for value in vars(_loop).values():
        foundation.add(value)
    foundation.add_words(_c_hooks)
    for kind in FIXED_CLASSES:
        foundation.add_fixed_class(kind)
    own_states = [own for _, own in driver._loops]
    own_names = (driver._builtins, driver._policy, driver._no_packages, *driver._hooks.own_names)
    for names in (*own_names, *own_states):
        foundation.add_names(names, tuple(names), changing=())
    return foundation


BORDER_CODES.update((_run_sync.__code__, PyodideHost.call.__code__))
_host = PyodideHost(js)
time.sleep = _host.sleep  # type: ignore[assignment]
_loop: Any = asyncio.get_event_loop()
_waiting: set[asyncio.Handle] = set()
"""The pending callbacks of the running cell."""

_memory = Memory()
_audits = audit_hooks()
_c_hooks = c_hooks()
lay_harness, harness = _keeper()
lay_settings, settings = _keeper()
lay_tools, tools = _keeper()
_quiet: Any = zip(
    map(_set_trace, repeat(None)),
    map(_set_profile, repeat(None)),
    *(map(_free_tool, repeat(number)) for number in range(_TOOLS)),
    strict=False,
)
quieten = map(is_, _quiet, repeat(None)).__next__
"""Removes all tracers in C, without a Python step that they could observe. Its result is meaningless."""
driver = PyodideDriver(_host)
_quiet_loop(_loop)
_own_callbacks(_loop)
_own_generators(_loop)
_note_unawaited()
_hide_javascript()
del js
driver.settle()
