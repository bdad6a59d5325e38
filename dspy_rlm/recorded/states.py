"""The saved states of the REPL beside a journal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dspy_rlm.journal.records import RunRecord, StepRecord
from dspy_rlm.journal.values import folder_of
from sandbox_runtime import Checkpoint, CheckpointError

logger = logging.getLogger(__name__)


def saved_state(record: RunRecord, steps: Sequence[StepRecord]) -> tuple[int, Checkpoint | None]:
    """Returns the last of these steps whose state can be loaded, and that state; 0 and None if there is none."""
    for step in reversed(steps):
        name = step.checkpoint.path if step.checkpoint else ""
        if not name or Path(name).name != name:
            continue
        try:
            return step.number, Checkpoint.load(folder_of(Path(record.path)) / name)
        except (CheckpointError, OSError) as error:
            logger.warning("A saved state is not used, and its cells are run again: %s", error)
    return 0, None


def seed_of(record: RunRecord) -> str:
    """Returns the seed of the random numbers in the REPL of a run."""
    return str(record.config.get("seed") or record.run_id)
