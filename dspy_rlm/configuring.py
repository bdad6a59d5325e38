"""`dspy_rlm.configure`: the settings of all RLMs of the process."""

from __future__ import annotations

import enum
from typing import Any, Literal

from dspy_rlm.journal.places import JournalOption, checked_journal
from dspy_rlm.limiting.settings import LimitsPerModel, checked_limits_per_model
from dspy_rlm.live.choosing import LiveOption, checked_live
from dspy_rlm.process_settings import replace_process_settings


class _Unset(enum.Enum):
    UNSET = enum.auto()


UNSET = _Unset.UNSET


def configure(
    *,
    journal: JournalOption | Literal[_Unset.UNSET] = UNSET,
    limits_per_model: LimitsPerModel | Literal[_Unset.UNSET] = UNSET,
    live: LiveOption | Literal[_Unset.UNSET] = UNSET,
) -> None:
    """Sets the defaults of all RLMs of the process; an argument of an RLM precedes them. What is not passed stays as it is.

    Args:
        journal: Where runs are recorded, as `journal=` of an RLM. False: nowhere, also if `DSPY_RLM_JOURNAL` is set. None:
            as `DSPY_RLM_JOURNAL` says.
        limits_per_model: The limits of models, by name as in `dspy.LM`, that all runs of the process keep together:
            `{"openai/gpt-5-mini": {"concurrency": 32, "requests_per_minute": 500, "tokens_per_minute": 200_000}}`. None
            removes all limits.
        live: Whether runs are shown while they go on, as `live=` of an RLM. None: they are not.

    Raises:
        SignatureError: A journal cannot be written there, or a limit is not valid. Nothing is changed.
    """
    changes: dict[str, Any] = {}
    if journal is not UNSET:
        changes["journal"] = checked_journal(journal)
    if limits_per_model is not UNSET:
        changes["limits_per_model"] = checked_limits_per_model(limits_per_model)
    if live is not UNSET:
        changes["live"] = checked_live(live)
    replace_process_settings(**changes)
