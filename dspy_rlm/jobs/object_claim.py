"""The claim of a process on a job in object storage: an object that it renews, so that no two processes work on one job.

A lock of the file system ends with its process, an object does not. So another process watches a claim for a while: one that is
not renewed is that of a dead process, and is replaced. No clocks of two machines are compared. Two that replace it at the same
time cannot both succeed, because the store writes only over the state that each has seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from dspy_rlm.errors import JobError
from sandbox_runtime.helpers import Store, start_thread

# A claim is renewed this often, and is that of a dead process if it was not for so long.
RENEWED_SECONDS = 5.0
DEAD_AFTER_SECONDS = 30.0

# Another process's claim is looked at this often.
LOOK_SECONDS = 0.5

_MOST_BYTES = 64 * 1024


class Claim:
    """A claim on a job. Thread-safe."""

    def __init__(
        self,
        store: Store,
        *,
        renewed_seconds: float = RENEWED_SECONDS,
        dead_after_seconds: float = DEAD_AFTER_SECONDS,
    ) -> None:
        """Claims nothing yet. `store` is the object of the claim."""
        self._store = store
        self._renewed_seconds, self._dead_after_seconds = renewed_seconds, dead_after_seconds
        self._id = secrets.token_hex(8)
        self._count = 0
        self._tag = ""
        self._lost = False
        self._released = threading.Event()

    def take(self) -> None:
        """Claims the job, and renews the claim in a thread until `release`.

        Raises:
            JobError: Another process has it.
            OSError: The store cannot be reached.
        """
        before = self._state()
        end = time.monotonic() + self._dead_after_seconds
        while before is not None and time.monotonic() < end and not _has_ended(before[1]):
            time.sleep(min(LOOK_SECONDS, self._dead_after_seconds))
            now = self._state()
            if now is not None and now[0] != before[0]:
                raise self._taken(now[1])
            before = now
        try:
            self._write(before[0] if before is not None else "")
        except FileExistsError:
            raise self._taken(None) from None
        start_thread(self._renew, "rlm-job-claim")

    def check(self) -> None:
        """Raises `OSError` if another process has replaced the claim: this one was taken for dead."""
        if self._lost:
            raise OSError(f"another process has taken over the job ({self._store.address.shown})")

    def release(self) -> None:
        """Gives the job up. Never raises: a claim that stays ends by itself."""
        self._released.set()
        if not self._lost:
            with contextlib.suppress(OSError):
                self._store.delete()

    def _renew(self) -> None:
        while not self._released.wait(self._renewed_seconds):
            with contextlib.suppress(OSError):  # it is tried again
                try:
                    self._write(self._tag)
                except FileExistsError:
                    # An answer that was lost on the way looks the same: the claim is this process's own.
                    state = self._state()
                    if state is None or state[1].get("id") != self._id:
                        self._lost = not self._released.is_set()
                        return
                    self._tag = state[0]

    def _write(self, over: str) -> None:
        self._count += 1
        claim = {"id": self._id, "count": self._count, "pid": os.getpid(), "where": _where()}
        self._tag = self._store.write(json.dumps(claim).encode(), over=over)

    def _state(self) -> tuple[str, dict[str, Any]] | None:
        """Returns the tag of the claim, and what it says; None if there is none."""
        try:
            tag = self._store.stamp().tag
        except FileNotFoundError:
            return None
        try:
            claim = json.loads(self._store.read_small(_MOST_BYTES) or b"")
        except ValueError:
            claim = None
        return tag, claim if isinstance(claim, dict) else {}

    def _taken(self, claim: dict[str, Any] | None) -> JobError:
        where = (claim or {}).get("where")
        name = where[0] if isinstance(where, list) and where else "another machine"
        by = f" (process {claim.get('pid')} on {name})" if claim else ""
        return JobError(f"Another process works on this job{by}: {self._store.address.shown}.")


def _where() -> list[str]:
    """Returns the machine and, where the system says it, its boot and the space of its process ids."""
    found = [platform.node()]
    with contextlib.suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
        found.append(str(Path("/proc/self/ns/pid").readlink()))
    return found


def _has_ended(claim: dict[str, Any]) -> bool:
    """Returns whether the process of a claim was one of this machine, and is known to have ended."""
    pid, where = claim.get("pid"), _where()
    if type(pid) is not int or pid < 1 or len(where) < 3 or claim.get("where") != where:
        return False
    return pid != os.getpid() and not Path(f"/proc/{pid}").exists()
