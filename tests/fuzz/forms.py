"""Values with a high cost for their size, in any size: those of the red team, and similar ones.

Each function takes an approximate size in bytes and returns the parts of a value. They are seeds of the fuzzers, and the
inputs for measuring the host's bounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

Parts = list[bytes]

PRIME = 2**61 - 1


def _repeated(item: str, size: int) -> Parts:
    return [f"[{','.join([item] * (size // (len(item) + 1)))}]".encode()]


def _tag(kind: str, content: object) -> Parts:
    return [json.dumps({"$": kind, "of": content}, separators=(",", ":")).encode()]


def _multiples(size: int, start: int = 1) -> list[int]:
    return [PRIME * k for k in range(start, start + size // 24)]


def _colliding_dict(size: int) -> Parts:
    return _tag("dict", [[key, 0] for key in _multiples(size)])


def _colliding_tuples(size: int) -> Parts:
    return _tag("set", [{"$": "tuple", "of": [0, key]} for key in _multiples(size // 2)])


def _colliding_long_tuples(size: int) -> Parts:
    long = [0] * 1000
    return _tag(
        "set", [{"$": "tuple", "of": [*long, PRIME * k]} for k in range(1, max(2, size // 2000))]
    )


def _colliding_fractions(size: int) -> Parts:
    keys = _multiples(size // 2)
    return _tag("frozenset", [{"$": "Fraction", "of": f"{key}/3"} for key in keys])


def _colliding_decimals(size: int) -> Parts:
    return _tag("set", [{"$": "Decimal", "of": str(key)} for key in _multiples(size // 2)])


def _colliding_complex(size: int) -> Parts:
    pairs = [[1000003.0 * k, -float(k)] for k in range(size // 40)]
    return _tag("set", [{"$": "complex", "of": pair} for pair in pairs])


def _colliding_uuids(size: int) -> Parts:
    texts = [f"{PRIME * k:032x}" for k in range(1, size // 60)]
    return _tag("set", [{"$": "UUID", "of": text} for text in texts])


def _colliding_columns(size: int) -> Parts:
    names = _multiples(size // 2)
    return _tag("table", [names, [[0]] * len(names)])


def _strides(size: int) -> Parts:
    return _tag("set", [k << 40 for k in range(size // 18)])


def _following(size: int) -> Parts:
    """Returns keys with distinct hashes that share one probe sequence of a dict."""
    places = 1 << max(6, (size // 24).bit_length())
    filled, place = {}, 0
    for number in range(places * 54 // 100):
        filled[place] = number
        place = (5 * place + 1) % places
    late: list[int] = []
    key = places
    while len(late) < places // 50 and key < places * 200:
        key += 1
        place, perturb = key % places, key
        while place in filled and perturb:
            perturb >>= 5
            place = (place * 5 + perturb + 1) % places
        if not perturb and filled.get(place, places) < places // 4:
            late.append(key)
    return _tag("dict", [[key, 0] for key in (*filled, *late)])


def _part_often(size: int) -> Parts:
    half = size // 2
    references = ",".join(['{"$":"str","at":0}'] * (half // 20))
    return [f"[{references}]".encode(), b"x" * half]


def _wide_part_often(size: int) -> Parts:
    half = size // 2
    references = ",".join(['{"$":"str","at":0}'] * (half // 20))
    return [f"[{references}]".encode(), b"x" * half + "🙂".encode()]


def _table_of_one_column(size: int) -> Parts:
    return [b'{"$":"table","of":[["a"],[[' + b"1," * (size // 2) + b"1]]]}"]


def _table_of_many_columns(size: int) -> Parts:
    columns = max(1, size // 10)
    names = [f"c{at}" for at in range(columns)]
    return _tag("table", [names, [[1]] * columns])


def _zones(size: int) -> Parts:
    moments = [
        {"$": "datetime", "of": "2024-01-01T00:00:00+00:00", "zone": f"Area/Place{at}"}
        for at in range(size // 70)
    ]
    return [json.dumps(moments).encode()]


def _nested(size: int) -> Parts:
    return [b"[" * (size // 2) + b"]" * (size // 2)]


def _nested_at_the_limit(size: int) -> Parts:
    return _repeated("[" * 390 + "]" * 390, size)


def _fractions(size: int) -> Parts:
    text = f"{3**4000}/{7**2000}"[:3990]
    return _repeated(json.dumps({"$": "Fraction", "of": text}), size)


FORMS: Mapping[str, Callable[[int], Parts]] = {
    "empty lists": lambda size: _repeated("[]", size),
    "empty dicts": lambda size: _repeated("{}", size),
    "small dicts": lambda size: _repeated('{"a":0}', size),
    "lists of one": lambda size: _repeated("[0]", size),
    "small texts": lambda size: _repeated('"ab"', size),
    "small numbers": lambda size: _repeated("300", size),
    "long numbers": lambda size: _repeated("9" * 4200, size),
    "long floats": lambda size: _repeated("0." + "9" * 4000, size),
    "one long float": lambda size: [b"[0." + b"9" * size + b"]"],
    "commas in a text": lambda size: [b'["' + b"," * size + b'"]'],
    "escapes": lambda size: [b'["' + b"\\ud83d\\ude42" * (size // 12) + b'"]'],
    "tuples": lambda size: _repeated('{"$":"tuple","of":[]}', size),
    "sets": lambda size: _repeated('{"$":"set","of":[]}', size),
    "one part often": _part_often,
    "one wide part often": _wide_part_often,
    "a table of one column": _table_of_one_column,
    "a table of many columns": _table_of_many_columns,
    "colliding numbers": lambda size: _tag("set", _multiples(size)),
    "colliding negative numbers": lambda size: _tag("set", [-key for key in _multiples(size)]),
    "colliding keys": _colliding_dict,
    "colliding tuples": _colliding_tuples,
    "colliding long tuples": _colliding_long_tuples,
    "colliding fractions": _colliding_fractions,
    "colliding decimals": _colliding_decimals,
    "colliding complex numbers": _colliding_complex,
    "colliding UUIDs": _colliding_uuids,
    "colliding columns": _colliding_columns,
    "strides of a power of two": _strides,
    "keys that follow each other": _following,
    "a decimal with a huge exponent": lambda size: _tag("Decimal", "1e999999999"),
    "a decimal with a tiny exponent": lambda size: _tag("Decimal", "1e-999999999"),
    "fractions": _fractions,
    "zones that are not there": _zones,
    "nested": _nested,
    "nested at the limit": _nested_at_the_limit,
}
