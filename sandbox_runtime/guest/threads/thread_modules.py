"""Puts green threads into the standard library: `threading`, `queue`, `concurrent.futures`, `multiprocessing`, asyncio.

Only these modules change, and a cell may change them further: nothing of the harness depends on them. Processes
are threads here, which share the cell's variables.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import queue
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from types import MappingProxyType
from typing import Any

from sandbox_runtime.guest.threads.green_threads import MAX_THREADS, GreenThreads, Handle
from sandbox_runtime.guest.threads.locks import lock_class

# Workers of a pool that does not say how many: they wait for the host most of the time.
POOL_WORKERS = 32


def install(threads: GreenThreads, loop: Any) -> None:
    """Replaces what needs threads of the system. Modules that create locks when they are imported come afterwards."""
    module: Any = threading
    lock = lock_class(threads)
    module.Lock = module._allocate_lock = lock
    module._CRLock = None  # RLock() then returns the one that is written in Python
    module._ThreadHandle = Handle
    module._start_joinable_thread = threads.start
    module.get_ident = threads.get_ident
    # A thread without a context of its own gets a copy: the mark of its cell is in it.
    module._contextvars = types.SimpleNamespace(Context=copy_context, copy_context=copy_context)
    system: Any = importlib.import_module("_thread")
    system.start_new_thread = system.start_new = threads.start_new
    system.start_joinable_thread = threads.start
    module.local = importlib.import_module("_threading_local").local
    _hide_ends(threads, module)
    queue.SimpleQueue = queue._PySimpleQueue  # type: ignore[attr-defined, misc]
    _install_executors(loop)
    _install_processes()


def _hide_ends(threads: GreenThreads, module: Any) -> None:
    """Reports no exception that only ends a thread together with its cell."""
    show = module.excepthook

    def excepthook(args: Any) -> None:
        if not threads.is_end(args.exc_value):
            show(args)

    def shown(record: logging.LogRecord) -> bool:
        return not (record.exc_info and threads.is_end(record.exc_info[1]))

    module.excepthook = excepthook
    logging.getLogger("concurrent.futures").addFilter(shown)


def _install_executors(loop: Any) -> None:
    futures: Any = importlib.import_module("concurrent.futures")
    thread: Any = importlib.import_module("concurrent.futures.thread")
    process: Any = importlib.import_module("concurrent.futures.process")

    class ThreadPoolExecutor(thread.ThreadPoolExecutor):  # type: ignore[misc]
        __doc__ = thread.ThreadPoolExecutor.__doc__

        def __init__(self, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
            count = POOL_WORKERS if max_workers is None else min(max_workers, MAX_THREADS)
            super().__init__(count, *args, **kwargs)

    class ProcessPoolExecutor(ThreadPoolExecutor):
        """An executor whose processes are threads of the cell."""

        def __init__(
            self,
            max_workers: int | None = None,
            mp_context: object = None,
            initializer: Callable[..., object] | None = None,
            initargs: tuple[Any, ...] = (),
            *,
            max_tasks_per_child: int | None = None,
        ) -> None:
            super().__init__(max_workers, initializer=initializer, initargs=initargs)

    for cls in (ThreadPoolExecutor, ProcessPoolExecutor):
        cls.__module__, cls.__qualname__ = "concurrent.futures", cls.__name__
        setattr(futures, cls.__name__, cls)
    thread.ThreadPoolExecutor = ThreadPoolExecutor
    process.ProcessPoolExecutor = ProcessPoolExecutor
    futures.InterpreterPoolExecutor = ProcessPoolExecutor
    default: list[Any] = []

    def run_in_executor(
        executor: Any, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Runs a function in a thread: the executor's, or one of its own."""
        if executor is None:
            executor = default[0] if default else _Spawner(futures)
        return asyncio.wrap_future(executor.submit(function, *args), loop=loop)

    def set_default_executor(executor: Any) -> None:
        """Sets the executor of calls that name none."""
        default[:] = [executor]

    loop.run_in_executor = run_in_executor
    loop.set_default_executor = set_default_executor


