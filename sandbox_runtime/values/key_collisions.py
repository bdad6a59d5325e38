"""Dicts and sets whose keys the sandbox chose: no slower to build than those of honest keys.

Python's hash is secret for text, bytes and plain dates only. Numbers, and what is made of them, can be
chosen so that all have one hash (the multiples of 2**61 - 1), or so that each follows the path of those
before it through the table. Either takes quadratic time, most of it without letting other threads run.
Whoever builds a dict or set of keys that came out of the sandbox, or out of a model, does it here.
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

# Their hashes begin with a secret of the process, or there are only two values.
_SECRET = frozenset({str, bytes, datetime.date, datetime.time, PurePosixPath, bool, type(None)})

# At most some 40 of different value have one hash: a float's exponent has 2,098 values, and the hash
# repeats itself after 61. The whole numbers of such a size have hashes of their own.
_HARMLESS = _SECRET | {float, int}
_MODULUS = sys.hash_info.modulus

# Keys that are inserted between two looks at the clock.
_STEP = 256

_REFUSAL = (
    "its keys or elements collide: building a dict or set of them would take too long. Send them as a "
    "list, or as text"
)


def dict_of(pairs: Collection[tuple[Any, V]]) -> dict[Any, V]:
    """A dict of the pairs.

    Raises:
        ValueError: The keys collide.
        TypeError: A key has no hash.
    """
    keys = [key for key, _ in pairs]
    if not _need_pacing(keys):
        return dict(pairs)
    most = _most_seconds(keys)
    made: dict[Any, V] = {}
    _paced(made.update, pairs, most)
    # Whoever gets the dict may make a set of its keys, which has paths of its own.
    other: set[Any] = set()
    _paced(other.update, keys, most)
    return made


def set_of(items: Collection[Any]) -> set[Any]:
    """A set of the items. Raises what `dict_of` raises."""
    if not _need_pacing(items):
        return set(items)
    most = _most_seconds(items)
    made: set[Any] = set()
    _paced(made.update, items, most)
    other: dict[Any, None] = {}
    _paced(lambda some: other.update(dict.fromkeys(some)), items, most)
    return made


def check_keys(keys: Collection[Any]) -> None:
    """Raises `ValueError` for keys of which no dict or set should be built, `TypeError` without a hash."""
    set_of(keys)


def _need_pacing(keys: Collection[Any]) -> bool:
    """Whether inserting the keys has to be watched. Raises `ValueError` if they have equal hashes."""
    if len(keys) <= FEW_KEYS:
        return False
    kinds = set(map(type, keys))
    if kinds <= _SECRET:
        return False
    if not (kinds <= _HARMLESS and (int not in kinds or _are_within(keys, kinds))):
        _check_hashes(keys)
    return len(keys) > MANY_KEYS


def _are_within(keys: Collection[Any], kinds: set[type]) -> bool:
    """True if the whole numbers among the keys are their own hashes."""
    whole = keys if kinds == {int} else [key for key in keys if type(key) is int]
    return bool(min(whole) > -_MODULUS and max(whole) < _MODULUS)


def _check_hashes(keys: Collection[Any]) -> None:
    hashes = list(map(hash, keys))
    # Multiplied by a number that nobody knows, no hashes but equal ones collide.
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
    """True if even a few comparisons of keys may be slow."""
    return any(type(key) in (tuple, frozenset) and len(key) > FEW_KEYS for key in keys)


def _size(key: Any) -> int:
    """About what comparing a key with one of its hash takes, in units of a small number's."""
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
    """CPU seconds in which honest keys of this kind are inserted; some take long to hash."""
    began = time.thread_time()
    for key in keys:
        hash(key)
    return KEYS_SECONDS + 4 * (time.thread_time() - began) + SECONDS_PER_KEY * len(keys)


def _paced(insert: Callable[[Sequence[Any]], object], items: Iterable[Any], most: float) -> None:
    """Inserts a few at a time, and gives up after `most` CPU seconds."""
    over = time.thread_time() + most
    rest = iter(items)
    while some := list(islice(rest, _STEP)):
        insert(some)
        if time.thread_time() > over:
            raise ValueError(_REFUSAL)
