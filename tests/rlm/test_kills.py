"""Runs that lose their sandbox's process again and again, and do not show it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from thrifty_pool import ThriftyPool

from dspy_rlm.testing import Action, policy, rules
from sandbox_runtime import Pool

CELLS = [
    "import random\ndrawn = random.random()\nrandom.seed(7)\ncounts = {}\ndef note(word): counts[word] = counts.get(word, 0) + 1",
    "for word in text.split():\n    note(word)\nprint(sorted(counts.items()))",
    "squares = (n * n for n in range(100))\nprint(next(squares), next(squares), random.random())",
    "prices = [price(word) for word in sorted(counts)]\nprint(prices, next(squares))",
    "keep(drawn)\nprint(random.random())",
    "print(sub_llm('Is it good?'), sub_llm_batched(['a', 'b']))",
    "class Basket:\n    total = sum(prices)\nbasket = Basket()\nbasket.total += next(squares)",
    "more = price.batched(['fig', 'apple'])\nprint(more, await price.aio('plum'))",
    "raise ValueError(basket.total)",
    "print(drawn == kept(), random.random(), len(text), list(squares)[:3])",
    "SUBMIT(counts, basket.total)",
]


class Shop:
    """Tools, and how often each was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.drawn = 0.0

    def price(self, name: str) -> int:
        """Returns the price of a fruit."""
        self.calls["price"] += 1
        return len(name)

    def keep(self, drawn: float) -> None:
        """Remembers a number."""
        self.calls["keep"] += 1
        self.drawn = drawn

    def kept(self) -> float:
        """Returns the number that was kept."""
        self.calls["kept"] += 1
        return self.drawn


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool for one test, so that no other test's processes are killed."""
    pool = ThriftyPool(keeps=0)
    yield pool
    pool.close()


@pytest.fixture
def run(play, pool) -> Callable[[Callable[[], None]], dict[str, Any]]:
    """Plays all cells with an action after each, and returns the record of the run."""

    def start(after: Callable[[], None]) -> dict[str, Any]:
        @policy
        def cells(_task):
            for number, cell in enumerate(CELLS):
                yield Action("", cell)
                if number not in reached:  # a policy begins anew for every turn
                    reached.add(number)
                    after()

        reached: set[int] = set()
        shop = Shop()
        rlm, server = play(
            "text -> counts: dict[str, int], total: int",
            cells,
            sub=rules([], default="yes"),
            tools=[shop.price, shop.keep, shop.kept],
            pool=pool,
        )
        result = rlm(text="apple plum fig plum\n" * 1000)
        return {
            "answers": (result.counts, result.total),
            "outputs": [step["output"] for step in result.trajectory],
            "calls": shop.calls,
            "asked": len(server.requests_to("sub")),
            "status": result.run.status,
        }

    return start


# Each process that is killed is another one to start: half a second of processor time.
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.nightly), 3])
def test_a_run_whose_sandbox_is_killed_again_and_again(run, deno_children, every):
    """A run whose sandbox is killed after every n-th cell has the outputs, answers and calls of an undisturbed one."""
    others = deno_children()
    reached = itertools.count(1)
    killed = []

    def kill() -> None:
        if next(reached) % every:
            return
        victims = deno_children() - others
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # waited for by its session
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        killed.append(len(victims))

    left_alone = run(lambda: None)
    disturbed = run(kill)

    assert disturbed == left_alone
    assert left_alone["status"] == "submitted"
    assert left_alone["answers"] == ({"apple": 1000, "plum": 2000, "fig": 1000}, 12 + 9)
    assert left_alone["calls"] == {"price": 6, "keep": 1, "kept": 1}
    assert left_alone["outputs"][-2].startswith("True 0.")
    assert len(killed) == (len(CELLS) - 1) // every
    assert all(killed)
