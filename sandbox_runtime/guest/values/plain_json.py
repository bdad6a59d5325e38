"""Detects plain JSON at the speed of C: level by level instead of value by value.

Used on both sides; uses only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

_CONTAINERS = frozenset({list, dict})
_PLAIN = frozenset({list, dict, str, int, float, bool, type(None)})

# A level with more elements is left to the slow path, which can be interrupted: it may be a cycle that doubles at each
# level, or a part with many references.
MAX_LEVEL = 1 << 25


def is_plain(value: Any, *, depth: int, chars: int, bits: int | None = None) -> bool:
    """Returns whether a tree has only exact JSON types, needs no tag, and is within the bounds.

    Args:
        value: The tree.
        depth: The maximum nesting of containers.
        chars: The maximum length of a text.
        bits: The maximum size of an integer; None if the encoder checks integers itself.
    """
    level: list[Any] = [[value]]
    kinds: set[Any] = {list}
    for _ in range(depth + 2):
        lists, dicts = _split(level, kinds)
        if dicts and not _keys_are_plain(dicts):
            return False
        below: list[Any] = lists + list(map(dict.values, dicts)) if dicts else lists
        if sum(map(len, below)) > MAX_LEVEL:
            return False
        items = partial(chain.from_iterable, below)
        kinds = set(map(type, items()))
        if not kinds <= _PLAIN:
            return False
        if bits is not None and int in kinds and not _ints_fit(items, kinds, bits):
            return False
        if str in kinds:
            texts = items() if kinds == {str} else (item for item in items() if type(item) is str)
            if max(map(len, texts)) > chars:
                return False
        if not kinds & _CONTAINERS:
            return True
        level = _containers(items(), kinds)
    return False


def _ints_fit(items: Callable[[], Iterable[Any]], kinds: set[Any], bits: int) -> bool:
    def numbers() -> Iterable[Any]:
        return items() if kinds == {int} else (item for item in items() if type(item) is int)

    return bool(-(1 << bits) < min(numbers()) and max(numbers()) < 1 << bits)


def _split(level: list[Any], kinds: set[Any]) -> tuple[list[Any], list[Any]]:
    """Splits a level into its lists and dicts. `kinds` are the types in it."""
    if dict not in kinds:
        return level, []
    if list not in kinds:
        return [], level
    return (
        [part for part in level if type(part) is list],
        [part for part in level if type(part) is dict],
    )


def _containers(items: chain[Any], kinds: set[Any]) -> list[Any]:
    return list(items) if kinds <= _CONTAINERS else [v for v in items if type(v) in _CONTAINERS]


def _keys_are_plain(dicts: list[dict[Any, Any]]) -> bool:
    # Types are checked first: comparing keys of other types would run their code.
    return not set(map(type, chain.from_iterable(dicts))) - {str} and "$" not in set(
        chain.from_iterable(dicts)
    )


def nested_within(tree: Any, depth: int) -> bool:
    """Returns whether at most `depth` lists and dicts of a tree without cycles are nested in each other."""
    level: list[Any] = [tree]
    kinds: set[Any] = {type(tree)}
    while kinds & _CONTAINERS:
        if depth == 0:
            return False
        depth -= 1
        lists, dicts = _split(level, kinds)
        below: list[Any] = lists + list(map(dict.values, dicts)) if dicts else lists
        items = partial(chain.from_iterable, below)
        kinds = set(map(type, items()))
        level = _containers(items(), kinds) if kinds & _CONTAINERS else []
    return True
