"""Plain sub-LM calls from the REPL: `sub_llm` and `sub_llm_batched`, charged before they are sent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
from dspy import AdapterParseError, LMError

from dspy_rlm.errors import BudgetExceededError, SubCallError
from dspy_rlm.lms.endings import Ending
from dspy_rlm.prompts.contract import ERROR_MARK
from dspy_rlm.prompts.untrusted_text import as_prompt
from dspy_rlm.repl.batching import map_concurrently
from dspy_rlm.repl.failures import failed_rows
from dspy_rlm.run_context import RunContext
from dspy_rlm.values.answers import Answer
from sandbox_runtime.helpers import abridged, blocks_its_cell, in_one_line

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

    def sub_llm(prompt: str, *media: Any, model: str | None = None) -> Answer:
        """Asks a sub-LM one prompt and returns its answer: a str with `cut`, `finish_reason` and `text`.

        Images, audio and files follow the prompt: sub_llm("What is on it?", image).
        """
        _check_prompt((prompt, *media), "prompt")
        answer = ask(context.lm("sub_llm", model), (prompt, *media))
        if blocks_its_cell():
            context.note_serial("sub_llm")
        context.note(_cut_note("sub_llm", int(answer.is_cut), 1))
        return answer

    def sub_llm_batched(prompts: list[Any], model: str | None = None) -> list[Answer]:
        """Asks a sub-LM many prompts at once; answers come in order, equal prompts count once.

        A prompt is a text, or a tuple of a text and what goes with it: ("What is on it?", image). An answer is a str with
        `ok`, `cut`, `error` and `text`.
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
        reasons = [answer.error for answer in done if answer.error]
        context.note(failed_rows("sub_llm_batched", "prompts", reasons, len(done)))
        context.note(_cut_note("sub_llm_batched", sum(answer.is_cut for answer in done), len(done)))
        return done

    return {"sub_llm": sub_llm, "sub_llm_batched": sub_llm_batched}


def _cut_note(name: str, cut: int, total: int) -> str:
    """Returns the line about answers that were cut; empty if none was."""
    if not cut:
        return ""
    which = "the answer was" if total == 1 else f"{cut:,} of {total:,} answers were"
    return f"{name}: {which} cut off at max_tokens (`.cut`); ask for less in one prompt"


def ask(lm: dspy.BaseLM, prompt: Prompt) -> Answer:
    """Sends one prompt to an LM and returns its answer; a line at its end says that it was cut.

    Raises:
        LMError: The LM failed.
        SubCallError: It answered without text, refused, or a content filter withheld the answer.
    """
    lm = copy.copy(lm)  # for `reply_ending`: calls of one batch share the LM
    text, *media = prompt
    text = as_prompt(text)
    response = _ask_with_media(lm, text, media) if media else lm(text)
    first = response[0] if isinstance(response, list) and response else response
    return _answer(first, getattr(lm, "reply_ending", Ending()))


def _answer(output: Any, ending: Ending) -> Answer:
    """Returns the answer in an LM's output: a text, or a dict with text and more."""
    if problem := ending.problem():
        raise SubCallError(problem)
    reason, is_cut = ending.finish_reason, ending.is_cut

    def part(name: str) -> Any:
        return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)

    text = output if isinstance(output, str) else part("text")
    if isinstance(text, str) and text.strip():
        shown = f"{text}\n{CUT_OFF}" if is_cut else text
        return Answer(shown, text, finish_reason=reason, is_cut=is_cut)
    reasoning = str(part("reasoning_content") or "")
    if is_cut:
        raise SubCallError(
            "the sub-LM gave no answer: it used all of its tokens (max_tokens) to reason. Ask for less in one prompt"
        )
    if reasoning.strip():
        return Answer(f"{ONLY_REASONING}\n{reasoning}", reasoning, finish_reason=reason)
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


def _ask_all(lm: dspy.BaseLM, prompts: Sequence[Prompt], most: int) -> list[Answer]:
    """Calls the LM concurrently. A failure does not affect the other prompts."""

    def ask_one(prompt: Prompt) -> Answer:
        try:
            answer = ask(lm, prompt)
        except (LMError, TypeError, ValueError, BudgetExceededError) as error:
            return _error_item(error)
        if not answer.startswith(ERROR_MARK):
            return answer
        return Answer(
            f" {answer}",
            answer.text,
            finish_reason=answer.finish_reason,
            is_cut=answer.is_cut,
        )

    return map_concurrently(ask_one, prompts, most)


def _error_item(error: Exception) -> Answer:
    """Returns the item of a batch for a prompt that failed: one line."""
    text = " ".join(abridged(str(error), MAX_ERROR_CHARS).split())
    reason = f"{type(error).__name__}: {text}"
    return Answer(f"{ERROR_MARK} {reason}", error=reason)


def _unfit(prompts: Sequence[Prompt]) -> dict[int, Answer]:
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
