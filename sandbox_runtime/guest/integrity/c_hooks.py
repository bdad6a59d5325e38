"""Where CPython keeps the functions of C that it calls by itself, in the memory of a 32-bit interpreter.

A cell reaches what sets them through ctypes: watchers of dictionaries, classes, functions, code and
contexts, a tracer of references, an evaluator of frames, calls that are pending, hooks of audits and of
opened code, allocators. Each is set here once, for a moment, and the words that change are its place. One
that is not found as expected raises while the image is made, and never later.

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

# From the begin of `_PyRuntime`: all of it, and the main interpreter inside.
_RUNTIME_BYTES = 400_000

# Of each kind; see `FUNC_MAX_WATCHERS` and its like in CPython.
_WATCHERS = 8

# The list of pending calls is a ring of 300 entries; its ends are that near to any of them.
_RING_BYTES = 300 * 3 * WORD + 64

# No function is at such a place: it would trap. What is set to it is taken back before it is called.
_NO_FUNCTION = 0x3FFFFF1

_VARIABLES = (
    "PyOS_InputHook",
    "PyOS_ReadlineFunctionPointer",
    "PyImport_FrozenModules",
    "PyImport_Inittab",
    "Py_EMSCRIPTEN_SIGNAL_HANDLING",
)

Change = tuple[int, int, int]
"""The address of a word, what it was, and what it is."""


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
        """What the first of some steps changes. No step of Python comes between them."""
        first, *others = steps
        all_steps: Any = (self.look, first, self.look, *others)
        before, _, after, *_ = map(call, all_steps)
        return self.changes(before, after)

    def copies(self, pattern: bytes) -> Iterator[int]:
        """The words of each place that looks so."""
        memory = self.look()
        at = memory.find(pattern)
        if at < 0:
            raise RuntimeError("the allocators are not found")
        while at >= 0:
            yield from range(self._begin + at, self._begin + at + len(pattern), WORD)
            at = memory.find(pattern, at + WORD)


def c_hooks() -> tuple[int, ...]:
    """The addresses of all words that say which functions of C are called. None of them counts as a reference."""
    runtime = _Runtime()
    collects = gc.isenabled()
    gc.disable()  # a function that is freed would be shown to a watcher
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
    """The table of one kind of watchers, and the word with a bit for each, if there is one."""
    add = functools.partial(getattr(pythonapi, f"Py{kind}_AddWatcher"), _NO_FUNCTION)
    clear = getattr(pythonapi, f"Py{kind}_ClearWatcher")
    # Nothing that is watched may be made or freed between these lines.
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
    """Those of which there is one each; what they are called with comes after them."""
    interpreter = pythonapi.PyInterpreterState_Get()
    evaluator = _function(pythonapi._PyEval_EvalFrameDefault)
    compare = _function(
        CDLL(None).memcmp
    )  # takes what a tracer is called with, and compares nothing
    partial = functools.partial
    trace, evaluate = (
        pythonapi.PyRefTracer_SetTracer,
        pythonapi._PyInterpreterState_SetEvalFrameFunc,
    )
    audits = runtime.changed(partial(pythonapi.PySys_AddAuditHook, compare, 0))
    [(audit, *_)] = [change for change in audits if change[1] == 0 and change[2] != 0]
    opens = runtime.changed(partial(pythonapi.PyFile_SetOpenCodeHook, _NO_FUNCTION, 0))
    opened = _only(opens, lambda old, new: new == _NO_FUNCTION)
    for address in (audit, opened):  # nothing takes these back
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
    """How many calls are pending, and the two ends of their ring."""
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
    found = [address for address, old, new in changes if fits(old, new) and lies(address)]
    if len(found) != 1:
        raise RuntimeError(f"a hook of C has {len(found)} places")
    return found[0]


def _words(memory: bytes) -> memoryview:
    return memoryview(memory).cast("I")


def _address(variable: str) -> int:
    return addressof(c_char.in_dll(pythonapi, variable))


def _function(function: Any) -> int:
    """The place of a function of C, as the interpreter stores it."""
    return cast(function, c_void_p).value or 0
