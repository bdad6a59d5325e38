"""The metric: a function of the user, or a comparison of the outputs with the expected ones. Both explain their score."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.cli.asking.envelope import plain
from dspy_rlm.cli.asking.tool_functions import tools_of
from dspy_rlm.cli.exit_codes import CONFIGURATION, USAGE, CommandError
from dspy_rlm.cli.optimizing.trainset import expected
from dspy_rlm.optimize.feedback import Feedback, feedback

Metric = Callable[..., Feedback]

# The relative tolerance within which two numbers are equal.
TOLERANCE = 1e-6

# Characters of an expected output that a proposer reads.
_SHOWN_CHARS = 300

_WORD = re.compile(r"\w+", re.UNICODE)


def metric_of(name: str | None, signature: type[dspy.Signature]) -> Metric:
    """Returns the metric that a flag names, or the comparison of outputs.

    Raises:
        CommandError: There is no such function.
    """
    if name is None:
        return comparing(signature)
    found = tools_of([name], "--metric")
    if len(found) != 1 or not callable(found[0]):
        raise CommandError(f"--metric {name} is not a function.", CONFIGURATION)
    return explained(found[0])


def comparing(signature: type[dspy.Signature]) -> Metric:
    """Returns the metric that compares each output that an example has with the prediction; the score is their mean."""

    def metric(
        gold: dspy.Example,
        prediction: Any,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> Feedback:
        wanted = expected(gold, signature)
        parts = {
            name: likeness(value, getattr(prediction, name, None)) for name, value in wanted.items()
        }
        notes = [
            f"{name} should be {_text(wanted[name])}, and is {_text(getattr(prediction, name, None))}."
            for name, part in parts.items()
            if part < 1
        ]
        score = sum(parts.values()) / len(parts) if parts else 0.0
        return feedback(
            score,
            prediction,
            example=gold,
            trace=trace,
            pred_trace=pred_trace,
            note=" ".join(notes),
            diagnose=True,
        )

    return metric


def explained(function: Callable[..., Any]) -> Metric:
    """Returns a metric of a user's function, with the arguments that it takes; its result may be any kind of score."""
    count = _arguments(function)

    def metric(
        gold: dspy.Example,
        prediction: Any,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
    ) -> Feedback:
        result = function(*(gold, prediction, trace, pred_name, pred_trace)[:count])
        if isinstance(result, Feedback):
            return result
        note = ""
        if isinstance(result, (Mapping, dspy.Prediction)):
            note, result = str(result.get("feedback") or ""), result["score"]
        return feedback(
            float(result),
            prediction,
            example=gold,
            trace=trace,
            pred_trace=pred_trace,
            note=note,
            diagnose=True,
        )

    return metric


def _arguments(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return 5
    count = sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)
    if count < 2:
        raise CommandError(
            "A metric takes the example and the prediction: def metric(example, prediction).", USAGE
        )
    return min(count, 5)


def likeness(wanted: Any, value: Any) -> float:
    """Returns the similarity of two values, from 0 to 1.

    Texts: 1 if they differ in case, spaces and punctuation at most, else the F1 of their words. Numbers: equal or not.
    Lists and sets: the F1 of their items. Objects: the mean over the expected fields.
    """
    wanted, value = plain(wanted), plain(value)
    if isinstance(wanted, bool) or isinstance(value, bool) or wanted is None or value is None:
        return float(wanted == value and type(wanted) is type(value))
    if isinstance(wanted, (int, float)) and isinstance(value, (int, float)):
        return float(math.isclose(wanted, value, rel_tol=TOLERANCE, abs_tol=TOLERANCE))
    if isinstance(wanted, str) and isinstance(value, str):
        one, other = (_WORD.findall(text.casefold()) for text in (wanted, value))
        return 1.0 if one == other and (one or wanted == value) else _f1(one, other)
    if isinstance(wanted, list) and isinstance(value, list):
        return 1.0 if wanted == value else _f1([*map(_key, wanted)], [*map(_key, value)])
    if isinstance(wanted, dict) and isinstance(value, dict) and wanted:
        return sum(likeness(part, value.get(name)) for name, part in wanted.items()) / len(wanted)
    return float(wanted == value)


def _f1(wanted: Sequence[str], found: Sequence[str]) -> float:
    common = sum((Counter(wanted) & Counter(found)).values())
    return 2 * common / (len(wanted) + len(found)) if common else 0.0


def _key(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(_WORD.findall(value.casefold())) or value
    return json.dumps(value, sort_keys=True)


def _text(value: Any) -> str:
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
