"""The cell driver: runs cells in one namespace and tells how each of them ended.

Loaded by Pyodide inside the worker; ordinary Python otherwise, which the tests run under CPython with
a fake host. Knows cells, output, host tools and SUBMIT. Knows no JSON-RPC: `worker.ts` calls the few
public methods of `Driver`, and `DriverHost` is all it can call back.

A cell is hostile until shown otherwise: whatever it raises, prints, rebinds or returns must leave the
driver able to run the next one.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import inspect
import io
import linecache
import random
import signal
import sys
import time
import traceback
import types
from collections.abc import Awaitable, Callable, Sequence

# By name: a cell that replaces them in their modules does not replace them here.
from json import dumps as to_json
from json import loads as from_json
from time import monotonic
from typing import Any, Protocol

from sandbox_runtime.deno.crossing import INLINE_CHARS, Part, receive, send

# How long printed text may wait before the host hears of it, so that little is lost in a crash.
EMIT_SECONDS = 0.2

# A sleeping cell looks up this often, to see whether it was interrupted.
SLEEP_SLICE_SECONDS = 0.02

# Tasks that a cell leaves behind get this many turns of the loop to take their cancellation.
CANCEL_TURNS = 3

# Freed when a cell fails: one that used up all the memory leaves none to tell of it otherwise.
RESERVE_BYTES = 2 * 1024 * 1024

HARNESS_FILES = (__file__, send.__code__.co_filename)


class DriverHost(Protocol):
    """What the driver needs from outside."""

    def call(self, tool: str, arguments: str, extras: list[Part]) -> tuple[str, list[Part]]:
        """Asks the host to run a tool; blocks. The answer is JSON text, and the bytes with it."""

    def emit(self, text: str) -> None:
        """Tells the host what a running cell has printed."""

    def heard(self) -> None:
        """Tells that a signal has arrived; until then it is sent again."""

    def drain_raw(self) -> str:
        """Text written to the process's file descriptors behind Python's streams."""

    def wait_for(self, awaitable: Awaitable[Any]) -> Any:
        """Runs the event loop until the awaitable is done."""


class CellTimeoutError(KeyboardInterrupt):
    """The cell worked longer than `Limits.cell_seconds`."""

    __module__ = "builtins"  # tracebacks show the bare name


class HostToolError(RuntimeError):
    """A host tool failed with an exception that Python itself does not define."""

    __module__ = "builtins"


class _SubmitSignal(BaseException):
    """Unwinds the cell after SUBMIT. Recognised by identity, never by its name."""


class Output:
    """Collects what a cell prints: the first and the last characters within `limit`, and a count.

    The head also goes to the host while the cell runs.
    """

    def __init__(self, limit: int, emit: Callable[[str], None]) -> None:
        self._half = max(limit // 2, 1)
        self._emit = emit
        self._head: list[str] = []
        self._head_room = self._half
        self._tail: list[str] = []
        self._tail_chars = 0
        self._omitted = 0
        self._unsent: list[str] = []
        self._sent_at = monotonic()

    def write(self, text: str) -> None:
        """Adds text; constant memory whatever its length."""
        if not text:
            return
        if self._head_room:
            head, text = text[: self._head_room], text[self._head_room :]
            self._head.append(head)
            self._head_room -= len(head)
            self._send(head)
        if not text:
            return
        self._tail.append(text[-self._half :])
        self._omitted += len(text) - len(self._tail[-1])
        self._tail_chars += len(self._tail[-1])
        if self._tail_chars > 4 * self._half or len(self._tail) > 4096:
            self._trim_tail()

    def omit(self, chars: int) -> None:
        """Counts characters that are not even given, from the middle of a text over the limit."""
        self._omitted += chars

    def _trim_tail(self) -> str:
        joined = "".join(self._tail)
        kept = joined[-self._half :]
        self._omitted += len(joined) - len(kept)
        self._tail = [kept]
        self._tail_chars = len(kept)
        return kept

    def _send(self, text: str) -> None:
        self._unsent.append(text)
        now = monotonic()
        if now - self._sent_at >= EMIT_SECONDS or not self._head_room:
            self._emit(clean("".join(self._unsent)))
            self._unsent.clear()
            self._sent_at = now

    def render(self) -> str:
        """The text to show, with a line that says how much was left out."""
        head, tail = "".join(self._head), self._trim_tail()
        if not self._omitted:
            return head + tail
        return f"{head}\n... ({self._omitted:,} characters omitted) ...\n{tail}"


class Stream(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of the cells: one order, one limit."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.buffer = ByteStream(self)

    def write(self, text: str, /) -> int:
        """Adds text to the running cell's output. Between cells nobody listens."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._driver.running:
            self._driver.output.write(str.__str__(text))
        return len(text)

    def writable(self) -> bool:
        """Always true."""
        return True


