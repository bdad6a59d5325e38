"""The saved states of the REPL beside a journal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dspy_rlm.journal.errors import JournalError
from dspy_rlm.journal.records import RunRecord, StepRecord
from dspy_rlm.journal.values import folder_of
from sandbox_runtime import Checkpoint, CheckpointError

logger = logging.getLogger(__name__)


def saved_state(record: RunRecord, steps: Sequence[StepRecord]) -> tuple[int, Checkpoint | None]:
    """Returns the last of these steps whose state can be loaded, and that state.

    Without one: 0 and the state that the REPL began with; None if it was empty.

    Raises:
        JournalError: It was not empty, and is not there.
    """
    candidates = [(step.number, step.checkpoint) for step in reversed(steps)]
    for number, checkpoint in [*candidates, (0, record.began_with)]:
        name = checkpoint.path if checkpoint else ""
        if not name or Path(name).name != name:
            continue
        try:
            return number, Checkpoint.load(folder_of(Path(record.path)) / name)
        except (CheckpointError, OSError) as error:
            logger.warning("A saved state is not used, and its cells are run again: %s", error)
    if record.config.get("kept"):
        raise JournalError(
            f"{record.path} is of a call of a session that began with variables of earlier calls, and they were not "
            'saved: with checkpoints="never", or with inputs that stay on the host, such a call cannot be repeated.'
        )
    return 0, None


def seed_of(record: RunRecord) -> str:
    """Returns the seed of the random numbers in the REPL of a run."""
    return str(record.config.get("seed") or record.run_id)
