"""Shared fixtures of `dspy_rlm`'s tests: a policy server, and an RLM played by a script through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import dspy
import pytest
from thrifty_pool import ThriftyPool

from dspy_rlm import RLM
from dspy_rlm.testing import Action, Player, PolicyServer, Raw, asks_for, fields, route, scripted

Play = Callable[..., tuple[RLM, PolicyServer]]


def no_sub_calls(_request: object) -> str:
    """A sub-LM that must not be called."""
    raise AssertionError("no sub-LM call was expected")


@pytest.fixture(scope="session")
def kept() -> Iterator[ThriftyPool]:
    """A pool for all tests that need no sandbox of their own."""
    pool = ThriftyPool(keeps=6)  # a batch of sub-runs has up to four at a time beside its own
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def fresh() -> ThriftyPool:
    """A pool whose sessions are all new, for tests whose subject is what a session remembers, or its end."""
    return ThriftyPool(keeps=0)


@pytest.fixture
def play(kept: ThriftyPool) -> Iterator[Play]:
    """Returns `play(signature, *moves, sub=..., extracted=..., **options)`: an RLM and its server.

    The moves are those of the root LM, in order. `extracted` answers the fallback.
    """
    with ExitStack() as stack:

        def start(
            signature: Any,
            *moves: Action | Raw | str | Player,
            sub: Player = no_sub_calls,
            extracted: dict[str, Any] | None = None,
            **options: Any,
        ) -> tuple[RLM, PolicyServer]:
            root = moves[0] if len(moves) == 1 and callable(moves[0]) else script(*moves)
            fallback = fields(lambda _given: extracted or {})
            player = route((asks_for("code"), root), otherwise=fallback)
            server = stack.enter_context(PolicyServer({"root": player, "sub": sub}))
            stack.enter_context(dspy.context(lm=server.lm("root"), adapter=dspy.ChatAdapter()))
            return RLM(signature, **{"sub_lm": server.lm("sub"), "pool": kept, **options}), server

        yield start


def script(*moves: Any) -> Player:
    """A root LM that makes these moves; a plain string is code."""
    return scripted(*(Action("", move) if isinstance(move, str) else move for move in moves))
