"""Exceptions in both directions: a cell's, reported to the host, and a host tool's, raised in a cell.

A cell's exception is hostile: its methods may raise, print or never return.
"""

from __future__ import annotations

import builtins
import linecache
import traceback
import types
from functools import partial
from typing import Any
from zipimport import zipimporter

from sandbox_runtime.guest.output import abridge

# Frames of files in this folder belong to the harness and are hidden from cells.
HARNESS_FOLDER = __file__.rpartition("/")[0]

# The files of the standard library, whose frames are hidden but for the last one.
_LIBRARY = f"{traceback.__file__.rpartition('/')[0]}/"

# Its archive; empty under CPython, where it is a folder.
_ARCHIVE = _LIBRARY[:-1] if _LIBRARY.endswith(".zip/") else ""

# `re` and others are written in C, and accept no text that stays on the host.
LAZY_TEXT_HINT = (
    "this text stays on the host: use text.search(pattern), text.finditer or text.grep, or pass a part of it, "
    "text[a:b]"
)

# A host function has answered when it returns, so its value cannot be awaited.
AWAIT_HINT = (
    "a function of this REPL has answered already when it returns; to run many at once, await f.aio(...), as in "
    "asyncio.gather(*(sub_llm.aio(p) for p in prompts)), or use f.batched, sub_llm_batched, predict_batched"
)
_NOT_AWAITABLE = (
    "can't be used in 'await' expression",
    "object can't be awaited",
    "a coroutine or an awaitable is required",
)

# WebAssembly has 32-bit addresses. These are parts of what CPython says about a number that is too large.
INDEX_HINT = (
    "this Python is a 32-bit build: no length, count or index is more than 2,147,483,647 (sys.maxsize). Integers "
    "themselves have no limit"
)
C_LONG_HINT = "C's long has 32 bits here: use the type code 'q' of array and struct"
_NUMBER_HINTS = (
    (OverflowError, "ssize_t", INDEX_HINT),
    (OverflowError, "index-sized integer", INDEX_HINT),
    (ValueError, "0 <= x <= sys.maxsize", INDEX_HINT),
    (OverflowError, "C long", C_LONG_HINT),
    (OverflowError, "C unsigned long", C_LONG_HINT),
)

_LOOP_FILES = {("pyodide", "webloop.py"), ("asyncio", "events.py")}

# Exceptions that are nested in arguments, or chained, more deeply than this are not shown.
MAX_NESTING = 100

# At least this much of an error is shown, however small the output limit.
LEAST_SHOWN_CHARS = 1000


class HostToolError(RuntimeError):
    """A host tool raised an exception that is not a builtin."""

    __module__ = "builtins"


def describe(error: BaseException, limit: int) -> dict[str, str]:
    """Returns name, message and traceback of a cell's exception, each of at most `limit` characters."""
    name = type.__dict__["__name__"].__get__(type(error))
    try:
        if _holds_itself(error):
            raise RecursionError
        _drop_planted_sources()
        report = traceback.TracebackException(type(error), error, _cell_frames(error), compact=True)
        _drop_harness(report)
        message = _message_of(error)
        # Python adds ". Did you mean" to a message, which may end with a full stop of its own.
        lines = "".join(report.format()).replace(".. Did you mean: '", ". Did you mean: '")
        if isinstance(error, SystemExit):
            lines += f"({message})\n"
        elif hint := _hint(error, message):
            lines += f"({hint})\n"
    except BaseException as failure:  # noqa: BLE001 - its own methods may raise anything
        reason = type.__dict__["__name__"].__get__(type(failure))
        message = f"(the exception itself could not be shown: {reason})"
        lines = f"{name}: {message}\n"
    return {
        "errorType": name,
        "message": abridge(message, limit),
        "traceback": abridge(lines, limit),
    }


def _drop_planted_sources() -> None:
    """Drops the sources that are not plain texts: what an earlier cell has put in their place would run now."""
    for name, source in [*linecache.cache.items()]:
        if not (
            type(source) is tuple
            and len(source) == 4
            and type(source[2]) is list
            and all(type(line) is str for line in source[2])
        ):
            del linecache.cache[name]


def find_library_source(filename: str, module_globals: object = None) -> bool:
    """Replaces `linecache.lazycache`, which has the loader of a module read its source: a cell can replace a loader.

    Knows the sources of the standard library only. Other files are read where they are.
    """
    if filename in linecache.cache:
        return len(linecache.cache[filename]) == 1
    if not _ARCHIVE or type(filename) is not str or not filename.startswith(_LIBRARY):
        return False
    linecache.cache[filename] = (partial(_library_source, filename),)
    return True


def _library_source(filename: str) -> str:
    return zipimporter(_ARCHIVE).get_data(filename).decode("utf-8", "replace")


