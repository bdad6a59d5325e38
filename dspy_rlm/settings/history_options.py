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
    """The settings of what a root LM sees of its earlier steps.

    Raises:
        SignatureError: A value is none of those that the setting has.
    """

    history_tokens: int | None = None
    """Tokens of the steps in one prompt. None: as many as the context window of the LM has room for."""

    compaction: Compaction = "rules"
    """The way in which old steps are shortened: by rules alone, or with a summary by the LM that writes the code."""

    observations: Observations = "output"
    """The observation of a cell: its output, or only metadata of it, `opaque`."""

    def __post_init__(self) -> None:
        tokens = self.history_tokens
        if tokens is not None and (type(tokens) is not int or tokens < LEAST_HISTORY_TOKENS):
            raise SignatureError(
                f"history_tokens must be a whole number, {LEAST_HISTORY_TOKENS} or more, or None for as many as "
                f"the LM's context window holds, not {tokens!r}."
            )
        _check_choice("compaction", self.compaction, Compaction)
        _check_choice("observations", self.observations, Observations)

    @property
    def is_opaque(self) -> bool:
        """True if observations are metadata."""
        return self.observations == "opaque"


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if isinstance(value, str) and value in get_args(choices):
        return
    names = " or ".join(map(repr, get_args(choices)))
    raise SignatureError(f"{name} must be {names}, not {value!r}.")