class ByteStream(io.RawIOBase):
    """`sys.stdout.buffer`: bytes, shown as text."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, data: Any, /) -> int:
        """Adds bytes to the running cell's output."""
        text = bytes(data).decode("utf-8", "backslashreplace")
        self._stream.write(text)
        return len(data)

    def writable(self) -> bool:
        """Always true."""
        return True


class Driver:
    """Runs the cells of one session. Not reentrant: a cell cannot run another."""

    def __init__(self, host: DriverHost, output_chars: int = 10_000) -> None:
        self._host = host
        self._output_chars = output_chars
        self._module = types.ModuleType("__main__")
        self._namespace = self._module.__dict__
        self._harness: dict[str, Callable[..., Any]] = {}
        self._outputs: list[dict[str, str]] | None = None
        self._cell: int | None = None
        self._interruptible = False
        self._stop: KeyboardInterrupt | None = None
        self._overdue = False  # the stop is decided, and not yet raised
        self._signal = _SubmitSignal()
        self._submitted: tuple[str, list[Part]] | None = None
        self._stream = Stream(self)
        self.output = Output(output_chars, host.emit)
        self._sources = linecache.cache
        self._modules: dict[str, types.ModuleType] = {}
        self._builtins = {**vars(builtins), "input": _no_input}
        self._recursion_limit = sys.getrecursionlimit()
        self._reserve: bytearray | None = None

    @property
    def running(self) -> bool:
        """True while a cell runs."""
        return self._cell is not None

    def wake(self, output_chars: int) -> None:
        """Makes a saved interpreter fit for a new session: own limits, fresh randomness."""
        self._output_chars = output_chars
        self._modules = dict(sys.modules)
        random.seed()

    # ---- What the host asks ----

    def assign(self, name: str, kind: str, parts: Sequence[Part]) -> None:
        """Binds a variable to a value of the host's."""
        self._namespace[name] = receive(kind, parts)

    def register(self, declared: str) -> None:
        """Binds the host tools and SUBMIT; `declared` is the JSON of `messages.Register`."""
        plan = from_json(declared)
        for name in self._harness:
            self._namespace.pop(name, None)
        self._outputs = plan["outputs"]
        self._harness = {"SUBMIT": self._make_submit()}
        for tool in plan["tools"]:
            self._harness[tool["name"]] = self._make_tool(tool["name"], tool["doc"])
        self._namespace.update(self._harness)

    def run(self, cell: int, code: str) -> list[Any]:
        """Runs a cell. Returns the JSON text of its end, then the parts of a submitted value."""
        self._begin(cell)
        filename = f"<cell {cell}>"
        error: BaseException | None = None
        try:
            self._interruptible = True
            self._sources[filename] = (len(code), None, code.splitlines(True), filename)
            self._execute(code, filename)
            self._interruptible = False
        except BaseException as caught:  # noqa: BLE001 - a cell may raise anything; all of it is data
            self._interruptible = False
            self._reserve = None
            error = caught
        self._restore_interpreter()
        self._sweep_tasks()
        return self._end(error)

    def on_signal(self, number: int, frame: types.FrameType | None = None) -> None:
        """Stops the running cell; outside of a cell a late signal means nothing.

        Raises in the cell's own code. Where the signal finds the event loop instead, the cell waits
        in an `await`, and cancelling what it waits for is what stops it; or it is about to wait, or
        has just done so, and `raise_overdue` stops it then.
        """
        self._host.heard()
        if not self._interruptible:
            return
        if number == signal.SIGALRM:
            self._stop = CellTimeoutError("the cell reached its time limit; its variables are kept")
        else:
            self._stop = KeyboardInterrupt("the cell was interrupted; its variables are kept")
        if _may_raise(frame):
            raise self._stop
        self._overdue = True
        for task in _all_tasks():
            if not _is_unborn(task):
                task.cancel()

    def raise_overdue(self) -> None:
        """Stops the cell if a signal came where an exception would have been lost."""
        if self._overdue and self._stop is not None:
            self._overdue = False
            raise self._stop

    # ---- A cell, from start to end ----

    def _begin(self, cell: int) -> None:
        """Makes the harness whole again, whatever earlier cells did to it."""
        self._cell = cell
        self._stop = None
        self._overdue = False
        self._submitted = None
        self.output = Output(self._output_chars, self._host.emit)
        self._restore_interpreter()
        if self._reserve is None:
            with contextlib.suppress(MemoryError):
                self._reserve = bytearray(RESERVE_BYTES)
        self._namespace["__builtins__"] = builtins
        self._namespace.update(self._harness)
        sys.modules["__main__"] = self._module
        sys.stdout = sys.stderr = self._stream
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, self.on_signal)

    def _restore_interpreter(self) -> None:
        """Undoes what a cell did to Python itself, as far as the driver stands on it."""
        names = builtins.__dict__
        names.update(self._builtins)
        for added in [name for name in names if name not in self._builtins]:
            del names[added]
        linecache.cache = self._sources
        sys.modules.update(self._modules)
        sys.setrecursionlimit(self._recursion_limit)

    def _execute(self, code: str, filename: str) -> None:
        """Runs all statements, and shows the value of the last one if it is an expression."""
        value = None
        try:
            for part in compile_cell(code, filename):
                value = eval(part, self._namespace)
                if part.co_flags & inspect.CO_COROUTINE:
                    value = self._host.wait_for(value)
            if value is not None:
                self._show(value)
        except asyncio.CancelledError as error:
            if self._stop is None:
                raise
            raise self._stop.with_traceback(error.__traceback__) from None

    def _sweep_tasks(self) -> None:
        """Cancels what a cell left running; nothing of it may act in a later cell."""
        if left := _all_tasks():
            self._host.wait_for(_cancel_all(left))
            note = f"[{len(left)} background task(s) were still running and are cancelled]"
            self.output.write(f"\n{note}\n")

    def _show(self, value: Any) -> None:
        """Writes the last value as a REPL shows it. A huge text is cut before it is copied."""
        cut = self._output_chars
        if type(value) in (str, bytes) and len(value) > 2 * cut:
            opening = len(repr(value[:0])) - 1
            self._stream.write(repr(value[:cut])[:-1])
            self.output.omit(len(value) - 2 * cut)
            self._stream.write(f"{repr(value[-cut:])[opening:]}\n")
        else:
            self._stream.write(repr(value) + "\n")

    def _end(self, error: BaseException | None) -> list[Any]:
        self._cell = None
        self._note_rebound()
        raw = self._host.drain_raw()
        if raw:
            self.output.write(raw)
        if self._submitted is not None:
            text, extras = self._submitted
            self._submitted = None
            return [self._report("submitted"), text.encode(), *extras]
        if error is None:
            return [self._report("completed")]
        return [self._report("failed", **self._describe(error))]

    def _note_rebound(self) -> None:
        rebound = [n for n, own in self._harness.items() if self._namespace.get(n) is not own]
        if rebound:
            names = ", ".join(rebound)
            self.output.write(
                f"\n[this cell rebound {names}; the next cell has the original again]\n"
            )

    def _report(self, outcome: str, **error: str) -> str:
        texts = {"errorType": "", "message": "", "traceback": "", **error}
        texts["output"] = self.output.render()
        return to_json({"outcome": outcome, **{k: clean(v) for k, v in texts.items()}})

    def _describe(self, error: BaseException) -> dict[str, str]:
        """Name, message and traceback of whatever a cell raised, with nothing of it trusted."""
        name = type.__dict__["__name__"].__get__(type(error))
        try:
            shown = traceback.TracebackException(
                type(error), error, _cell_frames(error), compact=True
            )
            _drop_harness(shown)
            message = _message_of(error)
            lines = "".join(shown.format())
            if isinstance(error, SystemExit):
                lines += f"({message})\n"
        except BaseException:  # noqa: BLE001 - its own methods may raise anything
            message = "(the exception itself could not be shown)"
            lines = f"{name}: {message}\n"
        limit = max(self._output_chars, 1000)
        return {
            "errorType": name,
            "message": abridge(message, limit),
            "traceback": abridge(lines, limit),
        }

    # ---- Names that the harness gives to cells ----

    def _make_submit(self) -> Callable[..., Any]:
        def SUBMIT(*args: Any, **kwargs: Any) -> None:  # noqa: N802 - the name of the REPL's vocabulary
            outputs = bind_submit(self._outputs, args, kwargs)
            if self._cell is None:
                raise RuntimeError("SUBMIT() was called outside of a cell")
            self._submitted = send(outputs, "SUBMIT")
            raise self._signal

        SUBMIT.__doc__ = f"{submit_usage(self._outputs)}\n\nEnds the run with these outputs."
        return SUBMIT

    def _make_tool(self, name: str, doc: str) -> Callable[..., Any]:
        def tool(*args: Any, **kwargs: Any) -> Any:
            if self._cell is None:
                raise RuntimeError(f"{name}() was called after its cell had ended")
            answer, parts = self._host.call(
                name, *send([list(args), kwargs], f"{name}() arguments")
            )
            self.raise_overdue()
            reply = from_json(answer)
            if "error" in reply:
                raise host_exception(reply["error"])
            result = reply["result"]
            return receive(result["kind"], parts or [result["inline"].encode()])

        tool.__name__ = tool.__qualname__ = name
        tool.__doc__ = doc
        return tool