class NoColors:
    """Replaces `_colorize` in `traceback`: a cell can replace its themes, whose methods and texts would be in the report."""

    class Theme:
        """A theme in which nothing has a color."""

        class Traceback:
            """Its part for tracebacks."""

            type = message = filename = line_no = frame = error_highlight = error_range = reset = ""

        traceback = Traceback

    @staticmethod
    def can_colorize(**_: object) -> bool:
        """Returns False."""
        return False

    @staticmethod
    def get_theme(**_: object) -> type[Theme]:
        """Returns the theme."""
        return NoColors.Theme


def _hint(error: BaseException, message: str) -> str:
    """Returns what to write instead, where the message of an error alone does not say it."""
    if isinstance(error, TypeError) and message.endswith("got 'LazyText'"):
        return LAZY_TEXT_HINT
    if isinstance(error, TypeError) and message.endswith(_NOT_AWAITABLE):
        return AWAIT_HINT
    hints = (
        hint for kind, part, hint in _NUMBER_HINTS if isinstance(error, kind) and part in message
    )
    return next(hints, "")


def _holds_itself(error: BaseException) -> bool:
    """Returns whether an exception is among its own arguments, or is nested too deeply to tell.

    Formatting it would exhaust the C stack, which ends the interpreter.
    """
    args = BaseException.__dict__["args"].__get__
    level: list[BaseException] = [error, *_chained(error)]
    for _ in range(MAX_NESTING):
        inner = (item for exception in level for item in args(exception))
        level = [item for item in inner if issubclass(type(item), BaseException)]
        if not level or len(level) > 100 * MAX_NESTING:
            return bool(level)
    return True


def _chained(error: BaseException) -> list[BaseException]:
    """Returns the causes and contexts of an exception, which its traceback shows above it."""
    chained: dict[int, BaseException] = {}
    queue: list[Any] = [error]
    while queue and len(chained) < MAX_NESTING:
        current = queue.pop()
        for other in (current.__cause__, current.__context__):
            if other is not None and id(other) not in chained:
                chained[id(other)] = other
                queue.append(other)
    return list(chained.values())


def _message_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "a cell cannot exit the REPL; call SUBMIT(...) to finish"
    return str.__str__(str(error))


def _cell_frames(error: BaseException) -> types.TracebackType | None:
    """Returns the traceback from the first frame of a cell on."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    return trace


def _drop_harness(report: traceback.TracebackException) -> None:
    """Removes the frames of the harness and the library from a traceback and from its chained ones."""
    seen: set[int] = set()
    queue: list[traceback.TracebackException | None] = [report]
    while queue:
        current = queue.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        frames = [frame for frame in current.stack if not _is_harness(frame)]
        frames = [one for one in frames if one is frames[-1] or not _is_library(one)]
        current.stack = traceback.StackSummary.from_list(frames)
        queue += [current.__cause__, current.__context__, *(current.exceptions or ())]


def _is_harness(frame: traceback.FrameSummary) -> bool:
    """Returns whether a frame belongs to the harness, or to the event loop that runs a cell's tasks."""
    folder, _, name = frame.filename.rpartition("/")
    ours = folder == HARNESS_FOLDER or folder.startswith(f"{HARNESS_FOLDER}/")
    return ours or (folder.rpartition("/")[2], name) in _LOOP_FILES


def _is_library(frame: traceback.FrameSummary) -> bool:
    """Returns whether a frame belongs to the standard library: ten of them say no more than the last."""
    name = frame.filename
    return name.startswith((_LIBRARY, "<frozen ")) and "/site-packages/" not in name


_host_exceptions: dict[tuple[str, str], type[Exception]] = {}


def forget_host_exceptions() -> object:
    """Recreates the classes of host exceptions: a cell can change those that it caught. Returns the old ones."""
    old = [*_host_exceptions.items()]
    _host_exceptions.clear()
    return old


def host_exception(error: dict[str, Any]) -> Exception:
    """Creates the exception of a host tool, under its own name. A cell can catch it as its builtin base."""
    name, base_name = error["data"]["type"], error["data"]["base"]
    base = getattr(builtins, base_name, None)
    if not (isinstance(base, type) and issubclass(base, Exception)) or base is Exception:
        base = HostToolError
    key = (name, base.__name__)
    if name == base.__name__:
        kind = base
    elif key in _host_exceptions:
        kind = _host_exceptions[key]
    else:
        kind = _host_exceptions[key] = type(name, (base,), {"__module__": "builtins"})
    try:
        return kind(error["message"])
    except TypeError:  # UnicodeDecodeError and similar need more than a message
        return HostToolError(f"{name}: {error['message']}")


if _ARCHIVE:
    linecache.lazycache = find_library_source
    traceback._colorize = NoColors  # type: ignore[attr-defined]
