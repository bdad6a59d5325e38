"""The driver inside Pyodide. Importing this module creates `driver`, which `worker.ts` calls.

CPython cannot import this module and `pyodide_host.py`; it can import all others here.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import builtins
import importlib
import json
import os
import sys
import threading
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from gc import collect, freeze, unfreeze
from gc import disable as pause_collector
from gc import enable as resume_collector
from gc import get_count as new_objects
from gc import get_freeze_count as shelved
from itertools import islice, repeat
from operator import is_
from typing import Any

import _pyodide._importhook as import_hook
import js  # see pythonGlobals() in `python_globals.ts`
import pyodide.code
import pyodide.ffi.wrappers
import pyodide.http
import pyodide.webloop
from pyodide.ffi import can_run_sync, run_sync, to_js, unregister_js_module

from sandbox_runtime.guest.date_texts import ZONE_NAME, linux_strftime
from sandbox_runtime.guest.driver import Driver
from sandbox_runtime.guest.event_loop import (
    keep_exceptions,
    note_unawaited,
    own_callbacks,
    own_generators,
    take_generators,
)
from sandbox_runtime.guest.harness_foundation import (
    CHANGING_THREADS,
    FIXED_CLASSES,
    SETTINGS,
    belongs,
    build_foundation,
)
from sandbox_runtime.guest.integrity.abstract_classes import decide_for_the_harness
from sandbox_runtime.guest.integrity.c_hooks import c_hooks
from sandbox_runtime.guest.integrity.foundation import Foundation, give_dictionary
from sandbox_runtime.guest.integrity.grounds import Ground, ground_slot
from sandbox_runtime.guest.integrity.hooks import Hooks
from sandbox_runtime.guest.integrity.namespace_guard import (
    NamespaceGuard,
    merge_into,
    put,
    restore,
)
from sandbox_runtime.guest.integrity.object_memory import Memory, audit_hooks
from sandbox_runtime.guest.integrity.type_watch import watch
from sandbox_runtime.guest.interrupts import BORDER_CODES
from sandbox_runtime.guest.namespace import tool_wrappers
from sandbox_runtime.guest.namespace.builtin_names import end_cell
from sandbox_runtime.guest.pyodide_host import PyodideHost
from sandbox_runtime.guest.tasks import settled
from sandbox_runtime.guest.threads import thread_modules
from sandbox_runtime.guest.threads.green_threads import GreenThreads
from sandbox_runtime.guest.threads.suspended_stacks import SuspendedStacks
from sandbox_runtime.guest.values import kept_classes
from sandbox_runtime.guest.values.records import Known, as_json
from sandbox_runtime.guest.values.zones import ZONE_CALL, read_from_host

# No module here imports them, but the host sends values of their classes.
importlib.import_module("sandbox_runtime.guest.texts.directory")
importlib.import_module("sandbox_runtime.guest.texts.table")

# Cells often import these modules, so the image contains them: compiling one takes 20 to 300 ms here.
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

# An attribute of the import hook. Pyodide sets it to a new empty dictionary at each load.
_PACKAGES = "REPODATA_PACKAGES_IMPORT_TO_PACKAGE_NAME"

_ANYTHING = BaseException

# The number of `sys.monitoring` tools, and the functions that remove tracers.
_TOOLS = 6
_free_tool: Any = sys.monitoring.free_tool_id  # type: ignore[attr-defined, unused-ignore]
_set_trace: Any = sys.settrace
_set_profile: Any = sys.setprofile
_generator_hooks: Any = sys.get_asyncgen_hooks

# A collection after a cell may take this share of the cell's time.
COLLECTION_SHARE = 0.02

# A collection of everything that earlier cells have left is worth its time after so many new objects, and a tenth.
MIN_SHELVED = 20_000

# The objects are counted after so many seconds of cells, so many cells, or so many new objects.
UNCOUNTED_SECONDS = 0.15
UNCOUNTED_CELLS = 2_000


def _run_sync(awaitable: Awaitable[Any]) -> Any:
    """Waits without letting an exception pass through JavaScript, which would print it."""
    driver.flush()
    interrupts, ident = driver.interrupts, _threads.now
    # The stop is raised once in the cell itself, and in each of its threads.
    raise_stop = interrupts.raise_overdue if ident == _threads.main else interrupts.raise_stop
    _host.set_idle(True)
    _threads.now = _threads.main  # callbacks of the event loop run in no thread
    _suspended.enter()
    try:
        value, error = run_sync(settled(awaitable, raise_stop))
    finally:
        _suspended.leave()
        _threads.now = ident
        _host.set_idle(False)
    if error is not None:
        raise error
    raise_stop()
    return value


def _sleep(seconds: float, /) -> None:
    """Replaces `time.sleep`: the other threads of the cell run meanwhile."""
    driver.flush()
    if _threads.suspends and can_run_sync() and seconds >= 0:
        _threads.sleep(seconds)
    else:
        _host.sleep(seconds)


class PyodideDriver(Driver):
    """The driver as `worker.ts` calls it: JavaScript buffers in, JavaScript arrays out."""

    def __init__(self, host: PyodideHost) -> None:
        super().__init__(host)
        self._uncounted = 0.0  # objects are counted when this reaches 1; see `_shelve`
        self._shelved = 0  # the objects that the collector left after its last pass over all
        self._kept: kept_classes.Kept = ()
        self._replaced: list[Any] = []  # classes that were kept
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
        self._modules = {**sys.modules, "__main__": self._module}
        restore(vars(builtins), self._builtins, sealed=True)
        self._guard = self._traceback_guard = NamespaceGuard((), ())  # covered by the foundation
        proxies = (to_js([b""]), to_js(b""), _host._worker, _host._call_host)
        foundation = build_foundation(self, _host, _loop, _memory, _c_hooks, proxies)
        foundation.add_object(_threads, CHANGING_THREADS)
        foundation.add_object(_suspended, vars(_suspended))
        fill_harness(foundation)

    def ground(self) -> Any:
        """Returns the parts that `integrity.ts` checks: how to restore them, and their addresses."""
        return to_js(harness())

    def register(self, declared: str) -> Any:
        """See `Driver`. Returns the ground of the tools."""
        super().register(declared)
        return self.tools_ground()

    def tools_ground(self) -> Any:
        """Returns the ground of the tools, and of what is loaded of them."""
        foundation = tool_wrappers.foundation_of_tools(belongs)
        foundation.add_names(vars(self), ("_harness", "_outputs", "_display", "_kept"))
        kept_classes.add_to(foundation, [kind for _, (_, _, kind), _ in self._kept])
        foundation.add_names(self._harness, tuple(self._harness), changing=())
        foundation.add(self._display)
        for field in self._outputs or ():
            foundation.add_names(field, tuple(field), changing=())
        return to_js(fill_tools(foundation))

    @property
    def dictionaries(self) -> tuple[dict[str, Any], ...]:
        """See `Driver`."""
        others = (vars(asyncio.events), vars(threading), *self._hooks.registries)
        return (*super().dictionaries, *others)

    def key_tables(self) -> Any:
        """Returns the addresses of the words that point to the tables of keys of `dictionaries`."""
        return to_js(array("I", map(_memory.key_table, self.dictionaries)).tobytes())

    def prepare(self, cell: int, code: str, plain: bool) -> bool:  # type: ignore[override]
        """See `Driver`. Returns whether `settle_lazy` has anything to do."""
        super().prepare(cell, code, plain=plain)
        return self.unsettled(code)

    def begin(self, cell: int, code: str) -> bool:
        """See `Driver`."""
        return super().begin(cell, code) and not tool_wrappers.unloaded(code)

    def unsettled(self, code: str = "") -> bool:
        """Returns whether classes have arrived, or a cell names wrapped tools that are not loaded."""
        return not kept_classes.unchanged(self._kept) or bool(tool_wrappers.unloaded(code))

    def settle_lazy(self, code: str = "") -> None:
        """Loads the wrapped tools that a cell's source names, and keeps the classes that have arrived.

        For `worker.ts`, which has just restored and checked the harness: no code of a cell can run meanwhile, and
        what was loaded is forgotten if the harness has changed nevertheless. Therefore nothing that a cell has
        left is freed here.
        """
        pause_collector()
        try:
            self._kept, replaced = kept_classes.settle(self._kept, _can_be_fixed)
            self._replaced += [*replaced, kept_classes.bind(self._kept)]
            tool_wrappers.load(tool_wrappers.unloaded(code))
        finally:
            resume_collector()

    def unsettle(self) -> None:
        """Forgets everything that `settle_lazy` has loaded and kept."""
        self._kept = ()
        kept_classes.bind(())
        tool_wrappers.unload()

    def wake(
        self, output_chars: int, value_bytes: int, seed: str, cell_seconds: float = 0.0
    ) -> Any:
        """See `Driver`. Returns the ground of the settings: that of everything else is older than the session."""
        super().wake(output_chars, value_bytes, seed, cell_seconds)
        merge_into(vars(import_hook), self._no_packages)
        foundation = Foundation(belongs)
        foundation.add_names(vars(self), SETTINGS["driver"])
        foundation.add_names(vars(self.calls), SETTINGS["calls"])
        foundation.add_names(vars(self._hooks), SETTINGS["hooks"])
        foundation.add_names(vars(self.interrupts), SETTINGS["interrupts"])
        return to_js(fill_settings(foundation))

    def rest(self) -> None:
        """See `Driver`."""
        unfreeze()
        super().rest()
        freeze()  # a collection then visits only objects of the running cell, not the whole interpreter
        self._shelved = shelved()

    def _restore_interpreter(self, kept: list[Any]) -> None:
        """See `Driver`."""
        super()._restore_interpreter(kept)
        for now, own in self._loops:
            put(now, own, kept, sealed=True)
        vars(asyncio.events).update(self._policy)

    def _check_call(self, name: str) -> None:
        """See `Driver`."""
        _threads.check()
        super()._check_call(name)

    def _finish_threads(self) -> None:
        """See `Driver`."""
        _threads.finish()

    def _end_threads(self) -> None:
        """See `Driver`."""
        if working := _threads.end():
            self.note(f"{working} thread(s) were still running and are stopped")

    def _drop_callbacks(self) -> int:
        """See `Driver`. `worker.ts` drops the timers."""
        dropped = sum(not handle.cancelled() for handle in _waiting)
        _waiting.clear()
        return dropped

    def _restore_harness(self, *, whole: bool) -> None:
        """See `Driver`. Before a cell `worker.ts` does this, and all of it, which nothing here can prevent."""
        if _host.intact(whole):
            return
        grounds: tuple[Callable[[], Ground], ...] = (harness, settings, tools)
        for ground in grounds:
            # If a cell has changed this function as well, `worker.ts` restores it before the next one.
            try:  # noqa: SIM105 - neither suppress() nor builtins may be whole here
                ground().restore()
            except _ANYTHING:
                pass

    def _shelve(self, seconds: float) -> None:
        """See `Driver`. What is shelved is collected between cells only, when there is enough of it."""
        created, *_ = new_objects()  # those since the last automatic collection, if there was one
        freeze()
        self._uncounted += seconds / UNCOUNTED_SECONDS + 1 / UNCOUNTED_CELLS + created / MIN_SHELVED
        if self._uncounted < 1:  # counting takes a millisecond, or several in a busy machine
            return
        self._uncounted = 0.0
        if shelved() > self._shelved + self._shelved // 10 + MIN_SHELVED:
            unfreeze()
            collect()
            freeze()
            self._shelved = shelved()

    def _may_collect(self, seconds: float) -> bool:
        """See `Driver`."""
        return self._collection_seconds <= COLLECTION_SHARE * seconds

    def release(self) -> None:
        """See `Driver`."""
        super().release()
        self._replaced.clear()

    def _keep(self, kept: list[Any]) -> None:
        """See `Driver`."""
        super()._keep(kept)
        for names in (vars(_threads), vars(_suspended)):
            kept += names.values()
        kept += _threads.alive.items()
        kept += (vars(asyncio.events).get("_event_loop_policy"), _generator_hooks())

    def _prepare(self) -> None:
        """See `Driver`."""
        super()._prepare()
        _threads.reset()
        _suspended.reset()
        take_generators(_loop)
        # What earlier cells have left is not collected in a later one: its finalizers would run there.
        freeze()

    def is_prepared(self, plain: bool) -> bool:  # type: ignore[override]
        """See `Driver`."""
        return (
            _threads.is_at_rest
            and type(self.rooms) is list
            and not self.rooms
            and type(self._shelved) is int
            and type(self._uncounted) is float
            and super().is_prepared(plain=plain)
        )

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


def _can_be_fixed(known: Known) -> bool:
    """Returns whether each part of a class is found in memory."""
    foundation = Foundation(belongs)
    kept_classes.add_to(foundation, [known[2]])
    try:
        foundation.locator(_memory)()
    except RuntimeError:
        return False
    return True


def _hide_javascript() -> None:
    """Removes the modules that lead to JavaScript, after everything that needs them has imported them."""
    for name in ("js", "pyodide_js"):
        unregister_js_module(name)
        sys.modules.pop(name, None)


BORDER_CODES.update((_run_sync.__code__, PyodideHost.call.__code__))
_host = PyodideHost(js, _run_sync)
_encoder: Any = json.JSONEncoder
_encoder.default = as_json(_encoder.default)
time.sleep = _sleep  # type: ignore[assignment]
time.strftime = linux_strftime(time.strftime)
time.tzname = (ZONE_NAME, ZONE_NAME)
os._exit = os.abort = end_cell  # type: ignore[assignment]
_loop: Any = asyncio.get_event_loop()
_waiting: set[asyncio.Handle] = set()
"""The pending callbacks of the running cell."""

_memory = Memory()
count_of_changes = watch(FIXED_CLASSES)
"""The address of the byte that counts the changes of C types and of the builtins."""
_audits = audit_hooks()
_c_hooks = c_hooks()
fill_harness, harness = ground_slot(_memory)
fill_settings, settings = ground_slot(_memory)
fill_tools, tools = ground_slot(_memory)
_quiet: Any = zip(
    map(_set_trace, repeat(None)),
    map(_set_profile, repeat(None)),
    *(map(_free_tool, repeat(number)) for number in range(_TOOLS)),
    strict=False,
)
_pauses = iter(pause_collector, object())
hush = map(is_, zip(_quiet, _pauses, strict=False), repeat(None)).__next__
"""Removes all tracers and pauses the collector in C, without a Python step that they could observe or that could begin a
collection. Its result is meaningless."""
driver = PyodideDriver(_host)
_threads = GreenThreads(
    _loop, _run_sync, driver.ownership, driver.interrupts, threading.get_ident(), _host.set_idle
)
driver.calls.stacks = _threads
driver.threads = _threads.alive
_suspended = SuspendedStacks()
thread_modules.install(_threads, _loop)
read_from_host(driver.calls.function(ZONE_CALL, "", suspends=False))
keep_exceptions(_loop)
pyodide.webloop.run_sync = _run_sync  # used by asyncio.run()
own_callbacks(_loop, driver, _host, _waiting)
own_generators(_loop, driver.ownership)
note_unawaited(driver)
decide_for_the_harness()
_hide_javascript()
del js
driver.settle()
