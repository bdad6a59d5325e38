"""Exceptions: those of a cell told to the host, those of host tools raised in a cell.

Nothing of a cell's exception is trusted: its own methods may raise, print or never end.
"""

from __future__ import annotations

import builtins
import traceback
import types
from typing import Any

from sandbox_runtime.guest.output import abridge

# Frames of files in here are ours, and no concern of who wrote the cell.
HARNESS_FOLDER = __file__.rpartition("/")[0]

_LOOP_FILES = {("pyodide", "webloop.py"), ("asyncio", "events.py")}

# Exceptions inside of each other's arguments, or behind each other, beyond which they are not shown.
MAX_NESTING = 100

# However small the limit of a cell's output, so much of its error is told.
LEAST_SHOWN_CHARS = 1000


class HostToolError(RuntimeError):
    """A host tool failed with an exception that Python itself does not define."""

    __module__ = "builtins"


def describe(error: BaseException, limit: int) -> dict[str, str]:
    """Name, message and traceback of whatever a cell raised, each of at most `limit` characters."""
    name = type.__dict__["__name__"].__get__(type(error))
    try:
        if _holds_itself(error):
            raise RecursionError
        shown = traceback.TracebackException(type(error), error, _cell_frames(error), compact=True)
        _drop_harness(shown)
        message = _message_of(error)
        lines = "".join(shown.format())
        if isinstance(error, SystemExit):
            lines += f"({message})\n"
    except BaseException:  # noqa: BLE001 - its own methods may raise anything
        message = "(the exception itself could not be shown)"
        lines = f"{name}: {message}\n"
    return {
        "errorType": name,
        "message": abridge(message, limit),
        "traceback": abridge(lines, limit),
    }


def _holds_itself(error: BaseException) -> bool:
    """True if an exception is among its own arguments, or so deep in them that it might be.

    Making text of one would use up the C stack, which ends the interpreter.
    """
    args = BaseException.__dict__["args"].__get__
    level: list[BaseException] = [error, *_behind(error)]
    for _ in range(MAX_NESTING):
        inner = (item for one in level for item in args(one))
        level = [item for item in inner if issubclass(type(item), BaseException)]
        if not level or len(level) > 100 * MAX_NESTING:
            return bool(level)
    return True


def _behind(error: BaseException) -> list[BaseException]:
    """The exceptions that a traceback shows above this one."""
    found: dict[int, BaseException] = {}
    waiting: list[Any] = [error]
    while waiting and len(found) < MAX_NESTING:
        one = waiting.pop()
        for behind in (one.__cause__, one.__context__):
            if behind is not None and id(behind) not in found:
                found[id(behind)] = behind
                waiting.append(behind)
    return list(found.values())


def _message_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "a cell cannot exit the REPL; call SUBMIT(...) to finish"
    return str.__str__(str(error))


def _cell_frames(error: BaseException) -> types.TracebackType | None:
    """The traceback from the first frame of a cell on."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next
    return trace


def _drop_harness(shown: traceback.TracebackException) -> None:
    """Takes our own frames out of a traceback and out of those that it shows with it."""
    seen: set[int] = set()
    waiting: list[traceback.TracebackException | None] = [shown]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        frames = [frame for frame in one.stack if not _is_harness(frame)]
        one.stack = traceback.StackSummary.from_list(frames)
        waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _is_harness(frame: traceback.FrameSummary) -> bool:
    """True for our own frames, and for those of the event loop that runs a cell's tasks."""
    folder, _, name = frame.filename.rpartition("/")
    ours = folder == HARNESS_FOLDER or folder.startswith(f"{HARNESS_FOLDER}/")
    return ours or (folder.rpartition("/")[2], name) in _LOOP_FILES


_host_exceptions: dict[tuple[str, str], type[Exception]] = {}


def forget_host_exceptions() -> None:
    """Makes the classes of host exceptions anew: a cell can change those that it caught."""
    _host_exceptions.clear()


def host_exception(error: dict[str, Any]) -> Exception:
    """The exception of a host tool, under its own name, catchable as the builtin it derives from."""
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
    except TypeError:  # UnicodeDecodeError and its like want more than a message
        return HostToolError(f"{name}: {error['message']}")
