"""The names that signatures and tools must not use."""

from __future__ import annotations

# The names of the REPL itself.
RESERVED_NAMES = frozenset(
    {
        "SUBMIT",
        "sub_llm",
        "sub_llm_batched",
        "predict",
        "predict_batched",
        "sub_rlm",
        "BUDGET",
        "print",
    }
)
