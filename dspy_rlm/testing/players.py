"""The `Player` type, and players built from fields or from other players.

A player gets one request and returns one reply. It is called from several threads at once, and
again with the same request when a client retries, so it keeps no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from dspy_rlm.testing.chat import ChatRequest
from dspy_rlm.testing.prompts import PromptError, read_prompt, write_answer

Player: TypeAlias = Callable[[ChatRequest], str]
"""Plays a model: returns the text of the reply to a request. Called from many threads at once."""

Predicate: TypeAlias = Callable[[ChatRequest], bool]
"""Says whether a branch of `route` answers a request."""


class NoPlayerError(LookupError):
    """No branch of a `route` and no rule of `rules` accepts this request."""


def fields(answer: Callable[[Mapping[str, str]], Mapping[str, object]]) -> Player:
    """Returns a player for any DSPy signature: `answer` gets the input fields and returns the outputs.

    Inputs arrive as the prompt's text. Outputs may be any value Pydantic can turn into JSON;
    they are written as the prompt asks, in marked sections or in JSON.
    """

    def play(request: ChatRequest) -> str:
        prompt = read_prompt(request)
        return write_answer(answer(prompt.inputs), in_json=prompt.in_json)

    return play


def route(*branches: tuple[Predicate, Player], otherwise: Player | None = None) -> Player:
    """Returns a player that passes each request to the first branch whose predicate accepts it."""

    def play(request: ChatRequest) -> str:
        for accepts, player in branches:
            if accepts(request):
                return player(request)
        if otherwise is None:
            raise NoPlayerError(f"No branch accepts this prompt: {request.prompt[:200]!r}")
        return otherwise(request)

    return play


def asks_for(*outputs: str) -> Predicate:
    """Returns a predicate: the prompt is DSPy's and asks for all of these output fields.

    `asks_for("code")` is a root LM's step; any other signature is an extract or a sub-call.
    """

    def accepts(request: ChatRequest) -> bool:
        try:
            return set(outputs) <= set(read_prompt(request).outputs)
        except PromptError:
            return False

    return accepts
