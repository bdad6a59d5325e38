"""Saved states of a run's REPL, beside its journal.

`auto` saves when running the cells since the last state again would take longer than some seconds, and keeps the latest
two, so that the disk does not fill. Saving is never a reason for a run to fail.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from dspy_rlm.errors import SignatureError
from dspy_rlm.journal.recorder import RunRecorder
from dspy_rlm.journal.values import folder_of
from sandbox_runtime import Checkpoint, SandboxError

CheckpointPolicy: TypeAlias = Literal["auto", "every", "never"]

# Seconds of cells that a resumed run may have to run again.
AUTO_SECONDS = 5.0

# Saving takes at most this share of the time of cells: a large state is saved less often.
MAX_SHARE = 0.1

# States that `auto` keeps. The last one may be damaged by what ended the run.
KEPT = 2


def checked_policy(policy: Any) -> CheckpointPolicy:
    """Returns the argument `checkpoints=`. Raises `SignatureError` for another value."""
    if policy not in get_args(CheckpointPolicy):
        raise SignatureError(f'checkpoints must be "auto", "every" or "never", not {policy!r}.')
    checked: CheckpointPolicy = policy
    return checked


class Checkpoints:
    """Saves the states of one run."""

    def __init__(
        self, recorder: RunRecorder, save: Callable[[], Checkpoint], policy: CheckpointPolicy
    ) -> None:
        """Saves nothing yet. `save` returns the state after the last cell."""
        self._recorder = recorder
        self._save = save
        self._policy = policy
        self._unsaved_seconds = 0.0
        self._last_seconds = 0.0
        self._kept: list[Path] = []

    def before_cells(self) -> None:
        """Saves the state that a run begins with, if earlier calls of a session have left some of it. Never raises."""
        if self._policy != "never":
            with contextlib.suppress(OSError):  # the next event meets it again, and says so
                self._recorder.begin()  # the state lies beside the journal
            self._save_for(0)

    def after_cell(self, iteration: int | None, seconds: float) -> None:
        """Saves the state after a cell, if the policy says so. Never raises."""
        self._unsaved_seconds += seconds
        if iteration is None or self._policy == "never" or not self._is_due():
            return
        self._save_for(iteration)
        self._unsaved_seconds = 0.0

    def _save_for(self, iteration: int) -> None:
        try:
            self._write(iteration)
        except (SandboxError, OSError) as error:
            # A cell holds what cannot be saved, or the disk is full: the cells can be run again.
            self._last_seconds = max(self._last_seconds, self._unsaved_seconds * MAX_SHARE)
            problem = {"error": str(error)[:500]}
            self._recorder.emit("no_checkpoint", lambda: problem)

    def _is_due(self) -> bool:
        if self._policy == "auto":
            least = max(AUTO_SECONDS, self._last_seconds / MAX_SHARE)
            return self._unsaved_seconds >= least
        return self._policy == "every"

    def _write(self, iteration: int) -> None:
        if (journal := self._recorder.journal.path) is None:
            return
        began = time.monotonic()
        state = self._save()
        if state.has_handles:  # a file does not have their values: the cells have to run again
            self._policy = "never"
            self._recorder.emit("no_checkpoint", lambda: {"error": "inputs stay on the host"})
            return
        folder = folder_of(journal)
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{self._recorder.run_id}-{iteration}.checkpoint"
        state.save(path)
        self._last_seconds = time.monotonic() - began
        size = path.stat().st_size
        self._recorder.emit(
            "checkpoint" if iteration else "begins_with",
            lambda: {"file": path.name, "bytes": size, "seconds": self._last_seconds},
        )
        if not iteration:  # it is needed as long as the journal is
            return
        self._kept.append(path)
        if self._policy == "auto":
            self._forget()

    def _forget(self) -> None:
        old, self._kept = self._kept[:-KEPT], self._kept[-KEPT:]
        for path in old:
            with contextlib.suppress(OSError):
                path.unlink()
            self._recorder.emit("forgotten", functools.partial(_named, path))


def _named(path: Path) -> dict[str, str]:
    return {"file": path.name}
