"""The numbers of `--rpm` and `--tpm`, by model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dspy_rlm.cli.exit_codes import USAGE, CommandError


def numbers_by_model(texts: Sequence[str], name: str) -> dict[str, float]:
    """Returns the numbers of `--rpm` or `--tpm` by model; the empty name is that of every model.

    Raises:
        CommandError: One of them is no number above 0.
    """
    found: dict[str, float] = {}
    for text in texts:
        model, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < math.inf:
            raise CommandError(
                f"--{name} {text!r} must be a number above 0, or MODEL=NUMBER such as openai/gpt-5-mini=500.",
                USAGE,
            )
        found[model] = value
    return found
