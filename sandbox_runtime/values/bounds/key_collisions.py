"""Builds dicts and sets with untrusted keys, without hash-collision attacks (hash flooding).

Python's hash is randomized only for text, bytes and plain dates. Numbers, and types built from them, can be chosen so
that all have one hash (multiples of 2**61 - 1), or so that each follows the probe sequence of the others. Both take
quadratic time, mostly while holding the GIL. Every dict or set with keys from the sandbox or from a model is built here.
"""

from __future__ import annotations

import datetime
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, TypeVar

from sandbox_runtime.host_costs import (
    FEW_KEYS,
    KEYS_SECONDS,
    MANY_KEYS,
    MAX_KEY_COMPARISONS,
    SECONDS_PER_KEY,
)

V = TypeVar("V")

# Types with hashes that are randomized per process, or with only one or two values.
_SECRET = frozenset({str, bytes, datetime.date, datetime.time, PurePosixPath, bool, type(None)})

# At most about 40 distinct values share a hash: a float has 2,098 exponents, and hashes repeat after 61 of them.
# Integers below the modulus have distinct hashes.
_HARMLESS = _SECRET | {float, int}
_MODULUS = sys.hash_info.modulus

# Keys inserted between two checks of the clock.
_STEP = 256

_REFUSAL = (
    "its keys or elements collide: building a dict or set of them would take too long. Send them as a "
    "list, or as text"
)


def dict_of(pairs: Collection[tuple[Any, V]]) -> dict[Any, V]:
    """Builds a dict of the pairs.

    Raises:
        ValueError: The keys collide.
        TypeError: A key has no hash.
    """
    keys = [key for key, _ in pairs]
    if not _need_pacing(keys):
        return dict(pairs)
    most = _most_seconds(keys)
    result: dict[Any, V] = {}
    _paced(result.update, pairs, most)
    # The caller may build a set of the keys, which has probe sequences of its own.
    other: set[Any] = set()
    _paced(other.update, keys, most)
    return result


def set_of(items: Collection[Any]) -> set[Any]:
    """Builds a set of the items. Raises the errors of `dict_of`."""
    if not _need_pacing(items):
        return set(items)
    most = _most_seconds(items)
    result: set[Any] = set()
    _paced(result.update, items, most)
    other: dict[Any, None] = {}
    _paced(lambda some: other.update(dict.fromkeys(some)), items, most)
    return result


def check_keys(keys: Collection[Any]) -> None:
    """Raises `ValueError` for colliding keys, `TypeError` for unhashable ones."""
    set_of(keys)


def _need_pacing(keys: Collection[Any]) -> bool:
    """Returns whether insertion must be timed. Raises `ValueError` for equal hashes."""
    if len(keys) <= FEW_KEYS:
        return False
    kinds = set(map(type, keys))
    if kinds <= _SECRET:
        return False
    if not (kinds <= _HARMLESS and (int not in kinds or _are_within(keys, kinds))):
        _check_hashes(keys)
    return len(keys) > MANY_KEYS


def _are_within(keys: Collection[Any], kinds: set[type]) -> bool:
    """Returns whether all integers among the keys are their own hashes."""
    whole = keys if kinds == {int} else [key for key in keys if type(key) is int]
    return bool(min(whole) > -_MODULUS and max(whole) < _MODULUS)


def _check_hashes(keys: Collection[Any]) -> None:
    hashes = list(map(hash, keys))
    # After multiplication by a secret number, only equal hashes collide.
    scatter = (secrets.randbits(60) + 1).__mul__
    if len(keys) - len(set(map(scatter, hashes))) <= FEW_KEYS and not _has_large(keys):
        return
    groups: dict[int, list[Any]] = {}
    work = 0
    for key, hashed in zip(keys, hashes, strict=True):
        group = groups.setdefault(scatter(hashed), [])
        size = _size(key) if group else 0
        for other in group:
            work += size
            if work > MAX_KEY_COMPARISONS:
                raise ValueError(_REFUSAL)
            if other is key or other == key:
                break
        else:
            group.append(key)


def _has_large(keys: Collection[Any]) -> bool:
    """Returns whether even a few comparisons of keys may be slow."""
    return any(type(key) in (tuple, frozenset) and len(key) > FEW_KEYS for key in keys)


def _size(key: Any) -> int:
    """Estimates the cost of comparing a key with another of equal hash; that of a small number is 1."""
    kind = type(key)
    if kind is int:
        return 1 + int(key.bit_length()) // 1000
    if kind in (tuple, frozenset):
        return 1 + sum(map(_size, key))
    if kind is str or kind is bytes:
        return 1 + len(key) // 1000
    if kind is float or kind is complex:
        return 1
    if kind is Decimal:
        return 4
    fields = getattr(key, "__dict__", None)
    return 20 + (sum(map(_size, fields.values())) if type(fields) is dict else 0)


def _most_seconds(keys: Collection[Any]) -> float:
    """Returns the CPU seconds that inserting honest keys of this kind takes at most; some are slow to hash."""
    began = time.thread_time()
    for key in keys:
        hash(key)
    return KEYS_SECONDS + 4 * (time.thread_time() - began) + SECONDS_PER_KEY * len(keys)


def _paced(insert: Callable[[Sequence[Any]], object], items: Iterable[Any], most: float) -> None:
    """Inserts a few items at a time; raises `ValueError` after `most` CPU seconds."""
    end = time.thread_time() + most
    remaining = iter(items)
    while batch := list(islice(remaining, _STEP)):
        insert(batch)
        if time.thread_time() > end:
            raise ValueError(_REFUSAL)
