"""Warm sessions: opened in the background, lent once, never taken back.

A namespace is used by one borrower and then closed, so nothing can pass from one to the next. A pool
starts nothing before the first loan, keeps as many sessions warm as are used, and closes idle
ones.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sandbox_runtime.admission import (
    SESSION_BYTES,
    AdmissionQueue,
    Slot,
    default_bound,
)
from sandbox_runtime.errors import SandboxDiedError, SandboxError
from sandbox_runtime.limits import Limits
from sandbox_runtime.machine import available_bytes, cpus
from sandbox_runtime.node_seats import NodeSeats
from sandbox_runtime.open import open_session, ready_packages
from sandbox_runtime.packages.resolve import PackageSet, Wanted
from sandbox_runtime.sandbox import HostTool
from sandbox_runtime.sessions.session import Session
from sandbox_runtime.threads import start_thread
from sandbox_runtime.values.type_rules import Rule

# A warm session takes about 120 MB.
DEFAULT_SIZE = 4

# A warm session is closed after this long without a loan.
IDLE_SECONDS = 120.0

# A session is opened this long after the loan that it replaces: to start one takes the interpreter's lock and both
# processors of a small machine, which the borrower's first cells need at that moment.
BORROWER_FIRST_SECONDS = 0.25

# With less memory than this left, for four sessions that work, none is kept warm; it is looked at this often.
LEAST_AVAILABLE_BYTES = 4 * SESSION_BYTES
MEMORY_CHECK_SECONDS = 5.0

# `close` waits this long for the maintainer to close what it is opening.
CLOSE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class _SessionSpec:
    """The settings that make sessions interchangeable."""

    limits: Limits
    packages: PackageSet | None = None


@dataclasses.dataclass
class _WarmSessions:
    """The warm sessions of one specification, oldest first, and their target number."""

    target: int = 1
    lent_at: float = 0.0
    warm: list[tuple[Session, float]] = dataclasses.field(default_factory=list)


class Pool:
    """Lends sessions that are already open. Safe to use from many threads.

    `lend` blocks for a few milliseconds, or for a cold start when no session is warm: an event loop
    calls it in a thread.
    """

    def __init__(
        self,
        size: int = DEFAULT_SIZE,
        *,
        limits: Limits | None = None,
        packages: Wanted | PackageSet = (),
        idle_seconds: float = IDLE_SECONDS,
        max_sessions: int | None = None,
        require_wall: bool = False,
        available: Callable[[], int | None] = available_bytes,
    ) -> None:
        """Creates an empty pool; nothing is started yet.

        Args:
            size: Warm sessions, at most; lent sessions do not count. 0: every session is opened when it is lent.
            limits: Resource limits of its sessions; `lend` can override them.
            packages: Packages that cells can import; `lend` can override them.
            idle_seconds: How long a session waits for a borrower.
            max_sessions: Sessions lent at the same time to callers that hold a `slot`, as every run of an RLM
                does; the others queue. Warm sessions come on top. None: as many as fit this node, those of the user's
                other processes included.
            require_wall: Refuse to lend if the operating system cannot confine the process, whatever the
                limits of a loan say.
            available: Returns the memory that is left on the machine, in bytes; None if it is not known. While it is
                less than a gibibyte, no session is kept warm.

        Raises:
            ValueError: A number is not positive, or `size` is below 0.
            PackageError: A package cannot be resolved.
        """
        if size < 0 or idle_seconds <= 0 or (max_sessions is not None and max_sessions < 1):
            raise ValueError(
                "A pool needs a size of 0 or more, a positive idle_seconds and max_sessions of 1 or more."
            )
        self.size = size
        self.max_sessions = default_bound() if max_sessions is None else max_sessions
        self._has_own_bound = max_sessions is not None
        self.limits = limits or Limits()
        if require_wall:
            self.limits = dataclasses.replace(self.limits, require_wall=True)
        self.packages = ready_packages(packages)
        self._idle_seconds = idle_seconds
        self._available = available
        self._reset()
        _pools.add(self)

    def __deepcopy__(self, memo: object) -> Pool:
        """Returns the pool itself: shared things stay shared."""
        return self

    def __reduce__(self) -> tuple[Callable[[], Pool], tuple[()]]:
        """Unpickles as the default pool of the other process."""
        return default_pool, ()

    def _reset(self) -> None:
        self._changed = threading.Condition()  # guards everything below
        self._warm: dict[_SessionSpec, _WarmSessions] = {}
        self._maintainer: threading.Thread | None = None
        self._closed = False
        self.queue = AdmissionQueue(
            self.max_sessions,
            seats=NodeSeats(self.max_sessions),
            needs_seat=not self._has_own_bound,
        )

    def slot(self, parent: Slot | None = None) -> Slot:
        """Requests a slot. Wait for it, borrow and close the session, then release the slot.

        Args:
            parent: The slot whose holder waits for the work done on this one. A first child is admitted at
                once, so that nested runs cannot deadlock.
        """
        return self.queue.request(parent)

    def lend(
        self,
        tools: Mapping[str, HostTool] | None = None,
        outputs: Mapping[str, str] | None = None,
        *,
        types: Iterable[Rule | Any] = (),
        loop: asyncio.AbstractEventLoop | None = None,
        limits: Limits | None = None,
        packages: Wanted | PackageSet | None = None,
    ) -> Session:
        """Lends a session: a warm one if there is one, else a new one. The borrower closes it.

        Never queues; `slot` does. The arguments are those of `open_session`.

        Raises:
            EngineError: Deno or the engine cannot be used.
            SandboxStartError: The process did not start.
        """
        spec = self._spec(limits, packages)
        types = list(types)
        while (session := self._take(spec)) is not None:
            with contextlib.suppress(SandboxError):  # it died while it was warm
                return _registered(session, tools or {}, outputs, types, loop)
        return open_session(spec.limits, tools, outputs, spec.packages, types=types, loop=loop)

    def warm(
        self,
        limits: Limits | None = None,
        packages: Wanted | PackageSet | None = None,
    ) -> int:
        """Returns the number of warm sessions with these limits and packages."""
        spec = self._spec(limits, packages)
        with self._changed:
            group = self._warm.get(spec)
            return len(group.warm) if group else 0

    def close(self) -> None:
        """Closes every warm session; lent sessions stay with their borrowers. The pool can be used again."""
        with self._changed:
            released = [session for group in self._warm.values() for session, _ in group.warm]
            self._warm.clear()
            self._closed = True
            maintainer = self._maintainer
            self._changed.notify_all()
        for session in released:
            session.close()
        if maintainer is not None:
            maintainer.join(CLOSE_SECONDS)

    def _spec(self, limits: Limits | None, packages: Wanted | PackageSet | None) -> _SessionSpec:
        package_set = self.packages if packages is None else ready_packages(packages)
        limits = limits or self.limits
        if self.limits.require_wall:
            limits = dataclasses.replace(limits, require_wall=True)
        return _SessionSpec(limits, package_set)

    def _take(self, spec: _SessionSpec) -> Session | None:
        """Takes the freshest warm session, or None; either way the maintainer learns of the demand."""
        with self._changed:
            self._closed = False
            if self.size == 0:
                return None
            group = self._warm.get(spec)
            if group is None:
                group = self._warm[spec] = _WarmSessions()
            elif not group.warm:
                group.target = min(self.size, group.target + 1)
            group.lent_at = time.monotonic()
            session = group.warm.pop()[0] if group.warm else None
            if self._maintainer is None:
                _close_at_exit()
                self._maintainer = start_thread(self._maintain, "sandbox-pool")
            self._changed.notify_all()
            return session

    # ---- The maintainer's thread ----

    def _maintain(self) -> None:
        """Opens missing sessions and closes idle ones, until there is nothing left to maintain."""
        try:
            while self._maintain_once():
                self._evict_idle()
                if self._is_short():
                    self._evict_all()
        except BaseException:
            with self._changed:
                self._maintainer = None
            raise

    def _maintain_once(self) -> bool:
        """Performs the next task, which may be to wait; returns False when none is left."""
        with self._changed:
            spec, wait = self._next_task()
            if spec is None and wait is None:
                self._maintainer = (
                    None  # under the lock, so that the next borrower starts another maintainer
                )
                return False
            if spec is None:
                self._changed.wait(None if wait is None else min(wait, MEMORY_CHECK_SECONDS))
                return True
        time.sleep(BORROWER_FIRST_SECONDS)
        if not self._is_short():
            self._open_one(spec)
        return True

    def _next_task(self) -> tuple[_SessionSpec | None, float | None]:
        """Returns the specification to open a session for, or the seconds until one has been idle too long."""
        room = self.size
        for spec, group in self._latest():
            if len(group.warm) < min(group.target, room):
                return spec, None
            room = max(room - len(group.warm), 0)
            if not group.warm:
                del self._warm[spec]  # no room for it until the next demand
        ages = [since for group in self._warm.values() for _, since in group.warm]
        return None, max(min(ages) + self._idle_seconds - time.monotonic(), 0) if ages else None

    def _latest(self) -> list[tuple[_SessionSpec, _WarmSessions]]:
        """Returns the specifications with their warm sessions, the last lent first."""
        return sorted(self._warm.items(), key=lambda item: item[1].lent_at, reverse=True)

    def _open_one(self, spec: _SessionSpec) -> None:
        try:
            session = open_session(spec.limits, packages=spec.packages)
            if not self._is_busy():
                _rehearse(session)
        except (SandboxError, OSError):
            # Stop trying for now: a borrower that finds none opens one itself, and gets the error.
            with self._changed:
                group = self._warm.get(spec)
                if group is not None:
                    group.target = len(group.warm)
                    if not group.warm:
                        del self._warm[spec]
            return
        with self._changed:
            group = self._warm.get(spec)
            if group is not None and not self._closed:
                group.warm.append((session, time.monotonic()))
                surplus = self._surplus()
            else:
                surplus = session
        if surplus is not None:
            surplus.close()

    def _surplus(self) -> Session | None:
        """Removes a session of the least recently lent specification, if there are too many."""
        if sum(len(group.warm) for group in self._warm.values()) <= self.size:
            return None
        group = [group for _, group in self._latest() if group.warm][-1]
        group.target -= 1
        return group.warm.pop(0)[0]

    def _is_short(self) -> bool:
        """Returns whether memory is so short that others need it more than a session on the shelf."""
        left = self._available()
        return left is not None and left < LEAST_AVAILABLE_BYTES

    def _is_busy(self) -> bool:
        """Returns whether more runs are going on than there are processors.

        A rehearsal takes a fifth of a session's processor time. It saves a first cell some milliseconds, which do not matter where
        many runs share the processors.
        """
        return self.queue.held > cpus()

    def _evict_all(self) -> None:
        """Closes all warm sessions, and opens no others until the next loan."""
        with self._changed:
            evicted = [session for group in self._warm.values() for session, _ in group.warm]
            self._warm.clear()
        for session in evicted:
            session.close()

    def _evict_idle(self) -> None:
        """Closes sessions that were idle too long, and lowers their target number."""
        oldest = time.monotonic() - self._idle_seconds
        idle: list[Session] = []
        with self._changed:
            for spec, group in list(self._warm.items()):
                expired = [session for session, since in group.warm if since <= oldest]
                group.warm = [entry for entry in group.warm if entry[1] > oldest]
                group.target -= len(expired)
                if group.target < 1:
                    del self._warm[spec]
                idle += expired
        for session in idle:
            session.close()


def _rehearse(session: Session) -> None:
    try:
        session.rehearse()
    except BaseException:
        session.close()
        raise


def _registered(
    session: Session,
    tools: Mapping[str, HostTool],
    outputs: Mapping[str, str] | None,
    types: Iterable[Rule | Any],
    loop: asyncio.AbstractEventLoop | None,
) -> Session:
    """Registers the borrower's tools and types in a warm session. Raises `SandboxError` if it is dead."""
    with contextlib.ExitStack() as stack:
        stack.callback(session.close)
        if not session.alive:
            raise SandboxDiedError("The sandbox ended before it was lent.")
        session.register(tools, outputs, types=types, loop=loop)
        stack.pop_all()
    return session


def default_pool() -> Pool:
    """Returns the pool that all RLMs of this process share. It starts nothing before its first loan."""
    return _chosen_pool or _usual_pool()


def set_default_pool(pool: Pool | None) -> None:
    """Sets the pool that all RLMs of this process share, except those with a pool of their own.

    Args:
        pool: The pool. The caller closes it. None: the usual one again.
    """
    global _chosen_pool
    _chosen_pool = pool


@functools.cache
def _usual_pool() -> Pool:
    return Pool()


_chosen_pool: Pool | None = None

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """Registers the closing of all pools at exit, on the first loan."""
    atexit.register(_close_all)


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _forget_in_child() -> None:
    """A forked child has no threads and must not touch its parent's processes."""
    for pool in list(_pools):
        pool.queue.forget()
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