class _Spawner:
    """An executor that starts a thread for each call, and has none that waits."""

    def __init__(self, futures: Any) -> None:
        self._futures = futures

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Starts a call. Returns its future."""
        future = self._futures.Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - the waiting code raises it again
                future.set_exception(error)

        threading.Thread(target=work).start()
        return future


def _install_processes() -> None:
    package: Any = importlib.import_module("multiprocessing")
    dummy: Any = importlib.import_module("multiprocessing.dummy")
    pool: Any = importlib.import_module("multiprocessing.pool")
    names = "Process Lock RLock Semaphore BoundedSemaphore Condition Event Barrier Queue Manager"
    for name in (*names.split(), "JoinableQueue", "Pipe", "Value", "Array"):
        setattr(package, name, getattr(dummy, name))
    package.SimpleQueue = queue.SimpleQueue
    package.get_context = lambda _method=None: package
    package.set_start_method = lambda _method, force=False: None
    package.get_start_method = lambda allow_none=False: "spawn"
    package.cpu_count = lambda: POOL_WORKERS
    package.Pool = package.dummy.Pool = pool.Pool = pool.ThreadPool = Pool


class Result:
    """The result of calls that run in the background: `multiprocessing.pool.AsyncResult`."""

    def __init__(
        self,
        futures: list[Any],
        take: Callable[[list[Any]], Any],
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._futures, self._take = futures, take
        self._left = len(futures)
        self._callbacks = callback, error_callback
        for future in futures:
            future.add_done_callback(self._note)

    def _note(self, _future: Any) -> None:
        self._left -= 1
        if self._left:
            return
        done, failed = self._callbacks
        error = next((e for f in self._futures if (e := f.exception()) is not None), None)
        if error is None and done is not None:
            done(self.get())
        if error is not None and failed is not None:
            failed(error)

    def get(self, timeout: float | None = None) -> Any:
        """Returns the value, or raises the exception of the first call that failed."""
        self.wait(timeout)
        if not self.ready():
            raise _timeout_error()
        return self._take([future.result() for future in self._futures])

    def wait(self, timeout: float | None = None) -> None:
        """Waits until all calls are done, or the time is over."""
        importlib.import_module("concurrent.futures").wait(self._futures, timeout)

    def ready(self) -> bool:
        """Returns whether all calls are done."""
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Returns whether no call failed. Raises ValueError if one is not done."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return all(future.exception() is None for future in self._futures)


class Pool:
    """A pool of threads with the methods of `multiprocessing.Pool`."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: object = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        executor: Any = importlib.import_module("concurrent.futures").ThreadPoolExecutor
        self._executor = executor(processes, "", initializer, tuple(initargs))
        self._closed = False

    def _submit(self, function: Callable[..., Any], calls: Iterable[Any]) -> list[Any]:
        if self._closed:
            raise ValueError("Pool not running")
        return [self._executor.submit(function, *args) for args in calls]

    def apply(
        self, func: Callable[..., Any], args: Any = (), kwds: Any = MappingProxyType({})
    ) -> Any:
        """Calls a function in the pool, and returns its value."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Any = (),
        kwds: Any = MappingProxyType({}),
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result:
        """Calls a function in the pool without waiting."""
        futures = self._submit(lambda: func(*args, **kwds), [()])
        return Result(futures, lambda values: values[0], callback, error_callback)

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: object = None
    ) -> Any:
        """Calls the function for each item at once. Returns the values in order."""
        return self.map_async(func, iterable).get()

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: object = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result:
        """Calls the function for each item without waiting."""
        futures = self._submit(func, ((item,) for item in iterable))
        return Result(futures, lambda values: values, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: object = None
    ) -> Any:
        """Like `map`, with each item as the arguments of a call."""
        return self.starmap_async(func, iterable).get()

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: object = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> Result:
        """Like `map_async`, with each item as the arguments of a call."""
        futures = self._submit(func, iterable)
        return Result(futures, lambda values: values, callback, error_callback)

    def imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: object = 1
    ) -> Iterator[Any]:
        """Calls the function for each item at once. Iterates over the values in order."""
        return _Values(self._submit(func, ((item,) for item in iterable)))

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: object = 1
    ) -> Iterator[Any]:
        """Calls the function for each item at once. Iterates over the values as they arrive."""
        futures = self._submit(func, ((item,) for item in iterable))
        return _Values(importlib.import_module("concurrent.futures").as_completed(futures))

    def close(self) -> None:
        """Takes no more calls."""
        self._closed = True
        self._executor.shutdown(wait=False)

    def terminate(self) -> None:
        """Drops the calls that have not started."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Waits for the calls of a closed pool."""
        if not self._closed:
            raise ValueError("Pool is still running")
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: Any) -> None:
        self.terminate()


class _Values:
    """The values of a pool's calls, one after the other, also with a timeout for the next."""

    def __init__(self, futures: Iterable[Any]) -> None:
        self._futures = iter(futures)

    def __iter__(self) -> _Values:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Returns the next value."""
        try:
            return next(self._futures).result(timeout)
        except TimeoutError as error:
            raise _timeout_error() from error


def _timeout_error() -> Exception:
    kind: type[Exception] = importlib.import_module("multiprocessing").TimeoutError
    return kind()
