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

# The builtins that code of LMs calls in most cells. An input of such a name is allowed, with a warning. Names
# that are common for inputs and rare in code (`input`, `id`, `format`, `hash`, `filter`) are not among them.
HIDING_NAMES = frozenset(
    {
        "abs",
        "all",
        "any",
        "bool",
        "dict",
        "enumerate",
        "float",
        "int",
        "isinstance",
        "len",
        "list",
        "map",
        "max",
        "min",
        "next",
        "open",
        "range",
        "repr",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "type",
        "zip",
    }
)
