"""Reads what the predictor of the steps returned or raised, as a reply of the root LM."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import dspy
from dspy import AdapterParseError

from dspy_rlm.dspy_bridge.reply_adapter import UnreadableReplyError, take_reading
from dspy_rlm.dspy_bridge.traces import FailedStep, TracedStep
from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.reader import Reading, read_code_field, read_reply
from sandbox_runtime.helpers import abridged, with_gap

# Characters of an unreadable reply that are quoted to the LM.
SHOWN_REPLY_CHARS = 2000


def read_action(action: Mapping[str, Any] | dspy.Prediction) -> Reading:
    """Reads the fields of a parsed reply."""
    reading = take_reading(action) if isinstance(action, dspy.Prediction) else None
    if reading is None:  # the predictor is the user's own
        return read_code_field(str(action["code"] or ""), str(action["reasoning"] or ""))
    return reading


def read_unparsed(error: AdapterParseError) -> tuple[Reading, TracedStep]:
    """Reads a reply that the adapter could not parse; returns its entry for DSPy's trace too."""
    reply = str(error.lm_response or "")
    if isinstance(error, UnreadableReplyError):
        reading = error.reading
    else:
        reading = read_reply(RawReply(reply))
    if reading.code:
        return reading, dspy.Prediction(reasoning=reading.reasoning, code=reading.code)
    shown = abridged(reply, SHOWN_REPLY_CHARS)
    if reading.cause == "unreadable":
        # The words before the reply are on a line of ours, and below it is nothing but data.
        quoted = f"{reading.problem} Your reply was:\n{_quoted(reply)}"
        reading = dataclasses.replace(reading, reasoning="", problem=quoted)
    return reading, FailedStep(shown)


def _quoted(reply: str) -> str:
    """Returns the reply, or its two ends."""
    if len(reply) <= SHOWN_REPLY_CHARS:
        return reply
    half = SHOWN_REPLY_CHARS // 2
    return with_gap(reply[:half], f"{len(reply) - 2 * half:,} characters", reply[-half:])
