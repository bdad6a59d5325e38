"""Warm sessions: opened in the background, lent once, never taken back.

A namespace is used by one borrower and then closed, so nothing can pass from one to the next. The pool
starts nothing before the first loan, keeps as many sessions warm as are used, and closes those that
nobody wants.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping

from sandbox_runtime.errors import SandboxError
from sandbox_runtime.limits import Limits
from sandbox_runtime.packages import PackageSet
from sandbox_runtime.sandbox import HostTool
from sandbox_runtime.session import Session

# A warm session takes about 200 MB.
DEFAULT_SIZE = 4

# After this long without a loan a warm session is given up.
IDLE_SECONDS = 120.0

# What the keeper is just opening it closes again; nobody waits longer for that.
CLOSE_SECONDS = 5.0

# Called with the limits, and with `packages=` where there are some: `open_session` will do.
OpenSession = Callable[..., Session]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What sessions have to have in common to be lent in place of each other."""

    limits: Limits
    packages: PackageSet | None = None


@dataclasses.dataclass
class _Shelf:
    """The warm sessions of one kind, the oldest first, and how many there should be."""

    target: int = 1
    warm: list[tuple[Session, float]] = dataclasses.field(default_factory=list)


class Pool:
    """Lends sessions that are already open. Safe to use from many threads."""

    def __init__(
        self,
        open_session: OpenSession,
        size: int = DEFAULT_SIZE,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Makes an empty pool; nothing is started yet.

        Args:
            open_session: Opens a session without tools.
            size: Sessions that are kept warm for one set of limits and packages, at most.
            idle_seconds: How long a session waits for a borrower.

        Raises:
            ValueError: A number is not positive.
        """
        if size < 1 or idle_seconds <= 0:
            raise ValueError("A pool needs a size of 1 or more and a positive idle_seconds.")
        self.size = size
        self._open_session = open_session
        self._idle_seconds = idle_seconds
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()  # guards everything below
        self._shelves: dict[_Kind, _Shelf] = {}
        self._keeper: threading.Thread | None = None
        self._closed = False

    def lend(
        self,
        limits: Limits,
        tools: Mapping[str, HostTool] | None = None,
        outputs: Mapping[str, str] | None = None,
        packages: PackageSet | None = None,
    ) -> Session:
        """A session of the borrower's own: a warm one, else a new one. The borrower closes it.

        Raises what opening a session raises.
        """
        kind = _Kind(limits, packages)
        while (session := self._take(kind)) is not None:
            try:
                session.register(tools or {}, outputs)
            except SandboxError:
                session.close()  # it died on the shelf
            except BaseException:
                session.close()
                raise
            else:
                return session
        session = self._open(kind)
        try:
            session.register(tools or {}, outputs)
        except BaseException:
            session.close()
            raise
        return session

    def warm(self, limits: Limits, packages: PackageSet | None = None) -> int:
        """How many sessions with these limits and packages are ready now."""
        with self._changed:
            shelf = self._shelves.get(_Kind(limits, packages))
            return len(shelf.warm) if shelf else 0

    def close(self) -> None:
        """Closes every warm session; what is lent stays with its borrowers. The pool may be used again."""
        with self._changed:
            left = [session for shelf in self._shelves.values() for session, _ in shelf.warm]
            self._shelves.clear()
            self._closed = True
            keeper = self._keeper
            self._changed.notify_all()
        for session in left:
            session.close()
        if keeper is not None:
            keeper.join(CLOSE_SECONDS)

    def _take(self, kind: _Kind) -> Session | None:
        """The freshest warm session, or None; either way the keeper learns of the demand."""
        with self._changed:
            self._closed = False
            shelf = self._shelves.get(kind)
            if shelf is None:
                shelf = self._shelves[kind] = _Shelf()
            elif not shelf.warm:
                shelf.target = min(self.size, shelf.target + 1)
            session = shelf.warm.pop()[0] if shelf.warm else None
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="sandbox-pool", daemon=True)
                self._keeper.start()
            self._changed.notify_all()
            return session

    def _open(self, kind: _Kind) -> Session:
        if kind.packages is None:
            return self._open_session(kind.limits)
        return self._open_session(kind.limits, packages=kind.packages)

    # ---- The keeper's thread ----

    def _keep(self) -> None:
        """Opens what is missing and closes what is idle, until there is nothing to look after."""
        try:
            while self._look_after():
                self._retire()
        except BaseException:
            with self._changed:
                self._keeper = None
            raise

    def _look_after(self) -> bool:
        """Does what is next, which may be to wait; false when nothing is left to do."""
        with self._changed:
            kind, wait = self._next_duty()
            if kind is None and wait is None:
                self._keeper = None  # here, so that a borrower from now on starts another
                return False
            if kind is None:
                self._changed.wait(wait)
                return True
        self._open_one(kind)
        return True

    def _next_duty(self) -> tuple[_Kind | None, float | None]:
        """The kind to open a session for, or else the seconds until one is idle for too long."""
        for kind, shelf in self._shelves.items():
            if len(shelf.warm) < shelf.target:
                return kind, None
        ages = [since for shelf in self._shelves.values() for _, since in shelf.warm]
        return None, max(min(ages) + self._idle_seconds - time.monotonic(), 0) if ages else None

    def _open_one(self, kind: _Kind) -> None:
        try:
            session = self._open(kind)
        except (SandboxError, OSError):
            # The next borrower opens one himself, and is told what is wrong.
            with self._changed:
                self._shelves.pop(kind, None)
            return
        with self._changed:
            shelf = self._shelves.get(kind)
            if shelf is not None and not self._closed:
                shelf.warm.append((session, time.monotonic()))
                return
        session.close()

    def _retire(self) -> None:
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


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child has no threads and must not touch its parent's processes."""
    for pool in list(_pools):
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
