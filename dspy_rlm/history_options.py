"""The settings of what a root LM sees of its earlier steps."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

from dspy_rlm.errors import SignatureError

Compaction = Literal["rules", "summary"]
Observations = Literal["output", "opaque"]

# A budget below this holds no step in any form.
LEAST_HISTORY_TOKENS = 200


@dataclasses.dataclass(frozen=True)
class HistoryOptions:
    """The settings of what a root LM sees of its earlier steps."""

    history_tokens: int | None = None
    """Tokens of the steps in one prompt. None: as many as the context window of the LM has room for."""

    compaction: Compaction = "rules"
    """How old steps are shortened: by rules alone, or with a summary by the LM that writes the code."""

    observations: Observations = "output"
    """The observation of a cell: its output, or only metadata of it, `opaque`."""

    @property
    def is_opaque(self) -> bool:
        """True if observations are metadata."""
        return self.observations == "opaque"


def checked_history(history_tokens: Any, compaction: Any, observations: Any) -> HistoryOptions:
    """Returns the settings. Raises `SignatureError` for a value that is none."""
    if history_tokens is not None and (
        type(history_tokens) is not int or history_tokens < LEAST_HISTORY_TOKENS
    ):
        raise SignatureError(
            f"history_tokens must be a whole number, {LEAST_HISTORY_TOKENS} or more, or None for as many as the "
            f"LM's context window holds, not {history_tokens!r}."
        )
    return HistoryOptions(
        history_tokens,
        _one_of("compaction", compaction, Compaction),
        _one_of("observations", observations, Observations),
    )


def _one_of(name: str, value: Any, choices: Any) -> Any:
    if isinstance(value, str) and value in get_args(choices):
        return value
    names = " or ".join(map(repr, get_args(choices)))
    raise SignatureError(f"{name} must be {names}, not {value!r}.")
