"""A server with faults at random, that keeps books of what it has answered."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Generator
from typing import Any

from dspy_rlm.testing import (
    Action,
    ChatRequest,
    Counted,
    Exchange,
    Fault,
    Observation,
    PolicyServer,
    Task,
    asks_for,
    policy,
    route,
)
from dspy_rlm.testing.chat import estimate_tokens

# US dollars per million tokens of prompts and of replies.
PRICES = {"openai/root": (10.0, 40.0), "openai/sub": (1.0, 4.0)}

# Cells of a root LM, beside the last one. Each goes on when a call fails, as most code of an LM does.
CELLS = (
    "attempt(lambda: sub_llm('one {n}'))",
    "attempt(lambda: [attempt(lambda: sub_llm(f'loop {{i}} {n}')) for i in range(3)])",
    "attempt(lambda: sub_llm_batched([f'batch {{i % 7}} {n}' for i in range({wide})]))",
    "attempt(lambda: predict_batched('page -> score: int', [{{'page': f'page {{i}} {n}'}} for i in range({wide})]))",
    "attempt(lambda: predict('page -> score: int', page='typed {n}').score)",
    "attempt(lambda: sub_rlm('page -> score: int', page='below {n}').score)",
    "attempt(lambda: sub_rlm_batched('page -> score: int', [{{'page': f'part {{i}} {n}'}} for i in range({few})]))",
    "attempt(lambda: len('no call') / 0)",
    "print('long ' * 3000)",
)

HELPER = """\
def attempt(work):
    try:
        return work()
    except Exception as error:
        print(type(error).__name__, str(error)[:80])
"""


@dataclasses.dataclass(frozen=True)
class Odds:
    """The shares of requests that fail in each way."""

    status: float = 0.0
    """The share that is refused with a status."""

    lost: float = 0.0
    """The share whose replies are cut off, or whose connections are dropped."""

    malformed: float = 0.0
    fatal_after: int | None = None
    """Requests of the root LM before its key is refused; None: it never is."""


class Books:
    """The server, and what it has answered."""

    def __init__(self, dice: random.Random, odds: Odds, cells: list[str]) -> None:
        """Starts serving.

        Args:
            dice: Draws the faults and the delays, which depend on the order of requests too.
            odds: Of the faults.
            cells: The cells that the root LM runs before it submits.
        """
        self._dice, self._lock = dice, threading.Lock()
        self._cells = cells
        self.faults_end = False
        self.server = PolicyServer(
            {
                "root": route((asks_for("code"), policy(self._root)), otherwise=self._outputs),
                "sub": route(
                    (asks_for("code"), policy(self._below)),
                    (asks_for("score"), self._typed),
                    otherwise=self._plain,
                ),
            }
        )
        for model in ("root", "sub"):
            self._plan(model, odds)
        if odds.fatal_after is not None:
            fatal = Fault(
                status=401, after=odds.fatal_after, times=None, only=lambda _: not self.faults_end
            )
            self.server.fail("root", fatal)

    def _plan(self, model: str, odds: Odds) -> None:
        for status in (429, 500, 503):
            self._fail(model, odds.status / 3, status=status)
        self._fail(model, odds.lost / 2, cut_off=True)
        self._fail(model, odds.lost / 2, drop_connection=True)
        self._fail(model, odds.malformed, malformed_body=True)

    def _fail(self, model: str, share: float, **fault: Any) -> None:
        if share:
            self.server.fail(model, Fault(times=None, only=lambda _: self._happens(share), **fault))

    def _happens(self, share: float) -> bool:
        with self._lock:
            return not self.faults_end and self._dice.random() < share

    # ---- Players ----

    def _root(self, _task: Task) -> Generator[Action, Observation, None]:
        yield Action("Begin.", HELPER)
        for cell in self._cells:
            yield Action("Go on.", cell)
        yield Action("Done.", "SUBMIT(answer='done')")

    def _below(self, _task: Task) -> Generator[Action, Observation, None]:
        yield Action("Ask.", "print(sub_llm_batched([f'below {i} {page}' for i in range(3)]))")
        yield Action("Done.", "SUBMIT(score=len(page))")

    def _outputs(self, request: ChatRequest) -> str:
        return self._counted(request, "[[ ## answer ## ]]\nextracted\n\n[[ ## completed ## ]]")

    def _typed(self, request: ChatRequest) -> str:
        return self._counted(request, "[[ ## score ## ]]\n7\n\n[[ ## completed ## ]]")

    def _plain(self, request: ChatRequest) -> str:
        with self._lock:
            words = self._dice.choice([5, 50, 400])
        return self._counted(request, "a word " * words)

    def _counted(self, request: ChatRequest, text: str) -> Counted:
        """Returns a reply within the request's limit, after a moment."""
        with self._lock:
            seconds = self._dice.random() / 50
        threading.Event().wait(seconds)
        tokens, most = estimate_tokens(text), request.most_tokens
        prompt = sum(estimate_tokens(message.text) for message in request.messages)
        if most is None or tokens <= most:
            return Counted(text, prompt, tokens)
        return Counted(text[: most * 4], prompt, most, "length")


def tokens_of(exchange: Exchange) -> tuple[int, int]:
    """Returns the tokens of the prompt and of the reply that the server has counted; 0 for one that it refused."""
    if exchange.reply is None or exchange.request is None:
        return 0, 0
    if isinstance(exchange.reply, Counted):
        return exchange.reply.input_tokens, exchange.reply.output_tokens
    prompt = sum(estimate_tokens(message.text) for message in exchange.messages)
    return prompt, estimate_tokens(exchange.reply) * exchange.request.candidates


def cost_of(exchange: Exchange) -> float:
    """Returns the US dollars of an exchange."""
    prompt, reply = tokens_of(exchange)
    price = PRICES[f"openai/{exchange.model}"]
    return (prompt * price[0] + reply * price[1]) / 1e6
