"""Sub-LM calls from the REPL: `sub_llm` and `sub_llm_batched`, counted before they are made."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
from dspy.utils.exceptions import LMError

from dspy_rlm.budget import Ledger
from sandbox_runtime import without_secrets

# Prompts of a batch that are asked at the same time.
MAX_CONCURRENT_CALLS = 16

# What a failed prompt of a batch gives in place of an answer. The contract tells the LM so.
ERROR_MARK = "[ERROR]"


def make_queries(lm: dspy.BaseLM, ledger: Ledger) -> dict[str, Callable[..., Any]]:
    """The REPL's functions that ask `lm`, on the budget of `ledger`."""

    def sub_llm(prompt: str) -> str:
        """Asks the sub-LM one prompt and returns its answer."""
        _check_prompt(prompt, "prompt")
        ledger.charge_llm_calls(1)
        return ask(lm, prompt)

    def sub_llm_batched(prompts: list[str]) -> list[str]:
        """Asks the sub-LM many prompts at once; answers come in order, equal prompts count once."""
        if not isinstance(prompts, (list, tuple)):
            raise TypeError(
                "sub_llm_batched() takes a list of prompts; for one, call sub_llm(prompt)"
            )
        for at, prompt in enumerate(prompts):
            _check_prompt(prompt, f"prompts[{at}]")
        distinct = list(dict.fromkeys(prompts))
        ledger.charge_llm_calls(len(distinct))
        answers = dict(zip(distinct, _ask_all(lm, distinct), strict=True))
        return [answers[prompt] for prompt in prompts]

    return {"sub_llm": sub_llm, "sub_llm_batched": sub_llm_batched}


def ask(lm: dspy.BaseLM, prompt: str) -> str:
    """Sends one prompt to an LM and returns the text of its answer.

    Raises:
        LMError: The LM failed. The text does not have the LM's key in it.
        TypeError: It answered without text.
    """
    try:
        response = lm(prompt)
    except LMError as error:
        told = without_secrets(str(error), [getattr(lm, "kwargs", {}).get("api_key")])
        raise (error if told == str(error) else LMError(told)) from error
    first = response[0] if isinstance(response, list) and response else response
    text = first.get("text") if isinstance(first, dict) else getattr(first, "text", first)
    if not isinstance(text, str):
        raise TypeError(f"the sub-LM answered with {type(first).__name__} instead of text")
    return text


def _ask_all(lm: dspy.BaseLM, prompts: Sequence[str]) -> list[str]:
    """Asks concurrently, each in a copy of the caller's context. One failure does not lose the rest."""
    if not prompts:
        return []

    def ask_one(prompt: str) -> str:
        try:
            answer = ask(lm, prompt)
        except (LMError, TypeError) as error:
            return f"{ERROR_MARK} {type(error).__name__}: {error}"
        return f" {answer}" if answer.startswith(ERROR_MARK) else answer

    pool = ThreadPoolExecutor(min(MAX_CONCURRENT_CALLS, len(prompts)))
    try:
        jobs = [pool.submit(contextvars.copy_context().run, ask_one, prompt) for prompt in prompts]
        return [job.result() for job in jobs]
    finally:
        # After Ctrl-C what was not sent yet stays unsent; answers on their way are nobody's.
        pool.shutdown(wait=False, cancel_futures=True)


def _check_prompt(prompt: object, label: str) -> None:
    if not isinstance(prompt, str):
        raise TypeError(f"{label} must be a string, not {type(prompt).__name__}")
    if not prompt.strip():
        raise ValueError(f"{label} is empty")
