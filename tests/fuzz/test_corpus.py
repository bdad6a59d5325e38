"""The corpus, and a few thousand mutations of it: nothing but the errors that are meant to come."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .targets import CORPUS, TARGETS, seeds

ROUNDS = 3000
PIECES = [b"{", b"[", b'"$"', b'"of":', b"\r\n\r\n", b"Secret: ", b"-1", b"1e999", b"\xff", b"null"]

CASES = [(target, path) for target in TARGETS for path in seeds(target)]


def mutated(data, dice):
    """Some bytes changed, cut, doubled, or replaced by what means something."""
    data = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                del data[at : at + dice.randint(1, 20)]
            case 2:
                data[at:at] = data[at : at + dice.randint(1, 50)]
            case 3:
                data[at:at] = dice.choice(PIECES)
            case _:
                data[at : at + dice.randint(1, 8)] = dice.randbytes(dice.randint(1, 8))
    return bytes(data)


@pytest.mark.parametrize(("target", "path"), CASES, ids=[f"{t}-{p.name}" for t, p in CASES])
def test_the_corpus(target, path):
    """Every file of it by itself."""
    TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_mutations(target):
    """Of every file, and of two of them joined."""
    dice = random.Random(target)
    known = [path.read_bytes() for path in seeds(target)]
    for _ in range(ROUNDS):
        data = dice.choice(known)
        if dice.random() < 0.2:
            data += dice.choice(known)
        TARGETS[target](mutated(data, dice))


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.binary(max_size=500))
def test_noise(target, data):
    """Bytes of no meaning."""
    TARGETS[target](data)


def test_the_corpus_reaches_what_it_is_for():
    """Some of its frames are messages, some of its values are read: else nothing is tested."""
    assert len(list((CORPUS / "frames").iterdir())) >= 15
    assert len(list((CORPUS / "values").iterdir())) >= 20
