"""Finds where CPython stores its C callbacks, in the memory of a 32-bit interpreter.

A cell can set these through ctypes: watchers of dictionaries, classes, functions, code and contexts, the
reference tracer, the frame evaluator, pending calls, audit and open-code hooks, allocators. Each is set
here once, briefly, and the words of memory that change are its location. A callback that is not found as
expected raises while the image is built, never later.

Runs inside the sandbox, so it uses the standard library only.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL, addressof, c_char, c_uint32, c_void_p, cast, memmove, pythonapi
from operator import call
from typing import Any

WORD = 4

# Bytes from the start of `_PyRuntime` that cover it and the main interpreter state inside.
_RUNTIME_BYTES = 400_000

# Watchers of each kind; see `FUNC_MAX_WATCHERS` and similar constants in CPython.
_WATCHERS = 8

# Pending calls are in a ring buffer of 300 entries; its indices lie within this distance of any entry.
_RING_BYTES = 300 * 3 * WORD + 64

# An invalid function pointer: calling it would trap. It is always reset before it can be called.
_NO_FUNCTION = 0x3FFFFF1

_VARIABLES = (
    "PyOS_InputHook",
    "PyOS_ReadlineFunctionPointer",
    "PyImport_FrozenModules",
    "PyImport_Inittab",
    "Py_EMSCRIPTEN_SIGNAL_HANDLING",
)

Change = tuple[int, int, int]
"""The address of a word, its old value and its new value."""


class _Runtime:
    """The interpreter's own memory."""

    def __init__(self) -> None:
        self._begin = _address("_PyRuntime")
        memory = (c_char * _RUNTIME_BYTES).from_address(self._begin)
        self.look = functools.partial(bytes, memory)

    def changes(self, before: bytes, after: bytes) -> list[Change]:
        return [
            (self._begin + WORD * at, *words)
            for at, words in enumerate(zip(_words(before), _words(after), strict=True))
            if words[0] != words[1]
        ]

    def changed(self, *steps: Callable[[], Any]) -> list[Change]:
        """Returns what the first of some steps changes. No Python code runs between the steps."""
        first, *others = steps
        all_steps: Any = (self.look, first, self.look, *others)
        before, _, after, *_ = map(call, all_steps)
        return self.changes(before, after)

    def copies(self, pattern: bytes) -> Iterator[int]:
        """Yields the addresses of the words in each occurrence of a pattern."""
        memory = self.look()
        at = memory.find(pattern)
        if at < 0:
            raise RuntimeError("the memory allocators were not found")
        while at >= 0:
            yield from range(self._begin + at, self._begin + at + len(pattern), WORD)
            at = memory.find(pattern, at + WORD)


def c_hooks() -> tuple[int, ...]:
    """Returns the addresses of all words that hold C callbacks. None of them counts as a reference."""
    runtime = _Runtime()
    collects = gc.isenabled()
    gc.disable()  # freeing a function would call its watcher
    try:
        words = [*map(_address, _VARIABLES)]
        for kind in ("Dict", "Type", "Code", "Context", "Function"):
            words += _watchers(runtime, kind)
        words += _single_hooks(runtime)
        words += _pending(runtime, pythonapi.Py_AddPendingCall)
        interpreter = pythonapi.PyInterpreterState_Get()
        words += _pending(runtime, pythonapi._PyEval_AddPendingCall, interpreter, flags=(0,))
        words += _allocators(runtime)
    finally:
        if collects:
            gc.enable()
    return tuple(words)


def _watchers(runtime: _Runtime, kind: str) -> list[int]:
    """Returns the addresses of one kind's watcher table, and of its bit mask if there is one."""
    add = functools.partial(getattr(pythonapi, f"Py{kind}_AddWatcher"), _NO_FUNCTION)
    clear = getattr(pythonapi, f"Py{kind}_ClearWatcher")
    # Nothing that is watched may be created or freed between these lines.
    steps: Any = (runtime.look, add, runtime.look)
    before, number, after = map(call, steps)
    clear(number)
    changes = runtime.changes(before, after)
    first = _only(changes, lambda old, new: new == _NO_FUNCTION) - WORD * number
    table = [*range(first, first + WORD * _WATCHERS, WORD)]
    if kind in ("Dict", "Type"):
        return table
    bits = [1 << number + 8 * place for place in range(WORD)]
    return [*table, _only(changes, lambda old, new: old == 0 and new in bits)]


