"""Random draws that are the same in every version of Python.

Python promises that `random.Random(seed).random()` keeps its sequence, and promises it for no other method
(https://docs.python.org/3/library/random.html#notes-on-reproducibility). So everything here is built on it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import MutableSequence, Sequence
from typing import TypeVar

Choice = TypeVar("Choice")


class Draws:
    """A stream of draws. Streams with different labels are independent of each other."""

    def __init__(self, *labels: object) -> None:
        text = "\0".join(map(str, labels))
        self._labels = text
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
        self._random = random.Random(seed)  # noqa: S311 - tasks, not secrets

    def stream(self, *labels: object) -> Draws:
        """Returns another stream, which does not depend on what was drawn from this one."""
        return Draws(self._labels, *labels)

    def below(self, bound: int) -> int:
        """Returns a whole number from 0 to `bound` - 1."""
        return int(self._random.random() * bound)

    def between(self, low: int, high: int) -> int:
        """Returns a whole number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def choice(self, choices: Sequence[Choice]) -> Choice:
        """Returns one of the choices."""
        return choices[self.below(len(choices))]

    def weighted(self, choices: Sequence[Choice], weights: Sequence[int]) -> Choice:
        """Returns one of the choices, each with a probability in proportion to its weight."""
        at = self.below(sum(weights))
        for choice, weight in zip(choices, weights, strict=True):
            if at < weight:
                return choice
            at -= weight
        raise AssertionError("the weights add up to more than any draw")

    def sample(self, choices: Sequence[Choice], count: int) -> list[Choice]:
        """Returns `count` different choices in random order."""
        pool = list(choices)
        for at in range(count):
            other = at + self.below(len(pool) - at)
            pool[at], pool[other] = pool[other], pool[at]
        return pool[:count]

    def shuffle(self, items: MutableSequence[Choice]) -> None:
        """Shuffles the items in place."""
        for at in range(len(items) - 1, 0, -1):
            other = self.below(at + 1)
            items[at], items[other] = items[other], items[at]

    def digits(self, length: int) -> str:
        """Returns a decimal number with this many digits, which does not begin with zero."""
        return str(self.between(10 ** (length - 1), 10**length - 1))

    def hexadecimal(self, length: int) -> str:
        """Returns this many hexadecimal digits."""
        return "".join(self.choice("0123456789abcdef") for _ in range(length))