def compile_cell(code: str, filename: str) -> list[types.CodeType]:
    """Compiles a cell: its statements, and apart from them a last expression whose value is shown."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(code, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    parts = [compile(tree, filename, "exec", flags, dont_inherit=True)] if tree.body else []
    if last is not None:
        shown = ast.Expression(last.value)
        parts.append(compile(shown, filename, "eval", flags, dont_inherit=True))
    return parts


def bind_submit(
    outputs: list[dict[str, str]] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The outputs that a SUBMIT call names: by position, by keyword, or as one dict of all.

    Raises:
        TypeError: A field is missing, unknown or given twice.
    """
    if outputs is None:
        if args and (kwargs or len(args) > 1):
            raise TypeError("SUBMIT() takes one value, or the outputs by name")
        return {"output": args[0]} if args else kwargs
    names = [field["name"] for field in outputs]
    if len(args) == 1 and not kwargs and type(args[0]) is dict and set(args[0]) == set(names):
        return dict(args[0])
    given = dict(zip(names, args, strict=False))
    problems = [f"takes {len(names)} values, got {len(args)}"] if len(args) > len(names) else []
    problems += [f"has no field {name!r}" for name in kwargs if name not in names]
    problems += [f"got {name!r} twice" for name in kwargs if name in given]
    given.update(kwargs)
    problems += [f"is missing {name!r}" for name in names if name not in given]
    if problems:
        raise TypeError(f"SUBMIT() {', '.join(problems)}. Call {submit_usage(outputs)}.")
    return {name: given[name] for name in names}


