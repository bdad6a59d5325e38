"""Checks the constructor's arguments about answers: validators, and the coverage that is tracked or required."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import dspy

from dspy_rlm.dspy_internals.signatures import classes_of_caller
from dspy_rlm.errors import SignatureError
from dspy_rlm.evidence import quotes
from dspy_rlm.evidence.validators import checked_validators

_TYPES = {"Quote": quotes.Quote, "Span": quotes.Span}

RequiredCoverage: TypeAlias = float | Mapping[str, float] | None
"""The fraction of each input with text, or of some inputs by name, that LMs must have been shown."""


def with_known_types(signature: Any) -> Any:
    """Returns a text signature that names `Quote` or `Span` as a class; any other signature unchanged.

    The names need no import. Where the caller has other classes of these names, it means those.
    """
    if not isinstance(signature, str):
        return signature
    words = list(dict.fromkeys(re.findall(r"\b[A-Z]\w*", signature)))
    own = {name: kind for name, kind in _TYPES.items() if name in words}
    if not own:
        return signature
    try:
        return dspy.Signature(signature, custom_types={**own, **classes_of_caller(words)})
    except Exception:  # noqa: BLE001 - the check of the signature says what is wrong with it
        return signature


def checked_answers(
    signature: type[dspy.Signature],
    validators: Any,
    track_coverage: Any,
    require_coverage: Any,
) -> dict[str, Any]:
    """Returns the settings by name.

    Raises:
        SignatureError: One is invalid.
    """
    if not isinstance(track_coverage, bool):
        raise SignatureError(f"track_coverage must be True or False, not {track_coverage!r:.200}.")
    required = require_coverage
    if isinstance(required, Mapping):
        unknown = [name for name in required if name not in signature.input_fields]
        if unknown:
            names = ", ".join(signature.input_fields)
            raise SignatureError(
                f"require_coverage has {unknown[0]!r:.200}, which is no input. The inputs are: {names}."
            )
        required = dict(required)
    for fraction in required.values() if isinstance(required, dict) else [required]:
        if fraction is not None and not _is_fraction(fraction):
            raise SignatureError(
                f"require_coverage must be a fraction from 0 to 1, such as 0.9, not {fraction!r:.200}."
            )
    return {
        "validators": checked_validators(validators, signature),
        "track_coverage": track_coverage or required is not None,
        "require_coverage": required,
    }


def _is_fraction(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
