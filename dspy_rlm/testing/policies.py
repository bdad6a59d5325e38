"""Policies: Python generators that play a root LM by reading its actual prompt.

A policy sees no more than an LM would. No state is kept between requests: each one replays the
policy from the prompt's own history, so concurrent runs cannot mix and retries are idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dspy_rlm.testing.chat import ChatRequest
from dspy_rlm.testing.history import Action, History, HistoryError, Observation
from dspy_rlm.testing.players import Player
from dspy_rlm.testing.prompts import Prompt, PromptError, readings, write_answer

_HISTORY_FIELD = "repl_history"


@dataclass(frozen=True)
class Task:
    """The information of a policy before its first step: the prompt, as the root LM sees it now."""

    variables_info: str
    """The variables with their types, sizes and previews, as in the prompt."""

    iteration: str
    """The iteration, e.g. "Turn 3 of 20; 9 sub-LM prompts left"; "" when the prompt does not have it.

    It belongs to the request that is being answered. For a correct replay, a policy may use it only to
    decide on its next move, not on earlier ones.
    """

    system: str
    """The system message: instructions, contract and field list."""

    fields: Mapping[str, str]
    """Every input field of the prompt, by name."""


@dataclass(frozen=True)
class Raw:
    """A reply that is sent verbatim, to play an LM's mistake: prose, a wrong fence, missing fields."""

    text: str
    """The whole reply."""

    then: Action | None = None
    """The answer when DSPy asks for the same step again in JSON, as it does after a reply that it cannot
    parse. None repeats `text`."""


Move: TypeAlias = Action | Raw
"""A reply of a policy: a step, or any text."""

Policy: TypeAlias = Callable[[Task], Generator[Move, Observation, None]]
"""A script for `policy`: it yields moves, and each `yield` returns the output of that step."""

NO_FURTHER_MOVE = Action(
    reasoning="The script has ended, but the run continues.",
    code='print("the policy has no further move")',
)


def policy(script: Policy) -> Player:
    """Returns a player of a root LM that follows `script`; also usable as a decorator.

    The script must be deterministic: its moves may depend on the task and the observations only.
    """

    def play(request: ChatRequest) -> str:
        prompt, move = _next_move(script, request)
        return _write_move(move, in_json=prompt.in_json)

    return play


def scripted(*moves: Move) -> Player:
    """Returns a player of a root LM that makes these moves in order, regardless of the cells' output."""

    def script(task: Task) -> Generator[Move, Observation, None]:
        # Not `yield from`: a tuple's iterator cannot be sent an observation.
        for move in moves:  # noqa: UP028
            yield move

    return policy(script)


def _next_move(script: Policy, request: ChatRequest) -> tuple[Prompt, Move]:
    """Replay the run in the prompt. Exact readings are tried before approximate ones."""
    prompts = _root_prompts(request)
    failures: list[HistoryError] = []
    for exact in (True, False):
        for prompt in prompts:
            try:
                return prompt, _replay(script, request, prompt, exact=exact)
            except HistoryError as error:
                failures.append(error)
    raise failures[0]


def _root_prompts(request: ChatRequest) -> list[Prompt]:
    prompts = list(readings(request, _HISTORY_FIELD))
    if not prompts:
        raise PromptError(
            f"A policy plays a root LM, and this prompt has no {_HISTORY_FIELD!r} field. "
            "Send other prompts elsewhere with `route`."
        )
    outputs = prompts[0].outputs
    if outputs and "code" not in outputs:
        raise PromptError(
            "A policy answers with reasoning and code, and this prompt asks for "
            f"{', '.join(outputs)}: no move of the policy has called SUBMIT, and the run allows no further one. Let its "
            "last move call SUBMIT, or answer such prompts with `route((asks_for('code'), policy), otherwise=...)`."
        )
    return prompts


def _replay(script: Policy, request: ChatRequest, prompt: Prompt, *, exact: bool) -> Move:
    history = History(prompt.inputs[_HISTORY_FIELD], exact=exact)
    generator = script(_task(request, prompt))
    try:
        move = _check_move(next(generator))
        while not history.finished:
            action = move.then if isinstance(move, Raw) else move
            move = _check_move(generator.send(history.read_step(action)))
    except StopIteration:
        return NO_FURTHER_MOVE
    finally:
        generator.close()
    return move


def _task(request: ChatRequest, prompt: Prompt) -> Task:
    return Task(
        variables_info=prompt.inputs.get("variables_info", ""),
        iteration=prompt.inputs.get("iteration", ""),
        system=request.system,
        fields=prompt.inputs,
    )


def _check_move(move: object) -> Move:
    if not isinstance(move, Action | Raw):
        raise TypeError(f"A policy yields Action or Raw, not {type(move).__name__}.")
    return move


def _write_move(move: Move, *, in_json: bool) -> str:
    if isinstance(move, Raw):
        if not in_json or move.then is None:
            return move.text
        move = move.then
    fenced = f"```python\n{move.code}\n```"
    return write_answer({"reasoning": move.reasoning, "code": fenced}, in_json=in_json)
