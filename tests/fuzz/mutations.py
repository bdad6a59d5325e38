"""Mutations of inputs: change bytes, repeat and join pieces, insert meaningful tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence

PIECES = [
    b"{", b"[", b"]", b"}", b",", b'"', b'"$"', b'"of":', b'{"$":"set","of":[', b'{"$":"tuple","of":[]}',
    b'{"$":"str","at":0}', b'{"$":"bytes","at":[0,9]}', b'{"$":"pieces","at":0,"of":[1]}', b"\r\n\r\n", b"\xd1\x02\0\0", b"-1", b"1e999", b"2305843009213693951", b"1e999999999",
    b"\xff", b"null", b"NaN", b"*", b"(", b"->", b"|", b"list[", b"Literal[", b"\n", b"\\u0000",
]  # fmt: skip

# The maximum size of an input, since repetition grows fast.
MAX_BYTES = 200_000


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Returns the input with some bytes changed, cut, repeated, or replaced by meaningful tokens."""
    result = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(result) + 1)
        match dice.randrange(7):
            case 0 if at < len(result):
                result[at] ^= 1 << dice.randrange(8)
            case 1:
                del result[at : at + dice.randint(1, 20)]
            case 2:
                result[at:at] = result[at : at + dice.randint(1, 50)]
            case 3:
                result[at:at] = dice.choice(PIECES)
            case 4:  # worse than linear costs show in long inputs
                piece = bytes(result[at : at + dice.randint(1, 40)])
                result[at:at] = piece * dice.choice((2, 10, 100, 1000))
            case 5:
                result[at:at] = dice.choice(PIECES) * dice.choice((2, 10, 100, 1000))
            case _:
                result[at : at + dice.randint(1, 8)] = dice.randbytes(dice.randint(1, 8))
        del result[MAX_BYTES:]
    return bytes(result)


def next_input(inputs: Sequence[bytes], dice: random.Random) -> bytes:
    """Returns a mutation of one known input, or of two joined."""
    data = dice.choice(inputs)
    if dice.random() < 0.2:
        data += dice.choice(inputs)
    return mutated(data, dice)
