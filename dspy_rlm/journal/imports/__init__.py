"""Logs of other systems as records of runs: those of `rlms` and of `fast-rlm`.

    record = from_rlms("logs/rlm_2026-11-28_15-26-46_06ad0a76.jsonl")

What a log does not have, such as the tokens of a root call in `rlms`, is None or empty in the record. docs/tracing.md lists it.
"""

from dspy_rlm.journal.imports.fast_rlm import from_fast_rlm
from dspy_rlm.journal.imports.rlms import from_rlms

__all__ = ["from_fast_rlm", "from_rlms"]
