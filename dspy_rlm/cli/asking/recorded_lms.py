"""The LMs of a recorded run, with the options that a program had set. Keys and addresses are not recorded.

A recorded answer belongs to a call with the same options. An LM without those of the program, such as its temperature,
would ask again, and be paid again, for what is in the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.cli.asking.models import lm_of
from dspy_rlm.journal.records import CallRecord, RunRecord
from dspy_rlm.reports.text import count

# Options of a call, never those of an LM.
_OF_CALLS = frozenset({"response_format", "tools", "tool_choice", "prediction", "n", "rollout_id"})


def root_options(record: RunRecord) -> dict[str, Any]:
    """Returns the options of the LM that wrote the code."""
    return _shared(call for step in record.all_steps for call in step.root_calls)


def sub_options(record: RunRecord, model: str) -> dict[str, Any]:
    """Returns the options of an LM that the code called, by the name of its model."""
    return _shared(call for call in record.calls() if call.is_sub_call and call.model == model)


def _shared(calls: Iterable[CallRecord]) -> dict[str, Any]:
    """Returns the options that all calls have."""
    found: dict[str, Any] | None = None
    for call in calls:
        if found is None:
            found = {name: value for name, value in call.options.items() if name not in _OF_CALLS}
        else:
            found = {
                name: value for name, value in found.items() if call.options.get(name) == value
            }
    return found or {}


def recorded_root(record: RunRecord, model: str, api_base: str | None) -> dspy.LM:
    """Returns the LM that writes the code; with the options of the record, if the run had this model."""
    models: Mapping[str, Any] = record.config.get("models") or {}
    options = root_options(record) if model == models.get("root") else {}
    return lm_of(model, api_base, options=_usable(options))


def recorded_subs(
    record: RunRecord, models: Mapping[str, str], api_base: str | None
) -> dspy.LM | dict[str, dspy.LM] | None:
    """Returns the LMs that the code calls, each with the options that the record has for its model."""
    lms = {
        name: lm_of(model, api_base, options=_usable(sub_options(record, model)))
        for name, model in models.items()
    }
    return lms[""] if list(lms) == [""] else lms or None


def asked_again(record: RunRecord, root: str, models: Mapping[str, str]) -> Sequence[str]:
    """Returns what a resumed run will ask again although it is in the journal, in sentences."""
    found = []
    recorded: Mapping[str, Any] = record.config.get("models") or {}
    lms = [(root, root_options(record), root == recorded.get("root"))]
    subs = {str(model) for model in (recorded.get("sub") or {}).values()} or {
        str(recorded.get("root"))
    }
    lms += [(model, sub_options(record, model), True) for model in dict.fromkeys(models.values())]
    for model, options, is_recorded in lms:
        if is_recorded and (lost := sorted(options.keys() - _usable(options).keys())):
            found.append(
                f"{model} had the options {', '.join(lost)}, whose values a journal does not hold. Calls with them are asked "
                "and paid again; to avoid that, resume in the program: rlm.resume(path)."
            )
    unused = subs - set(models.values()) - ({root} if not models else set())
    if models and unused:
        calls = sum(
            call.is_sub_call and call.answered and call.model in unused for call in record.calls()
        )
        if calls:
            one = calls == 1
            found.append(
                f"{count(calls, 'answer')} of {', '.join(sorted(unused))} {'is' if one else 'are'} in the journal, and "
                f"{'is' if one else 'are'} asked again of {', '.join(models.values())} where the code needs "
                f"{'it' if one else 'them'}."
            )
    return found


def _usable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options whose values a journal holds: plain data, no classes."""
    return {name: value for name, value in options.items() if not _is_described(value)}


def _is_described(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "class" in value or "bytes" in value or any(map(_is_described, value.values()))
    return isinstance(value, list) and any(map(_is_described, value))
