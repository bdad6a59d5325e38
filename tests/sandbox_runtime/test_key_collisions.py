"""Dicts and sets of untrusted keys are built in bounded time."""

from __future__ import annotations

import datetime
import random
import time
import uuid
from decimal import Decimal
from fractions import Fraction

import pytest

from sandbox_runtime.host_costs import KEYS_SECONDS
from sandbox_runtime.values.bounds.key_collisions import check_keys, dict_of, set_of

PRIME = 2**61 - 1
MANY = range(1, 30_000)

# Built where they are used: building them all takes each worker a second.
HONEST = {
    "numbers": lambda: list(range(100_000)),
    "negative numbers": lambda: list(range(-50_000, 50_000)),
    "random numbers": lambda: [random.Random(1).randrange(2**60) for _ in range(100_000)],
    "huge numbers": lambda: [random.Random(2).randrange(2**200) for _ in range(20_000)],
    "a few that collide": lambda: [PRIME * k for k in range(1000)],
    "powers of two": lambda: [2**k for k in range(4000)],
    "powers of two as floats": lambda: [2.0**k for k in range(-1074, 1023)],
    "floats": lambda: [k / 7 for k in range(50_000)],
    "texts": lambda: list(map(str, range(50_000))),
    "pairs": lambda: [(k, -k) for k in range(50_000)],
    "a grid": lambda: [(x, y) for x in range(-150, 150) for y in range(-150, 150)],
    "complex numbers": lambda: [complex(x, y) for x in range(-100, 100) for y in range(-100, 100)],
    "fractions": lambda: [Fraction(k, 7) for k in range(20_000)],
    "decimals": lambda: [Decimal(k) / 100 for k in range(50_000)],
    "days": lambda: [datetime.date.fromordinal(k) for k in range(1, 50_000)],
    "moments": lambda: [datetime.datetime.fromtimestamp(k, datetime.UTC) for k in range(30_000)],
    "durations": lambda: [datetime.timedelta(seconds=k) for k in range(30_000)],
    "UUIDs": lambda: [uuid.UUID(int=random.Random(3).getrandbits(128)) for _ in range(100)] * 100,
    "frozen sets": lambda: [frozenset({k, k + 1}) for k in range(20_000)],
    "strides": lambda: [k << 44 for k in range(60_000)],
    "equal ones": lambda: [5] * 100_000,
    "kinds mixed": lambda: [1, 1.0, True, "1", None, (1,)] * 10_000,
}

HOSTILE = {
    "multiples of the modulus": lambda: [PRIME * k for k in MANY],
    "the same, negative": lambda: [-PRIME * k for k in MANY],
    "among others": lambda: [*range(100_000), *(PRIME * k for k in MANY)],
    "as decimals": lambda: [Decimal(PRIME * k) for k in MANY],
    "as fractions": lambda: [Fraction(PRIME * k, 3) for k in MANY],
    "as complex numbers": lambda: [complex(1000003 * k, -k) for k in MANY],
    "as UUIDs": lambda: [uuid.UUID(int=PRIME * k) for k in MANY],
    "in tuples": lambda: [(0, PRIME * k) for k in MANY],
    "in tuples in tuples": lambda: [((PRIME * k,), "x") for k in MANY],
    "in frozen sets": lambda: [frozenset({PRIME * k}) for k in MANY],
    "a few long tuples": lambda: [(0,) * 3000 + (PRIME * k,) for k in range(1, 500)],
    "a product of -1 and -2": lambda: [
        tuple(-1 - (k >> bit & 1) for bit in range(15)) for k in range(2**15)
    ],
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", HONEST)
def test_honest_keys(name):
    """Honest keys give the same dict and set as Python's constructors."""
    keys = HONEST[name]()

    assert set_of(keys) == set(keys)
    assert dict_of([(key, at) for at, key in enumerate(keys)]) == {
        key: at for at, key in enumerate(keys)
    }
    check_keys(keys)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", HOSTILE)
def test_keys_of_equal_hash(name):
    """Keys of equal hash are refused, in a fraction of the time that building the set would take."""
    keys = HOSTILE[name]()
    began = time.thread_time()

    with pytest.raises(ValueError, match="collide"):
        set_of(keys)
    with pytest.raises(ValueError, match="collide"):
        dict_of([(key, None) for key in keys])

    assert time.thread_time() - began < 5


def following(places):
    """Returns keys for a dict of a given size: some fill a probe sequence, the others start it again."""
    filled, place = {}, 0
    for number in range(places * 53 // 100):
        filled[place] = number
        place = (5 * place + 1) % places
    late, key = [], places
    while len(late) < places // 60:
        key += 1
        place, perturb = key % places, key
        while place in filled and perturb:
            perturb >>= 5
            place = (place * 5 + perturb + 1) % places
        if not perturb and filled.get(place, places) < places // 5:
            late.append(key)
    return [*filled, *late]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("make", [set_of, lambda keys: dict_of([(key, 0) for key in keys])])
def test_keys_that_follow_each_other(make):
    """Keys with distinct hashes but one probe sequence are refused by the time that they take."""
    keys = following(1 << 19)
    assert len(set(map(hash, keys))) == len(keys)
    began = time.thread_time()

    with pytest.raises(ValueError, match="collide"):
        make(keys)

    assert time.thread_time() - began < 10 * KEYS_SECONDS


def test_a_key_without_a_hash():
    """An unhashable key raises TypeError, as in Python."""
    for keys in ([[1]], [[1]] * 100):
        with pytest.raises(TypeError, match="unhashable"):
            set_of(keys)
        with pytest.raises(TypeError, match="unhashable"):
            dict_of([(key, 0) for key in keys])


def test_the_last_of_equal_keys_counts():
    """Among equal keys the last value wins, in the first one's place, as in any dict."""
    pairs = [(k % 5000, k) for k in range(10_000)]

    assert list(dict_of(pairs).items()) == list(dict(pairs).items())
