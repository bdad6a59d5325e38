"""The saved state of an LM: enough to rebuild it, without credentials.

An allow-list names the settings that are kept. Of all others, only numbers and booleans are kept: text in a
provider's own setting may be a credential. Settings that were left out are logged by name, to be set again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.lms.secrets import secrets_of_lm
from sandbox_runtime.helpers import is_secret_name, redact_secrets, url_without_secrets

logger = logging.getLogger(__name__)

# Settings of DSPy, and those of providers that shape a reply or select the model and its address.
_KEPT = frozenset(
    {
        "_dspy_lm_class", "api_base", "api_version", "aws_region_name", "base_url", "cache",
        "custom_llm_provider", "drop_params", "engine", "finetuning_model", "frequency_penalty",
        "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "min_p", "modalities", "model",
        "model_type", "n", "num_retries", "parallel_tool_calls", "presence_penalty", "prompt_cache",
        "reasoning", "reasoning_effort", "repetition_penalty", "response_format", "rollout_id", "seed",
        "service_tier", "stop", "stream", "temperature", "thinking", "timeout", "tool_choice", "top_k",
        "top_logprobs", "top_p", "truncation", "use_developer_role", "verbosity", "vertex_location",
    }
)  # fmt: skip

# Keys whose texts are kept inside settings that are dicts.
_KEPT_BELOW = _KEPT | {"effort", "type", "mode", "summary", "json_schema", "schema", "name", "ttl"}

_LEFT_OUT = object()


def lm_state(lm: dspy.BaseLM) -> dict[str, Any]:
    """Returns the state to rebuild the LM from, without credentials."""
    left_out: list[str] = []
    known = secrets_of_lm(lm)
    state = {
        name: _cleaned(value, name, known, left_out)
        for name, value in lm.dump_state().items()
        if _may_stay(name, value, left_out)
    }
    if left_out:
        logger.warning(
            "Not saved with the LM %s, because there may be secrets in it: %s. Set it again after loading.",
            lm.model,
            ", ".join(left_out),
        )
    return {name: value for name, value in state.items() if value is not _LEFT_OUT}


def _may_stay(name: str, value: Any, left_out: list[str]) -> bool:
    if name in _KEPT or value is None or isinstance(value, (bool, int, float)):
        return True
    if is_secret_name(name):  # never written to a file
        return isinstance(value, (bool, int, float))
    if isinstance(value, (Mapping, list, tuple)):
        return True  # its parts are checked one by one
    left_out.append(name)
    return False


def _cleaned(value: Any, place: str, known: list[str], left_out: list[str]) -> Any:
    """Returns the value without secrets; `_LEFT_OUT` if nothing of it may be kept."""
    kept = place.rpartition(".")[2] in _KEPT_BELOW
    match value:
        case str() if kept:
            return redact_secrets(url_without_secrets(value), known)
        case Mapping():
            parts = {
                name: _cleaned(part, f"{place}.{name}", known, left_out)
                for name, part in value.items()
                if not is_secret_name(name) or isinstance(part, (bool, int, float))
            }
            parts = {name: part for name, part in parts.items() if part is not _LEFT_OUT}
            return parts if parts or not value else _LEFT_OUT
        case list() | tuple():
            items = [_cleaned(part, place, known, left_out) for part in value]
            return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else items
        case None | bool() | int() | float():
            return value
        case _ if kept and not isinstance(value, (str, bytes)):
            return value
    left_out.append(place)
    return _LEFT_OUT