def submit_usage(outputs: list[dict[str, str]] | None) -> str:
    """How to call SUBMIT, with the type of each field."""
    if outputs is None:
        return "SUBMIT(output)"
    return f"SUBMIT({', '.join(field['name'] + ': ' + field['type'] for field in outputs)})"


_host_exceptions: dict[tuple[str, str], type[Exception]] = {}


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


async def _settled(
    work: Awaitable[Any], before: Callable[[], None]
) -> tuple[Any, BaseException | None]:
    try:
        before()
    except BaseException as error:  # noqa: BLE001 - as below
        if inspect.iscoroutine(work):
            work.close()
        return None, error
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - it is raised again by who waits
        return None, error


async def _cancel_all(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for _ in range(CANCEL_TURNS):
        await asyncio.sleep(0)


def _all_tasks() -> set[asyncio.Task[Any]]:
    try:
        return asyncio.all_tasks()
    except RuntimeError:  # no loop runs
        return set()


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None


def _is_unborn(task: asyncio.Task[Any]) -> bool:
    """True for a wait that has not begun: it looks for itself whether it may."""
    work = task.get_coro()
    return (
        inspect.iscoroutine(work)
        and work.cr_code is _settled.__code__
        and inspect.getcoroutinestate(work) == inspect.CORO_CREATED
    )


# In such a frame JavaScript works for the cell: what is raised inside of it arrives as something else.
_BORDER_CODES: set[types.CodeType] = set()


def _may_raise(frame: types.FrameType | None) -> bool:
    """True in the code of a cell or of a task; false in that of the event loop, which it would break."""
    task = _current_task()
    running = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    while frame is not None and frame.f_code not in _BORDER_CODES:
        if frame is running or frame.f_code is Driver._execute.__code__:
            return True
        frame = frame.f_back
    return False


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
        frames = [frame for frame in one.stack if frame.filename not in HARNESS_FILES]
        one.stack = traceback.StackSummary.from_list(frames)
        waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]


