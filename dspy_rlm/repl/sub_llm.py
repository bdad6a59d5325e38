"""Plain sub-LM calls from the REPL: `sub_llm` and `sub_llm_batched`, charged before they are sent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
from dspy import AdapterParseError, LMError

from dspy_rlm.errors import BudgetExceededError, SubCallError
from dspy_rlm.prompts.contract import ERROR_MARK
from dspy_rlm.prompts.untrusted_text import as_prompt
from dspy_rlm.repl.batching import map_concurrently
from dspy_rlm.repl.failures import failed_rows
from dspy_rlm.run_context import RunContext
from sandbox_runtime.helpers import abridged, in_one_line

# The maximum length of an error text in a batch's results.
MAX_ERROR_CHARS = 10_000

# The line at the end of an answer that ended at the limit of its tokens.
CUT_OFF = "[Note] The answer was cut off here: the sub-LM has reached its max_tokens."

# The line before the reasoning of an LM that gave no other text.
ONLY_REASONING = "[Note] The sub-LM left its answer empty. This is its reasoning:"

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
        unfit = _unfit(items)
        fit = {at: prompt for at, prompt in enumerate(items) if at not in unfit}
        keys = {at: (prompt[0], *map(id, prompt[1:])) for at, prompt in fit.items()}
        distinct = {key: fit[at] for at, key in keys.items()}
        lm = context.lm("sub_llm_batched", model)
        context.calls.charge_llm_calls(len(distinct))
        lm._meter.prepaid = len(distinct)
        try:
            replies = _ask_all(lm, list(distinct.values()), context.gates.most)
            answers = dict(zip(distinct, replies, strict=True))
        finally:
            lm._meter.give_back()
        done = [unfit[at] if at in unfit else answers[keys[at]] for at in range(len(items))]
        reasons = [answer for answer in done if answer.startswith(ERROR_MARK)]
        bare = [reason.removeprefix(ERROR_MARK).strip() for reason in reasons]
        context.note(failed_rows("sub_llm_batched", "prompts", bare, len(done)))
        return done

    return {"sub_llm": sub_llm, "sub_llm_batched": sub_llm_batched}


def ask(lm: dspy.BaseLM, prompt: Prompt) -> str:
    """Sends one prompt to an LM and returns the text of its answer; a line at its end says that it was cut.

    Raises:
        LMError: The LM failed.
        SubCallError: It answered without text.
    """
    lm = copy.copy(lm)  # for `reply_was_cut`: calls of one batch share the LM
    text, *media = prompt
    text = as_prompt(text)
    response = _ask_with_media(lm, text, media) if media else lm(text)
    first = response[0] if isinstance(response, list) and response else response
    return _answer(first, is_cut=bool(getattr(lm, "reply_was_cut", False)))


def _answer(output: Any, *, is_cut: bool) -> str:
    """Returns the text of an LM's output: a text, or a dict with text and more."""

    def part(name: str) -> Any:
        return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)

    text = output if isinstance(output, str) else part("text")
    if isinstance(text, str) and text.strip():
        return f"{text}\n{CUT_OFF}" if is_cut else text
    reasoning = str(part("reasoning_content") or "")
    if is_cut:
        raise SubCallError(
            "the sub-LM gave no answer: it used all of its tokens (max_tokens) to reason. Ask for less in one prompt"
        )
    if reasoning.strip():
        return f"{ONLY_REASONING}\n{reasoning}"
    if part("tool_calls"):
        raise SubCallError("the sub-LM answered with a tool call in place of a text")
    raise SubCallError("the sub-LM gave an empty answer")


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
        return getattr(lm, "reply", None)  # it has no text
    return outputs[0]["answer"]


def _ask_all(lm: dspy.BaseLM, prompts: Sequence[Prompt], most: int) -> list[str]:
    """Calls the LM concurrently. A failure does not affect the other prompts."""

    def ask_one(prompt: Prompt) -> str:
        try:
            answer = ask(lm, prompt)
        except (LMError, TypeError, ValueError, BudgetExceededError) as error:
            return _error_item(error)
        return f" {answer}" if answer.startswith(ERROR_MARK) else answer

    return map_concurrently(ask_one, prompts, most)


def _error_item(error: Exception) -> str:
    """Returns the item of a batch for a prompt that failed: one line."""
    text = " ".join(abridged(str(error), MAX_ERROR_CHARS).split())
    return f"{ERROR_MARK} {type(error).__name__}: {text}"


def _unfit(prompts: Sequence[Prompt]) -> dict[int, str]:
    """Returns the items of the batch for the values that are no prompts, by position.

    Raises:
        TypeError: None of them is a prompt.
        ValueError: All are empty.
    """
    unfit: dict[int, Exception] = {}
    for at, prompt in enumerate(prompts):
        try:
            _check_prompt(prompt, f"prompts[{at}]")
        except (TypeError, ValueError) as error:
            unfit[at] = error
    if unfit and len(unfit) == len(prompts):
        raise unfit[0]
    return {at: _error_item(error) for at, error in unfit.items()}


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
