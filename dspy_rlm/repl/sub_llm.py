"""Plain sub-LM calls from the REPL: `sub_llm` and `sub_llm_batched`, charged before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy import AdapterParseError, LMError

from dspy_rlm.errors import BudgetExceededError
from dspy_rlm.prompts.instructions import ERROR_MARK
from dspy_rlm.prompts.untrusted_text import as_prompt
from dspy_rlm.repl.batching import map_concurrently
from dspy_rlm.run_context import RunContext
from sandbox_runtime.helpers import abridged, in_one_line

# The maximum length of an error text in a batch's results.
MAX_ERROR_CHARS = 10_000

Prompt = tuple[Any, ...]
"""A text, and the images, audio and files that go with it."""


def make_queries(context: RunContext) -> dict[str, Callable[..., Any]]:
    """Returns the REPL's functions that call an LM for text."""

    def sub_llm(prompt: str, *media: Any, model: str | None = None) -> str:
        """Asks a sub-LM one prompt and returns its answer.

        Images, audio and files follow the prompt: sub_llm("What is on it?", image).
        """
        _check_prompt((prompt, *media), "prompt")
        return ask(context.lm("sub_llm", model), (prompt, *media))

    def sub_llm_batched(prompts: list[Any], model: str | None = None) -> list[str]:
        """Asks a sub-LM many prompts at once; answers come in order, equal prompts count once.

        A prompt is a text, or a tuple of a text and what goes with it: ("What is on it?", image).
        """
        if not isinstance(prompts, (list, tuple)):
            raise TypeError(
                "sub_llm_batched() takes a list of prompts; for one, call sub_llm(prompt)"
            )
        items = [item if isinstance(item, tuple) else (item,) for item in prompts]
        for at, prompt in enumerate(items):
            _check_prompt(prompt, f"prompts[{at}]")
        keys = [(prompt[0], *map(id, prompt[1:])) for prompt in items]
        distinct = dict(zip(keys, items, strict=True))
        lm = context.lm("sub_llm_batched", model)
        context.ledger.charge_llm_calls(len(distinct))
        lm._meter.prepaid = len(distinct)
        try:
            answers = dict(zip(distinct, _ask_all(lm, list(distinct.values())), strict=True))
        finally:
            lm._meter.give_back()
        return [answers[key] for key in keys]

    return {"sub_llm": sub_llm, "sub_llm_batched": sub_llm_batched}


def ask(lm: dspy.BaseLM, prompt: Prompt) -> str:
    """Sends one prompt to an LM and returns the text of its answer.

    Raises:
        LMError: The LM failed.
        TypeError: It answered without text.
    """
    text, *media = prompt
    text = as_prompt(text)
    response = _ask_with_media(lm, text, media) if media else lm(text)
    first = response[0] if isinstance(response, list) and response else response
    answer = first.get("text") if isinstance(first, dict) else getattr(first, "text", first)
    if not isinstance(answer, str):
        raise TypeError(f"the sub-LM answered with {type(first).__name__} instead of text")
    return answer


class _Parts(dspy.Adapter):
    """Sends a prompt unchanged, in parts: DSPy accepts parts only through an adapter."""

    def format(
        self, signature: Any, demos: list[dict[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """See `dspy.Adapter`."""
        return [{"role": "user", "content": inputs["parts"]}]

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """See `dspy.Adapter`."""
        return {"answer": completion}


def _ask_with_media(lm: dspy.BaseLM, text: str, media: Sequence[Any]) -> Any:
    parts = [
        {"type": "text", "text": text},
        *(part for medium in media for part in medium.format()),
    ]
    try:
        outputs = _Parts()(lm, {}, dspy.Signature("parts -> answer"), [], {"parts": parts})
    except AdapterParseError:
        return None
    return outputs[0]["answer"]


def _ask_all(lm: dspy.BaseLM, prompts: Sequence[Prompt]) -> list[str]:
    """Calls the LM concurrently. A failure does not affect the other prompts."""

    def ask_one(prompt: Prompt) -> str:
        try:
            answer = ask(lm, prompt)
        except (LMError, TypeError, BudgetExceededError) as error:
            return abridged(f"{ERROR_MARK} {type(error).__name__}: {error}", MAX_ERROR_CHARS)
        return f" {answer}" if answer.startswith(ERROR_MARK) else answer

    return map_concurrently(ask_one, prompts)


def _check_prompt(prompt: Prompt, label: str) -> None:
    text, *media = prompt or (None,)
    if not isinstance(text, str):
        raise TypeError(f"{label} must be a string, not {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{label} is empty")
    for medium in media:
        parts = medium.format() if isinstance(medium, dspy.Type) else None
        if not isinstance(parts, list):
            raise TypeError(
                f"{label} can be followed by images, audio and files only, not by a "
                f"{in_one_line(type(medium).__name__, 100)}; put text and values into the prompt itself"
            )
