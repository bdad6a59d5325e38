"""The arguments in one item of `f.batched(items)`: the item itself, or several in a dict or in a tuple.

Runs inside the sandbox. The host decides which functions take several: see `sandbox_runtime/tools/batch_rows.py`.
"""

from __future__ import annotations

# By name: a cell that replaces them in their module does not replace them here.
from builtins import dict, isinstance, len, list, tuple
from collections.abc import Mapping
from typing import Any

Rows = Mapping[str, Any]


def arguments_of(item: Any, rows: Rows, shared: Mapping[str, Any]) -> list[Any]:
    """Returns the positional arguments and the keywords of one call.

    Args:
        item: The item of the batch.
        rows: The parameters that it can hold; see `sandbox_runtime/tools/batch_rows.py`.
        shared: The keyword arguments of all calls.
    """
    names = [name for name in rows["ordered"] if name not in shared]
    needed = [name for name in rows["needed"] if name not in shared]
    is_scalar = rows["scalar"] and names[:1] == rows["ordered"][:1]
    if len(needed) < 2 and not is_scalar:
        return [[item], shared]
    fields = _fields(item)
    if fields and all(name in names or name in rows["named"] for name in fields):
        return [[], {**shared, **fields}]
    if isinstance(item, (tuple, list)) and 2 <= len(item) <= len(names):
        by_name = dict(zip(names, item, strict=False))
        return [[], {**shared, **by_name}] if shared else [list(item), {}]
    return [[item], shared]


def _fields(item: Any) -> Mapping[str, Any]:
    """Returns the named values of a dict or a named tuple; an empty dict for any other item."""
    if isinstance(item, dict):
        return item
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return dict(zip(item._fields, item, strict=True))
    return {}
