"""Names that a signature and tools may not take."""

from __future__ import annotations

# Names of the REPL itself. Others may not take them.
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
