"""Inputs made of others: bytes changed, pieces repeated, joined, and put in that mean something."""

from __future__ import annotations

import random
from collections.abc import Sequence

PIECES = [
    b"{", b"[", b"]", b"}", b",", b'"', b'"$"', b'"of":', b'{"$":"set","of":[', b'{"$":"tuple","of":[]}',
    b'{"$":"str","at":0}', b'{"$":"bytes","at":[0,9]}', b'{"$":"pieces","at":0,"of":[1]}', b"\r\n\r\n", b"Secret: ", b"-1", b"1e999", b"2305843009213693951", b"1e999999999",
    b"\xff", b"null", b"NaN", b"*", b"(", b"->", b"|", b"list[", b"Literal[", b"\n", b"\\u0000",
]  # fmt: skip

# The longest input that is made; repeating doubles quickly.
MAX_BYTES = 200_000


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, cut, doubled, or replaced by what means something."""
    made = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(made) + 1)
        match dice.randrange(7):
            case 0 if at < len(made):
                made[at] ^= 1 << dice.randrange(8)
            case 1:
                del made[at : at + dice.randint(1, 20)]
            case 2:
                made[at:at] = made[at : at + dice.randint(1, 50)]
            case 3:
                made[at:at] = dice.choice(PIECES)
            case 4:  # what is worse than linear shows when it is long
                piece = bytes(made[at : at + dice.randint(1, 40)])
                made[at:at] = piece * dice.choice((2, 10, 100, 1000))
            case 5:
                made[at:at] = dice.choice(PIECES) * dice.choice((2, 10, 100, 1000))
            case _:
                made[at : at + dice.randint(1, 8)] = dice.randbytes(dice.randint(1, 8))
        del made[MAX_BYTES:]
    return bytes(made)


def next_input(known: Sequence[bytes], dice: random.Random) -> bytes:
    """An input made of one or two of those that are known."""
    data = dice.choice(known)
    if dice.random() < 0.2:
        data += dice.choice(known)
    return mutated(data, dice)
