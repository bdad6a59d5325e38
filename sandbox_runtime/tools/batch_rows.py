"""Decides whether the items of `f.batched(items)` can hold several arguments: as a dict, or as a tuple in order.

`predict_batched` takes such rows, so code writes them for other functions too. For a function whose first parameter could
itself be a dict or a list, an item stays what it is: its first argument.
"""

from __future__ import annotations

import inspect
from typing import Any

Parameter = inspect.Parameter

# Types of a first argument that is never a dict, a list or a tuple.
_SCALARS = frozenset({"str", "int", "float", "bool", "bytes", "complex", "date", "datetime"})


def batch_rows(signature: inspect.Signature | None) -> dict[str, Any]:
    """Returns the parameters that an item can hold; empty if an item is always the first argument.

    The guest has the rule in `guest/namespace/batch_items.py`: `ordered` are the parameters with a position, `needed` those
    of them without a default, `named` those without a position, and `scalar` says whether the first is never a container.
    """
    parameters = list(signature.parameters.values()) if signature is not None else []
    ordered = [one for one in parameters if one.kind is Parameter.POSITIONAL_OR_KEYWORD]
    named = [one for one in parameters if one.kind is Parameter.KEYWORD_ONLY]
    if not ordered or len(ordered) + len(named) < len(parameters):
        return {}
    needed = [one.name for one in ordered if one.default is Parameter.empty]
    scalar = _is_scalar(ordered[0].annotation)
    if len(needed) < 2 and not scalar:
        return {}
    return {
        "ordered": [one.name for one in ordered],
        "needed": needed,
        "named": [one.name for one in named],
        "scalar": scalar,
    }


def _is_scalar(annotation: object) -> bool:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    types = {part.strip().rpartition(".")[2] for part in text.split("|")}
    return types - {"None"} <= _SCALARS and types != {"None"}
