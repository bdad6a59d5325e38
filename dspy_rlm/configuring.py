"""`dspy_rlm.configure`: the settings of all RLMs of the process."""

from __future__ import annotations

import enum
from typing import Any, Literal

from dspy_rlm.journal.places import JournalOption, checked_journal
from dspy_rlm.process_settings import replace_process_settings


class _Unset(enum.Enum):
    UNSET = enum.auto()


UNSET = _Unset.UNSET


def configure(*, journal: JournalOption | Literal[_Unset.UNSET] = UNSET) -> None:
    """Sets what all RLMs of the process do that were not told otherwise. Settings that are not named stay as they are.

    Args:
        journal: Where runs are recorded, as `journal=` of an RLM. False: nowhere, also if `DSPY_RLM_JOURNAL` is set. None:
            as `DSPY_RLM_JOURNAL` says.

    Raises:
        SignatureError: A journal cannot be written there.
    """
    changes: dict[str, Any] = {}
    if journal is not UNSET:
        changes["journal"] = checked_journal(journal)
    replace_process_settings(**changes)
