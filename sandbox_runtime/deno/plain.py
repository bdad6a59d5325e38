"""What is plain JSON already, found out at the speed of C: level by level instead of value by value.

Used at both sides of the border; the standard library only.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

_CONTAINERS = frozenset({list, dict})
_PLAIN = frozenset({list, dict, str, int, float, bool, type(None)})

# One level with more elements is left to the slow way: it may be a cycle that doubles at each level.
MAX_LEVEL = 1 << 24


def is_plain(value: Any, *, depth: int, chars: int, bits: int) -> bool:
    """True for a tree of exact JSON types that needs no tag, and is within the bounds.

    Args:
        value: The tree.
        depth: How many containers may be inside each other.
        chars: The longest text.
        bits: The largest integer.
    """
    largest = 1 << bits
    level: list[Any] = [[value]]
    for _ in range(depth + 2):
        lists = [part for part in level if type(part) is list]
        dicts = [part for part in level if type(part) is dict] if len(lists) < len(level) else []
        if not _keys_are_plain(dicts):
            return False
        below = [*lists, *map(dict.values, dicts)]
        if sum(map(len, below)) > MAX_LEVEL:
            return False
        items = partial(chain.from_iterable, below)
        kinds = set(map(type, items()))
        if not kinds <= _PLAIN:
            return False
        # Each test once over all elements, or over those of one type if there are others.
        if int in kinds:
            numbers = list(items()) if kinds == {int} else [v for v in items() if type(v) is int]
            if max(numbers) >= largest or min(numbers) <= -largest:
                return False
        if str in kinds:
            texts = items() if kinds == {str} else (v for v in items() if type(v) is str)
            if max(map(len, texts)) > chars:
                return False
        if not kinds & _CONTAINERS:
            return True
        level = (
            list(items())
            if kinds <= _CONTAINERS
            else [v for v in items() if type(v) is list or type(v) is dict]
        )
    return False


def _keys_are_plain(dicts: list[dict[Any, Any]]) -> bool:
    if not dicts:
        return True
    # By type first: comparing keys of other types would run code of theirs.
    if set(map(type, chain.from_iterable(dicts))) - {str}:
        return False
    return "$" not in set(chain.from_iterable(dicts))


def nested_within(tree: Any, depth: int) -> bool:
    """True if no more than `depth` lists and dicts of a tree without cycles are inside each other."""
    level: list[Any] = [tree] if type(tree) in _CONTAINERS else []
    while level:
        if depth == 0:
            return False
        depth -= 1
        lists = [part for part in level if type(part) is list]
        dicts = [part for part in level if type(part) is dict] if len(lists) < len(level) else []
        below = [*lists, *map(dict.values, dicts)]
        kinds = set(map(type, chain.from_iterable(below)))
        if not kinds & _CONTAINERS:
            return True
        level = (
            list(chain.from_iterable(below))
            if kinds <= _CONTAINERS
            else [v for v in chain.from_iterable(below) if type(v) in _CONTAINERS]
        )
    return True
