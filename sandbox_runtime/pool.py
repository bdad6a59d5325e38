"""Warm sessions: opened in the background, lent once, never taken back.

A namespace is used by one borrower and then closed, so nothing can pass from one to the next. A pool
starts nothing before the first loan, keeps as many sessions warm as are used, and closes those that
nobody wants.
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

from sandbox_runtime.admission import AdmissionQueue, Slot, default_bound
from sandbox_runtime.errors import SandboxDiedError, SandboxError
from sandbox_runtime.limits import Limits
from sandbox_runtime.open import open_session, ready_packages
from sandbox_runtime.packages.resolve import PackageSet, Wanted
from sandbox_runtime.sandbox import HostTool
from sandbox_runtime.sessions.session import Session
from sandbox_runtime.values.type_rules import Rule

# A warm session takes about 200 MB.
DEFAULT_SIZE = 4

# After this long without a loan a warm session is given up.
IDLE_SECONDS = 120.0

# What the keeper is just opening it closes again; nobody waits longer for that.
CLOSE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class _SessionSpec:
    """What sessions have to have in common to be lent in place of each other."""

    limits: Limits
    packages: PackageSet | None = None


@dataclasses.dataclass
class _WarmSessions:
    """The warm sessions of one kind, the oldest first, and how many there should be."""

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
    ) -> None:
        """Makes an empty pool; nothing is started yet.

        Args:
            size: Sessions that are kept warm, at most; what is lent does not count.
            limits: What its sessions may use, where `lend` does not say otherwise.
            packages: What their cells can import, where `lend` does not say otherwise.
            idle_seconds: How long a session waits for a borrower.
            max_sessions: Sessions that are lent at the same time to those who ask for a `seat`, as every
                run of an RLM does; the others wait in line. What is warm comes on top. None: what this
                machine has room for.
            require_wall: Refuse to lend where the operating system has no wall to put round a process,
                whatever the limits of a loan say.

        Raises:
            ValueError: A number is not positive.
            PackageError: A package cannot be had.
        """
        if size < 1 or idle_seconds <= 0 or (max_sessions is not None and max_sessions < 1):
            raise ValueError(
                "A pool needs a size of 1 or more, a positive idle_seconds and max_sessions of 1 or more."
            )
        self.size = size
        self.max_sessions = default_bound() if max_sessions is None else max_sessions
        self.limits = limits or Limits()
        if require_wall:
            self.limits = dataclasses.replace(self.limits, require_wall=True)
        self.packages = ready_packages(packages)
        self._idle_seconds = idle_seconds
        self._reset()
        _pools.add(self)

    def __deepcopy__(self, memo: object) -> Pool:
        """The pool itself: what is shared stays shared."""
        return self

    def __reduce__(self) -> tuple[Callable[[], Pool], tuple[()]]:
        """In another process, that one's default pool."""
        return default_pool, ()

    def _reset(self) -> None:
        self._changed = threading.Condition()  # guards everything below
        self._shelves: dict[_SessionSpec, _WarmSessions] = {}
        self._keeper: threading.Thread | None = None
        self._closed = False
        self.seats = AdmissionQueue(self.max_sessions)

    def slot(self, parent: Slot | None = None) -> Slot:
        """A seat, or a place in line for one: wait for it, borrow, close the session, and leave it.

        Args:
            above: The seat of the one who waits for what is done on this one. He gets one below it without
                waiting, so that nobody waits for himself.
        """
        return self.seats.ask(parent)

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
        """A session of the borrower's own: a warm one, else a new one. The borrower closes it.

        Never waits for others: that is what a `seat` is for. The arguments are those of `open_session`.
        Raises what opening a session raises.
        """
        kind = self._kind(limits, packages)
        types = list(types)
        while (session := self._take(kind)) is not None:
            with contextlib.suppress(SandboxError):  # it died on the shelf
                return _registered(session, tools or {}, outputs, types, loop)
        return open_session(kind.limits, tools, outputs, kind.packages, types=types, loop=loop)

    def warm(
        self,
        limits: Limits | None = None,
        packages: Wanted | PackageSet | None = None,
    ) -> int:
        """How many sessions with these limits and packages are ready now."""
        kind = self._kind(limits, packages)
        with self._changed:
            shelf = self._shelves.get(kind)
            return len(shelf.warm) if shelf else 0

    def close(self) -> None:
        """Closes every warm session; what is lent stays with its borrowers. The pool may be used again."""
        with self._changed:
            released = [session for shelf in self._shelves.values() for session, _ in shelf.warm]
            self._shelves.clear()
            self._closed = True
            keeper = self._keeper
            self._changed.notify_all()
        for session in released:
            session.close()
        if keeper is not None:
            keeper.join(CLOSE_SECONDS)

    def _kind(self, limits: Limits | None, packages: Wanted | PackageSet | None) -> _SessionSpec:
        wanted = self.packages if packages is None else ready_packages(packages)
        limits = limits or self.limits
        if self.limits.require_wall:
            limits = dataclasses.replace(limits, require_wall=True)
        return _SessionSpec(limits, wanted)

    def _take(self, kind: _SessionSpec) -> Session | None:
        """The freshest warm session, or None; either way the keeper learns of the demand."""
        with self._changed:
            self._closed = False
            shelf = self._shelves.get(kind)
            if shelf is None:
                shelf = self._shelves[kind] = _WarmSessions()
            elif not shelf.warm:
                shelf.target = min(self.size, shelf.target + 1)
            shelf.lent_at = time.monotonic()
            session = shelf.warm.pop()[0] if shelf.warm else None
            if self._keeper is None:
                _close_at_exit()
                self._keeper = threading.Thread(target=self._keep, name="sandbox-pool", daemon=True)
                self._keeper.start()
            self._changed.notify_all()
            return session

    # ---- The keeper's thread ----

    def _keep(self) -> None:
        """Opens what is missing and closes what is idle, until there is nothing to look after."""
        try:
            while self._maintain_once():
                self._evict_idle()
        except BaseException:
            with self._changed:
                self._keeper = None
            raise

    def _maintain_once(self) -> bool:
        """Does what is next, which may be to wait; false when nothing is left to do."""
        with self._changed:
            kind, wait = self._next_task()
            if kind is None and wait is None:
                self._keeper = None  # here, so that a borrower from now on starts another
                return False
            if kind is None:
                self._changed.wait(wait)
                return True
        self._open_one(kind)
        return True

    def _next_task(self) -> tuple[_SessionSpec | None, float | None]:
        """The kind to open a session for, or else the seconds until one is idle for too long."""
        room = self.size
        for kind, shelf in self._latest():
            if len(shelf.warm) < min(shelf.target, room):
                return kind, None
            room = max(room - len(shelf.warm), 0)
            if not shelf.warm:
                del self._shelves[kind]  # there is no room for it until it is asked for again
        ages = [since for shelf in self._shelves.values() for _, since in shelf.warm]
        return None, max(min(ages) + self._idle_seconds - time.monotonic(), 0) if ages else None

    def _latest(self) -> list[tuple[_SessionSpec, _WarmSessions]]:
        """The shelves, that of the last loan first."""
        return sorted(self._shelves.items(), key=lambda item: item[1].lent_at, reverse=True)

    def _open_one(self, kind: _SessionSpec) -> None:
        try:
            session = open_session(kind.limits, packages=kind.packages)
            _exercise(session)
        except (SandboxError, OSError):
            # No more are tried for now; who finds none opens one himself, and is told what is wrong.
            with self._changed:
                shelf = self._shelves.get(kind)
                if shelf is not None:
                    shelf.target = len(shelf.warm)
                    if not shelf.warm:
                        del self._shelves[kind]
            return
        with self._changed:
            shelf = self._shelves.get(kind)
            if shelf is not None and not self._closed:
                shelf.warm.append((session, time.monotonic()))
                surplus = self._surplus()
            else:
                surplus = session
        if surplus is not None:
            surplus.close()

    def _surplus(self) -> Session | None:
        """Takes a session off the shelf that was not used for longest, if there are too many."""
        if sum(len(shelf.warm) for shelf in self._shelves.values()) <= self.size:
            return None
        shelf = [shelf for _, shelf in self._latest() if shelf.warm][-1]
        shelf.target -= 1
        return shelf.warm.pop(0)[0]

    def _evict_idle(self) -> None:
        """Closes sessions that waited too long, and lowers the target: they were too many."""
        oldest = time.monotonic() - self._idle_seconds
        idle: list[Session] = []
        with self._changed:
            for kind, shelf in list(self._shelves.items()):
                expired = [session for session, since in shelf.warm if since <= oldest]
                shelf.warm = [entry for entry in shelf.warm if entry[1] > oldest]
                shelf.target -= len(expired)
                if shelf.target < 1:
                    del self._shelves[kind]
                idle += expired
        for session in idle:
            session.close()


def _exercise(session: Session) -> None:
    try:
        session.exercise()
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
    """The warm session with what its borrower brings. Raises `SandboxError` for one that is dead."""
    with contextlib.ExitStack() as stack:
        stack.callback(session.close)
        if not session.alive:
            raise SandboxDiedError("The sandbox ended before it was lent.")
        session.register(tools, outputs, types=types, loop=loop)
        stack.pop_all()
    return session


@functools.cache
def default_pool() -> Pool:
    """The pool that all RLMs of this process share. It starts nothing before its first loan."""
    return Pool()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """From the first loan on: sandboxes end a moment after their host by themselves, so before it."""
    atexit.register(_close_all)


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _forget_in_child() -> None:
    """A forked child has no threads and must not touch its parent's processes."""
    for pool in list(_pools):
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
