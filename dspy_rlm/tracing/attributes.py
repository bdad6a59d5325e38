"""The attributes of spans: those of OpenInference, and of OpenTelemetry's conventions for generative AI where both agree.

https://arize-ai.github.io/openinference/spec/semantic_conventions.html and https://opentelemetry.io/docs/specs/semconv/gen-ai/.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pydantic_core import to_jsonable_python

Kind: TypeAlias = Literal["AGENT", "CHAIN", "TOOL", "LLM"]
Attributes: TypeAlias = dict[str, str | int | float | bool | Sequence[str]]

# The tool of the root LM that runs its code.
PYTHON = "python"

# The name of an agent in spans.
AGENT = "RLM"

_OPERATIONS: dict[Kind, str] = {"AGENT": "invoke_agent", "TOOL": "execute_tool", "LLM": "chat"}


@dataclasses.dataclass(frozen=True)
class Content:
    """The part of prompts, code and outputs that spans have."""

    included: bool = True
    max_chars: int = 50_000

    def text(self, value: Any) -> str | None:
        """Returns a value as a text, cut to `max_chars`; other values than texts as JSON. None: no content is wanted."""
        if not self.included or value is None:
            return None
        text = value if isinstance(value, str) else as_json(value)
        # A text that was cut before is not cut again.
        return text if len(text) <= self.max_chars + 50 else cut(text, self.max_chars, len(text))


def cut(text: str, most: int, chars: int) -> str:
    """Returns the beginning of a text that had so many characters."""
    return f"{text[:most]}... ({chars:,} characters)"


def as_json(value: Any) -> str:
    """Returns a value as JSON; parts that are none are described."""
    try:
        plain = to_jsonable_python(
            value, fallback=repr, bytes_mode="base64", inf_nan_mode="strings"
        )
        return json.dumps(plain, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return f"<{type(value).__qualname__}>"


def kind_attributes(kind: Kind, name: str) -> Attributes:
    """Returns the attributes that a span of a kind always has."""
    attributes: Attributes = {"openinference.span.kind": kind}
    if kind in _OPERATIONS:
        attributes["gen_ai.operation.name"] = _OPERATIONS[kind]
    if kind == "TOOL":
        attributes |= {"tool.name": name, "gen_ai.tool.name": name}
    if kind == "AGENT":
        attributes |= {"agent.name": AGENT, "gen_ai.agent.name": AGENT}
    return attributes


def content_attributes(
    side: Literal["input", "output"], value: Any, content: Content
) -> Attributes:
    """Returns the input or the output of a span."""
    text = content.text(value)
    if text is None:
        return {}
    is_text = isinstance(value, str)
    mime = "text/plain" if is_text else "application/json"
    return {f"{side}.value": text, f"{side}.mime_type": mime}


def model_attributes(model: str, options: Mapping[str, Any] | None = None) -> Attributes:
    """Returns the attributes of the model of a call."""
    provider, _, name = model.partition("/")
    attributes: Attributes = {"llm.model_name": model, "gen_ai.request.model": name or model}
    if name:
        attributes |= {"llm.provider": provider, "gen_ai.provider.name": provider}
    if options:
        attributes["llm.invocation_parameters"] = as_json(options)
    return attributes


def message_attributes(
    side: Literal["input", "output"], messages: Iterable[Mapping[str, Any]], content: Content
) -> Attributes:
    """Returns the messages of a prompt, or those of a reply."""
    attributes: Attributes = {}
    for number, message in enumerate(messages):
        text = content.text(message.get("content"))
        if text is None:
            continue
        key = f"llm.{side}_messages.{number}.message"
        attributes[f"{key}.role"] = str(message.get("role") or "")
        attributes[f"{key}.content"] = text
    return attributes


def reply_texts(outputs: Any) -> list[str]:
    """Returns the texts of an LM's outputs, each of which is a text or a dict."""
    texts = [one.get("text") if isinstance(one, Mapping) else one for one in outputs or ()]
    return [
        "" if text is None else text if isinstance(text, str) else as_json(text) for text in texts
    ]


def usage_attributes(
    input_tokens: int | None, output_tokens: int | None, cost: float | None
) -> Attributes:
    """Returns the tokens and the cost of a call, as far as they are known."""
    attributes: Attributes = {}
    if input_tokens is not None:
        attributes |= {
            "llm.token_count.prompt": input_tokens,
            "gen_ai.usage.input_tokens": input_tokens,
        }
    if output_tokens is not None:
        attributes |= {
            "llm.token_count.completion": output_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
        }
    if input_tokens is not None and output_tokens is not None:
        attributes["llm.token_count.total"] = input_tokens + output_tokens
    if cost is not None:
        attributes["llm.cost.total"] = cost
    return attributes


def finish_attributes(finish_reason: str) -> Attributes:
    """Returns the reason for the end of a reply."""
    if not finish_reason:
        return {}
    return {
        "llm.finish_reason": finish_reason,
        "gen_ai.response.finish_reasons": [finish_reason],
    }


def report_attributes(report: Mapping[str, Any]) -> Attributes:
    """Returns the figures of a run. They are of our own names: tokens of a run are those of its LM calls, which have them too."""
    attributes: Attributes = {}
    for name in ("status", "stopped_by", "iterations", "llm_calls", "cost", "seconds"):
        value = report.get(name)
        if isinstance(value, (str, int, float)):
            attributes[f"dspy_rlm.{name}"] = value
    return attributes
