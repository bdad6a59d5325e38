"""`dspy-rlm ask --dry-run`: the first request of a run, and the upper bound of its spending. No LM is called.

The first prompt is exact: the run is prepared as always, and its first request ends at the LM, which sends nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.budget.bill import bill_text, worst_case
from dspy_rlm.budget.token_bounds import prompt_of
from dspy_rlm.cli.asking.models import NO_KEY, lm_of, sub_lms_of
from dspy_rlm.cli.asking.questions import Inputs
from dspy_rlm.cli.asking.request import Request
from dspy_rlm.cli.asking.sources import measured, skipped_of, source_lines, sources_of
from dspy_rlm.lms.model_facts import CHARS_A_TOKEN, bounds_of
from dspy_rlm.reports.text import count
from dspy_rlm.rlm import RLM
from sandbox_runtime import LazyText

FORMAT, VERSION = "dspy-rlm/dry-run", 1


class _Sent(BaseException):
    """The first request. No `Exception`: it leaves the run past every handler of errors."""

    def __init__(self, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> None:
        super().__init__("The first request of a dry run.")
        self.messages = messages
        self.options = options


class SendsNothing(dspy.LM):
    """An LM whose requests end here."""

    def __init__(self, model: str, **settings: Any) -> None:
        super().__init__(model, cache=False, **{"api_key": NO_KEY, **settings})

    def __call__(self, prompt: Any = None, **options: Any) -> Any:
        """Ends the run with the request."""
        messages = options.pop("messages", None) or [{"role": "user", "content": prompt}]
        raise _Sent(messages, options)


def dry_run(
    request: Request, module: RLM, inputs: Mapping[str, Any], files: Inputs | None
) -> str | dict[str, Any]:
    """Returns the facts of a run that is not started: as text, or as JSON if the request says so."""
    lm = lm_of(str(request.model), request.api_base, SendsNothing)
    module._config = dataclasses.replace(
        module._config,
        sub_lm=sub_lms_of(request.sub_models, request.api_base, SendsNothing),
        journal=False,
    )
    first = first_request(module, lm, inputs)
    prompt = prompt_of(None, {**first.options, "messages": first.messages})
    subs = module._config.models
    sub_lms = list(subs.by_name.values()) if subs else [lm]
    budget = module.budget
    bill = worst_case(
        budget,
        bounds_of(lm, budget),
        [bounds_of(one, budget) for one in sub_lms],
        prompt.bytes,
        module.max_output_chars,
    )
    sizes = [_size(name, value) for name, value in inputs.items()]
    characters = sum(len(str(message["content"])) for message in first.messages)
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "model": request.model,
        "sub_models": dict(request.sub_models),
        "inputs": sizes,
        "sources": sources_of(files) if files else [],
        "skipped": skipped_of(files) if files else [],
        "notes": list(files.notes) if files else [],
        "prompt_chars": characters,
        "prompt_tokens": _tokens(characters),
        "prompt_tokens_at_most": prompt.bytes,
        "worst_case": bill.dump(),
        "prompt": first.messages,
    }
    if request.as_json:
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
        return plain
    return "\n".join(
        [
            "inputs:",
            *(
                f"  {one['name']}: {one['type']}, {count(one['items'], one['unit'])}, "
                f"{'' if one['complete'] else 'at least '}{one['chars']:,} characters, about {one['tokens']:,} tokens"
                for one in sizes
            ),
            *(source_lines(files) if files else []),
            f"first prompt: {characters:,} characters, about {_tokens(characters):,} tokens "
            f"(at most {prompt.bytes:,})",
            "",
            "at most:",
            *(f"  {line}" for line in bill_text(bill).split("\n")),
            "",
            "first prompt:",
            *(f"[{message['role']}]\n{message['content']}" for message in first.messages),
        ]
    )


def first_request(module: RLM, lm: dspy.LM, inputs: Mapping[str, Any]) -> _Sent:
    """Returns the first request of a run, which is prepared as always; its LM is a `SendsNothing`."""
    with dspy.context(lm=lm, adapter=dspy.settings.adapter):
        prepared = module.prepare(inputs, None, loop=None)
        fields = prepared.run.action_inputs()
        try:
            with dspy.context(adapter=prepared.adapter):
                module.generate_action(**prepared.prompt, **fields)
        except _Sent as sent:
            return sent
    raise AssertionError("the LM of a dry run has answered")


def _size(name: str, value: Any) -> dict[str, Any]:
    items, unit, chars = measured(value)
    return {
        "name": name,
        "type": type(value).__name__,
        "items": items,
        "unit": unit,
        "chars": chars,
        "complete": not isinstance(value, LazyText) or value.source.complete,
        "tokens": _tokens(chars),
    }


def _tokens(chars: int) -> int:
    """Returns the tokens of English text, by the common rule of thumb."""
    return -(-chars // CHARS_A_TOKEN)