def _single_hooks(runtime: _Runtime) -> Iterator[int]:
    """Yields the addresses of single callbacks, each with the word of its argument, which follows it."""
    interpreter = pythonapi.PyInterpreterState_Get()
    evaluator = _function(pythonapi._PyEval_EvalFrameDefault)
    compare = _function(CDLL(None).memcmp)  # accepts the arguments of a tracer, and has no effect
    partial = functools.partial
    trace, evaluate = (
        pythonapi.PyRefTracer_SetTracer,
        pythonapi._PyInterpreterState_SetEvalFrameFunc,
    )
    audits = runtime.changed(partial(pythonapi.PySys_AddAuditHook, compare, 0))
    [(audit, *_)] = [change for change in audits if change[1] == 0 and change[2] != 0]
    opens = runtime.changed(partial(pythonapi.PyFile_SetOpenCodeHook, _NO_FUNCTION, 0))
    opened = _only(opens, lambda old, new: new == _NO_FUNCTION)
    for address in (audit, opened):  # no API removes these
        memmove(address, bytes(WORD), WORD)
    traced = runtime.changed(partial(trace, compare, 0), partial(trace, 0, 0))
    evaluated = runtime.changed(
        partial(evaluate, interpreter, _NO_FUNCTION), partial(evaluate, interpreter, evaluator)
    )
    tracer = _only(traced, lambda old, new: new == compare)
    yield from (audit, opened, opened + WORD, tracer, tracer + WORD)
    yield _only(evaluated, lambda old, new: new == _NO_FUNCTION)


def _pending(
    runtime: _Runtime, add: Any, *owner: int, flags: Sequence[int] = ()
) -> tuple[int, int, int]:
    """Returns the addresses of the count of pending calls and of both indices of their ring buffer."""
    harmless = _function(CDLL(None).isdigit)
    put = functools.partial(add, *owner, harmless, 0, *flags)
    before, _, during = map(call, (runtime.look, put, runtime.look))
    changes = runtime.changes(before, during)
    entry = _only(changes, lambda old, new: new == harmless)
    ring = [change for change in changes if abs(change[0] - entry) <= _RING_BYTES]
    count = _only(ring, lambda old, new: new == old + 1, lambda at: at < entry)
    last = _only(ring, lambda old, new: new == old + 1, lambda at: at > entry + 2 * WORD)
    return count, last - WORD, last


def _allocators(runtime: _Runtime) -> Iterator[int]:
    for domain in range(3):
        functions = (c_uint32 * 5)()
        pythonapi.PyMem_GetAllocator(domain, functions)
        yield from runtime.copies(bytes(functions))
    arenas = (c_uint32 * 3)()
    pythonapi.PyObject_GetArenaAllocator(arenas)
    yield from runtime.copies(bytes(arenas))


def _only(
    changes: Sequence[Change],
    fits: Callable[[int, int], bool],
    lies: Callable[[int], bool] = lambda _: True,
) -> int:
    addresses = [address for address, old, new in changes if fits(old, new) and lies(address)]
    if len(addresses) != 1:
        raise RuntimeError(f"a C callback was located at {len(addresses)} addresses, not at one")
    return addresses[0]


def _words(memory: bytes) -> memoryview:
    return memoryview(memory).cast("I")


def _address(variable: str) -> int:
    return addressof(c_char.in_dll(pythonapi, variable))


def _function(function: Any) -> int:
    """Returns a C function's pointer, as the interpreter stores it."""
    return cast(function, c_void_p).value or 0