def abridge(text: str, limit: int) -> str:
    """The text, or its head and tail with the number of characters left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half:,} characters omitted) ...\n{text[-half:]}"


def clean(text: str) -> str:
    """The text without lone surrogates, which no encoding can carry."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _no_input(prompt: object = "") -> str:
    """Replaces `input`."""
    raise RuntimeError("input() is not available: nobody sits at this REPL")


if sys.platform == "emscripten":
    import js  # what `worker.ts` gives; see pythonGlobals() there
    import pyodide.code
    import pyodide.ffi.wrappers
    import pyodide.http
    import pyodide.webloop
    from pyodide.ffi import run_sync, to_js, unregister_js_module

    def _run_sync(awaitable: Awaitable[Any]) -> Any:
        """Waits without letting an exception pass through JavaScript, which would print it."""
        value, error = run_sync(_settled(awaitable, driver.raise_overdue))
        if error is not None:
            raise error
        driver.raise_overdue()
        return value

    class PyodideHost:
        """The driver's host, reached through the worker."""

        def __init__(self, worker: Any) -> None:
            self._worker = worker
            self._call_host = worker.callHost  # looked up once: crossing over to JavaScript is slow
            self.heard = worker.heard

        def call(self, tool: str, arguments: str, extras: list[Part]) -> tuple[str, list[Part]]:
            """See `DriverHost`."""
            if extras or len(arguments) > INLINE_CHARS:
                answer = self._call_host(tool, "", to_js([arguments.encode(), *extras]))
            else:
                answer = self._call_host(tool, arguments)
            if isinstance(answer, str):
                return answer, []
            text, *parts = answer
            return text, [part.to_bytes() for part in parts]

        def emit(self, text: str) -> None:
            """See `DriverHost`."""
            self._worker.emit(text)

        def drain_raw(self) -> str:
            """See `DriverHost`."""
            return self._worker.drainRaw()

        def wait_for(self, awaitable: Awaitable[Any]) -> Any:
            """See `DriverHost`."""
            return _run_sync(awaitable)

        def sleep(self, seconds: float, /) -> None:
            """Replaces `time.sleep`, which here could not be interrupted."""
            end = monotonic() + seconds
            while (left := end - monotonic()) > 0:
                self._worker.pause(min(left, SLEEP_SLICE_SECONDS) * 1000)

    class PyodideDriver(Driver):
        """The driver as `worker.ts` calls it: JavaScript buffers in, JavaScript arrays out."""

        def assign(self, name: str, kind: str, parts: Any) -> Any:
            """See `Driver`. An exception is returned, as name and text: JavaScript would blur it."""
            try:
                super().assign(name, kind, [part.to_bytes() for part in parts])
            except Exception as error:  # noqa: BLE001 - unpickling may raise anything
                return to_js([type(error).__name__, str(error)])
            return None

        def run(self, cell: int, code: str) -> Any:
            """See `Driver`."""
            return to_js(super().run(cell, code))

    def _quiet_loop() -> None:
        """Keeps exceptions of a cell's tasks inside Python: nobody outside could make sense of them."""
        loop: Any = asyncio.get_event_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        pyodide.webloop.run_sync = _run_sync  # what asyncio.run() comes down to
        loop._system_exit_handler = loop._keyboard_interrupt_handler = lambda *_: None

    def _hide_javascript() -> None:
        """Takes the modules that lead to JavaScript away, after all that import them have done so."""
        for name in ("js", "pyodide_js"):
            unregister_js_module(name)
            sys.modules.pop(name, None)

    _BORDER_CODES |= {_run_sync.__code__, PyodideHost.call.__code__}
    _host = PyodideHost(js)
    time.sleep = _host.sleep
    driver = PyodideDriver(_host)
    _quiet_loop()
    _hide_javascript()
    del js
