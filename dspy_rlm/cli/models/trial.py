"""Tries a model: its key, its server, its context window, and a short hello whose price is known before it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from dspy_rlm.budget.token_bounds import prompt_of
from dspy_rlm.cli.asking.models import lm_of
from dspy_rlm.cli.exit_codes import AUTHENTICATION, COMPLETE, MODEL, code_of
from dspy_rlm.cli.failures import named as named_error
from dspy_rlm.cli.models.facts import ModelFacts
from dspy_rlm.cli.models.server import Listed, key_of, listed_at
from dspy_rlm.reports.text import dollars
from sandbox_runtime.helpers import in_one_line

HELLO = "Reply with the word OK and nothing else."

# Tokens of the reply at most: some models think before they write.
REPLY_TOKENS = 256

_SHOWN_CHARS, _ERROR_CHARS = 60, 300
_MILLION = 1_000_000


@dataclass(frozen=True)
class Check:
    """The result of trying one part of a model, as the sandbox's own checks have it."""

    name: str
    ok: bool
    milliseconds: float
    detail: str
    fix: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    code: int = COMPLETE
    """The exit code of a failure."""

    def __str__(self) -> str:
        state = "ok" if self.ok else "FAILED"
        return f"{self.name:<8} {state:<6} {self.milliseconds:8.0f} ms  {self.detail}"

    def dump(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        facts = asdict(self)
        del facts["code"]
        return facts


def try_model(facts: ModelFacts, *, hello: bool, say: Callable[[str], None]) -> list[Check]:
    """Returns the checks of a model, in order. `say` is called with messages in between."""
    checks = [_key(facts)]
    listed: Listed | None = None
    if facts.api_base:
        check, listed = _server(facts)
        checks.append(check)
    checks.append(_context(facts, listed))
    for check in checks:
        say(str(check))
    if all(check.ok for check in checks) and hello:
        say(f"hello: {HELLO!r} is sent to {facts.model} now. {price_of_hello(facts)}")
        checks.append(_hello(facts))
        say(str(checks[-1]))
    return checks


def _key(facts: ModelFacts) -> Check:
    if facts.key_is_set:
        return Check("key", True, 0.0, f"{facts.key_variable} is set")
    if facts.api_base:
        return Check(
            "key",
            True,
            0.0,
            f"{facts.key_variable} is not set; most servers of one's own need none",
        )
    return Check("key", True, 0.0, f"{facts.key_variable} is not set; not every provider needs it")


def _server(facts: ModelFacts) -> tuple[Check, Listed]:
    begun = time.perf_counter()
    listed = listed_at(str(facts.api_base), key_of(facts.key_variable))
    took = (time.perf_counter() - begun) * 1000
    name = facts.model.partition("/")[2] or facts.model
    if listed.status in (401, 403):
        return Check("server", False, took, f"{facts.api_base}: {listed.problem}, the key is wrong", _how_to_give_a_key(facts), code=AUTHENTICATION), listed  # fmt: skip
    if listed.status is not None:
        # The server answers, but does not list its models, like some gateways.
        return Check("server", True, took, f"{facts.api_base} answers, without a list of models ({listed.problem})"), listed  # fmt: skip
    if listed.problem:
        fix = "Check the address; that of most servers ends with /v1. Is the server running?"
        return Check("server", False, took, f"{facts.api_base} cannot be reached: {listed.problem}", fix, code=MODEL), listed  # fmt: skip
    offered = ", ".join([*listed.windows][:8]) or "none"
    if name not in listed.windows and facts.model not in listed.windows:
        detail = f"{facts.api_base} has no model {name}. It has {offered}"
        return Check("server", False, took, detail, "Name one of its models.", code=MODEL), listed
    return Check("server", True, took, f"{facts.api_base} has {name}", facts={"models": [*listed.windows]}), listed  # fmt: skip


def _context(facts: ModelFacts, listed: Listed | None) -> Check:
    tokens, source = facts.context.value, facts.context.source
    if listed is not None:
        name = facts.model.partition("/")[2]
        if window := listed.windows.get(facts.model) or listed.windows.get(name):
            tokens, source = window, "server"
    if tokens is None:
        return Check("context", True, 0.0, "the context window is unknown: prompts are not shortened to fit it, unless history_tokens= says how", facts={"tokens": None})  # fmt: skip
    return Check("context", True, 0.0, f"{tokens:,} tokens ({source})", facts={"tokens": tokens, "source": source})  # fmt: skip


def price_of_hello(facts: ModelFacts) -> str:
    """Returns the most that the hello can cost, in a sentence."""
    tokens = prompt_of(HELLO, {}).bytes
    if facts.price.value is None:
        return (
            f"Its price is unknown: at most {tokens} tokens are sent and {REPLY_TOKENS} come back."
        )
    return f"That costs at most {dollars(cost_of_hello(facts) or 0.0)}."


def cost_of_hello(facts: ModelFacts) -> float | None:
    """Returns the most that the hello can cost, in US dollars; None if the price is unknown."""
    if facts.price.value is None:
        return None
    prompt, reply = facts.price.value
    tokens = prompt_of(HELLO, {}).bytes
    cost: float = (tokens * prompt + REPLY_TOKENS * reply) / _MILLION
    return cost


def _hello(facts: ModelFacts) -> Check:
    lm = lm_of(facts.model, facts.api_base).copy(cache=False, num_retries=0)
    begun = time.perf_counter()
    try:
        (reply, *_) = lm(HELLO, max_tokens=REPLY_TOKENS)
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        took = (time.perf_counter() - begun) * 1000
        fix = "docs/faults.md says what the errors of servers mean."
        if code == AUTHENTICATION:
            fix = _how_to_give_a_key(facts)
        return Check(
            "hello",
            False,
            took,
            in_one_line(_first_part(named_error(error)), _ERROR_CHARS),
            fix,
            code=code,
        )
    took = (time.perf_counter() - begun) * 1000
    text = reply if isinstance(reply, str) else str(reply.get("text") or "")
    entry = lm.history[-1] if lm.history else {}
    usage = entry.get("usage") or {}
    cost = entry.get("cost")
    spent = "" if cost is None else f", {dollars(cost)}"
    tokens = usage.get("total_tokens")
    shown = in_one_line(text.strip(), _SHOWN_CHARS) or "an empty reply"
    detail = f"{shown}{f' ({tokens} tokens{spent})' if tokens else ''}"
    return Check("hello", True, took, detail, facts={"tokens": tokens, "cost": cost})


def _how_to_give_a_key(facts: ModelFacts) -> str:
    return (
        f"Give the key: export {facts.key_variable}=... For a server of your own: --api-base URL."
    )


def _first_part(text: str) -> str:
    """Returns an error without the advice that libraries add below it."""
    return " ".join(text.partition("\n\n")[0].split())
