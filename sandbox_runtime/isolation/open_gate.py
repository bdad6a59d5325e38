"""A gate for system calls that only the start needs: opening and finding files, until it is sealed.

Deno and the libraries read files while they start; cells run later. A syscall filter cannot be changed afterwards,
but it can defer to this process (SECCOMP_RET_USER_NOTIF): a thread here answers "continue" until the gate is
sealed. After that the listener is closed and the kernel answers ENOSYS. No decision depends on a call's
arguments, which the process could change after the check.
https://docs.kernel.org/userspace-api/seccomp_filter.html#userspace-notification
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import threading
import weakref

from sandbox_runtime.threads import start_thread

if sys.platform != "win32":
    import fcntl

# linux/seccomp.h: SECCOMP_IOCTL_NOTIF_RECV and _SEND, `struct seccomp_notif` and `_resp`, FLAG_CONTINUE.
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_QUESTION_BYTES = 80
_ANSWER = struct.Struct("<QqiI")
_CONTINUE = 1

# Kernels before 6.11 keep waiting if the process ends during a notification; then nothing is left to seal.
_JOIN_SECONDS = 5.0


class Gate:
    """A gate that is open until it is sealed or the process has ended."""

    def __init__(self) -> None:
        """Starts a thread that waits for the listener from the launcher."""
        self._ours, self.theirs = socket.socketpair()
        self._wake, self._sealing = os.pipe()
        self._lock = threading.Lock()  # guards the closing of the descriptors
        self._listener: int | None = None
        self._thread = start_thread(self._serve, "sandbox-gate")
        _gates.add(self)

    def seal(self) -> None:
        """Seals the gate: the process can neither open nor find a file any more. Idempotent."""
        with self._lock:
            if self._sealing >= 0:
                os.close(self._sealing)
                self._sealing = -1
        self._thread.join(_JOIN_SECONDS)

    def _serve(self) -> None:
        try:
            if (listener := self._receive_listener()) is not None:
                self._answer(listener)
        finally:
            with self._lock:
                self._close_all()

    def _receive_listener(self) -> int | None:
        with contextlib.suppress(OSError):
            if self._wait_for(self._ours.fileno()):
                _, descriptors, _, _ = socket.recv_fds(self._ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
                with self._lock:
                    self._listener = descriptors[0] if descriptors else None
        return self._listener

    def _answer(self, listener: int) -> None:
        while self._wait_for(listener):
            question = bytearray(_QUESTION_BYTES)
            try:
                fcntl.ioctl(listener, _RECEIVE, question)
                number = int.from_bytes(question[:8], "little")
                fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, 0, 0, _CONTINUE))
            except OSError as error:
                if error.errno not in (
                    errno.ENOENT,
                    errno.EINTR,
                ):  # the caller has ended, or repeats the call
                    return

    def _wait_for(self, descriptor: int) -> bool:
        """Waits for a notification. Returns False if the gate was sealed or the process has ended."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        events = dict(poll.poll())
        return self._wake not in events and bool(events.get(descriptor, 0) & select.POLLIN)

    def _close_all(self) -> None:
        for descriptor in (self._listener, self._wake, self._sealing):
            if descriptor is not None and descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._listener, self._wake, self._sealing = None, -1, -1
        self._ours.close()

    def _forget(self) -> None:
        """Closes the listener in a forked child: with a second one the process would wait forever."""
        self._lock = threading.Lock()
        self._close_all()
        self.theirs.close()


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def _forget_in_child() -> None:
    for gate in list(_gates):
        gate._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
