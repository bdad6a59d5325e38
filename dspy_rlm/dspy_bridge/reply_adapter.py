"""Wraps DSPy's adapter so that replies of the root LM are read by `dspy_rlm.replies`.

The adapter still writes the prompt. DSPy's own parsing costs a second request for each reply that is not in the
format that was asked for, although its meaning is mostly clear.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, cast

import dspy
from dspy import AdapterParseError

from dspy_rlm.dspy_internals.adapters import is_dspys_format
from dspy_rlm.lms.endings import Ending
from dspy_rlm.prompts.styles import DEFAULT, Style
from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.fences import fenced
from dspy_rlm.replies.reader import Reading, read_reply

_FIELDS = {"reasoning", "code"}


class _Code(str):
    """The code of a prediction, with the `Reading` of the reply. Callbacks and tracers see a text."""

    reading: Reading


class UnreadableReplyError(AdapterParseError):
    """A reply from which nothing can be run; `reading` says why."""

    reading: Reading


class _ReplyText(str):
    """The text of a reply, with all that came with it."""

    raw: RawReply


def reply_adapter(adapter: dspy.Adapter, style: Style = DEFAULT) -> dspy.Adapter:
    """Returns a copy of the adapter that reads replies with `reasoning` and `code` in any form.

    It writes their prompts in a style; in the default one, as the adapter does.
    """
    wrapped: Any = copy.copy(adapter)
    vars(wrapped).pop("parse", None)
    cls: Any = type(adapter)
    wrapped.__class__ = _writing_class(cls) if style.is_conversation else _reading_class(cls)
    wrapped._style = style
    wrapped.use_json_adapter_fallback = False
    wrapped._whole = adapter
    return cast("dspy.Adapter", wrapped)


@functools.cache
def _reading_class(cls: Any) -> Any:
    class ReplyAdapter(cls):
        """See `reply_adapter`."""

        def _call_postprocess(
            self, processed: Any, original: Any, outputs: Any, lm: Any, *args: Any, **kwargs: Any
        ) -> Any:
            ending = getattr(lm, "reply_ending", Ending())
            if set(original.output_fields) == _FIELDS and is_dspys_format(self._whole):
                texts = [_reply_text(output, ending) for output in outputs or [None]]
                return [self.parse(processed, text) for text in texts]
            return super()._call_postprocess(processed, original, outputs, lm, *args, **kwargs)

        def parse(self, signature: Any, completion: str) -> dict[str, Any]:
            """Parses a reply. One that is in the format of a user's own adapter is parsed by it."""
            if set(signature.output_fields) != _FIELDS:
                return self._whole.parse(signature, completion)  # type: ignore[no-any-return]
            if not is_dspys_format(self._whole):
                try:
                    return self._whole.parse(signature, completion)  # type: ignore[no-any-return]
                except AdapterParseError:
                    pass  # perhaps the reply is in another format
            reading = read_reply(getattr(completion, "raw", None) or RawReply(completion))
            repairs = tuple(name for name in reading.repairs if name not in self._style.repairs)
            reading = dataclasses.replace(reading, repairs=repairs)
            if not reading.problem:
                # As the prompt asks for it: optimizers make demos of it.
                code = _Code(fenced(reading.code))
                code.reading = reading
                return {"reasoning": reading.reasoning, "code": code}
            error = UnreadableReplyError(
                adapter_name=cls.__name__,
                signature=signature,
                lm_response=str(completion),
                message=reading.problem,
            )
            error.reading = reading
            raise error

    ReplyAdapter.format = cls.format  # DSPy wraps it for callbacks once more in each subclass
    ReplyAdapter.__name__ = ReplyAdapter.__qualname__ = cls.__name__  # error messages show the name
    return ReplyAdapter


@functools.cache
def _writing_class(cls: Any) -> Any:
    class ConversationAdapter(_reading_class(cls)):  # type: ignore[misc]
        """Writes the prompt of a turn as a conversation. See `dspy_rlm.prompts.styles`."""

        def _call_preprocess(
            self, lm: Any, lm_kwargs: Any, signature: Any, *args: Any, **kwargs: Any
        ) -> Any:
            processed = super()._call_preprocess(lm, lm_kwargs, signature, *args, **kwargs)
            if set(signature.output_fields) == _FIELDS:
                lm_kwargs.update(self._style.options)  # DSPy has removed those of its own adapters
            return processed

        def format(self, signature: Any, demos: Any, inputs: Any) -> list[dict[str, Any]]:
            """Formats the messages of a call."""
            if set(signature.output_fields) != _FIELDS:
                return super().format(signature, demos, inputs)  # type: ignore[no-any-return]
            messages: list[dict[str, Any]] = self._style.messages(
                signature.instructions, demos, inputs
            )
            return messages

    ConversationAdapter.__name__ = ConversationAdapter.__qualname__ = cls.__name__
    return ConversationAdapter


def _reply_text(output: Any, ending: Ending) -> _ReplyText:
    raw = _raw(output, ending)
    text = _ReplyText(raw.text if isinstance(raw.text, str) else raw.text or "")
    text.raw = raw
    return text


def _raw(output: Any, ending: Ending) -> RawReply:
    if not isinstance(output, Mapping):
        return RawReply(output, is_cut=ending.is_cut, withheld=ending.withheld)
    return RawReply(
        output.get("text"),
        str(output.get("reasoning_content") or ""),
        output.get("tool_calls") or (),
        ending.is_cut,
        ending.withheld,
    )


def take_reading(action: dspy.Prediction) -> Reading | None:
    """Returns the reading of a reply, and leaves plain text in the prediction, which is in DSPy's trace.

    Returns None if the prediction has none.
    """
    code = action["code"]
    if not isinstance(code, _Code):
        return None
    action["code"] = str(code)
    if (completions := action.completions) is not None:
        completions["code"][:] = map(str, completions["code"])
    return code.reading
