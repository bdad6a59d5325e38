"""DSPy's prompt format: parses the input and output fields of a request, and renders the reply.

Parses what `dspy.ChatAdapter` and `dspy.JSONAdapter` write, and renders what they parse. Knows the layout
of sections, not their content; `history.py` parses the section of past steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import to_jsonable_python

from dspy_rlm.testing.chat import ChatRequest

# The beginning of the adapters' reminder at the end of the last user message.
_CHAT_REMINDER = "Respond with the corresponding output fields, starting with the field "
_JSON_REMINDER = "Respond with a JSON object in the following order of fields: "

_HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\]$", re.MULTILINE)
_INPUT_LIST = re.compile(
    r"^Your input fields are:\n(.*?)\nYour output fields are:\n", re.DOTALL | re.MULTILINE
)
_LISTED_FIELD = re.compile(r"^(\d+)\. `(\w+)` \(", re.MULTILINE)


class PromptError(ValueError):
    """The player cannot parse this prompt; the message says what is missing."""


@dataclass(frozen=True)
class Prompt:
    """The last user message of a request, parsed."""

    inputs: Mapping[str, str]
    """The input fields in order, each with its text verbatim."""

    outputs: tuple[str, ...]
    """The requested output fields; empty when the prompt does not list them."""

    in_json: bool
    """True if the answer must be a JSON object rather than marked sections."""


def read_prompt(request: ChatRequest) -> Prompt:
    """Parse the request's prompt.

    A value may contain anything, even another field's marker: the signature's own order of
    fields decides. Only a value that repeats its own marker is ambiguous; then the last counts.

    Raises:
        PromptError: The last user message has no DSPy section.
    """
    body, outputs, in_json = _split_reminder(request)
    inputs = _sections(body, _input_names(request, body))
    if not inputs and not outputs:
        raise PromptError(
            "Cannot read the prompt's fields: its last user message does not begin with a "
            'section such as "[[ ## question ## ]]". Play plain prompts with `rules`.'
        )
    return Prompt(inputs, outputs, in_json)


def readings(request: ChatRequest, pivot: str) -> Iterator[Prompt]:
    """Yields every reading of the prompt, one for each place where field `pivot` may begin.

    The correct one is among them even when a value quotes a whole other prompt; the caller knows
    what the field must look like.
    """
    body, outputs, in_json = _split_reminder(request)
    names = _input_names(request, body)
    at = names.index(pivot) if pivot in names else len(names)
    for start in _starts(body, pivot):
        before = _sections(body[: max(start - 2, 0)], names[:at])
        yield Prompt({**before, **_sections(body[start:], names[at:])}, outputs, in_json)


def _split_reminder(request: ChatRequest) -> tuple[str, tuple[str, ...], bool]:
    """Returns the text of the sections, the output fields, and whether the answer must be JSON."""
    text = request.prompt
    chat_at, json_at = text.rfind(_CHAT_REMINDER), text.rfind(_JSON_REMINDER)
    if json_at > chat_at:
        reminder = text[json_at + len(_JSON_REMINDER) :]
        names: list[str] = re.findall(r"(?:^|, then )`(\w+)`", reminder)
        return text[:json_at].removesuffix("\n\n"), tuple(names), True
    in_json = (request.response_format or {}).get("type", "text") != "text"
    if chat_at < 0:
        return text, (), in_json
    reminder = text[chat_at + len(_CHAT_REMINDER) :]
    names = re.findall(r"(?:^|, then )`\[\[ ## (\w+) ## \]\]`", reminder)
    return text[:chat_at].removesuffix("\n\n"), tuple(names), in_json


def _input_names(request: ChatRequest, body: str) -> list[str]:
    """Returns the input fields in the signature's order, from the system message if it lists them."""
    block = _INPUT_LIST.search(request.system)
    if block is None:
        return list(dict.fromkeys(_HEADER.findall(body)))
    names: list[str] = []
    for number, name in _LISTED_FIELD.findall(block.group(1)):
        # A description may contain a list of its own; the signature's numbers increase by one.
        if int(number) == len(names) + 1:
            names.append(name)
    return names


def _sections(body: str, names: Sequence[str]) -> dict[str, str]:
    """Split `body` at the markers of `names`, from the last to the first."""
    first = next((name for name in names if body.startswith(_marker(name))), None)
    if first is None:
        return {}
    sections: list[tuple[str, str]] = []
    end = len(body)
    for name in reversed(names[names.index(first) + 1 :]):
        start = body.rfind("\n\n" + _marker(name), 0, end)
        if start >= 0:
            sections.append((name, body[start + 2 + len(_marker(name)) : end]))
            end = start
    sections.append((first, body[len(_marker(first)) : end]))
    return dict(reversed(sections))


def _starts(body: str, name: str) -> Iterator[int]:
    marker = _marker(name)
    if body.startswith(marker):
        yield 0
    at = body.find("\n\n" + marker)
    while at >= 0:
        yield at + 2
        at = body.find("\n\n" + marker, at + 1)


def _marker(name: str) -> str:
    return f"[[ ## {name} ## ]]\n"


def write_answer(values: Mapping[str, object], *, in_json: bool) -> str:
    """Renders a whole reply with `values`, in the format that the prompt asks for.

    In marked sections a value of None is omitted: DSPy then fills in None itself, while it
    would parse "null" as text.
    """
    plain = {name: to_jsonable_python(value, fallback=str) for name, value in values.items()}
    if in_json:
        return json.dumps(plain, ensure_ascii=False)
    sections = [
        _marker(name) + (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in plain.items()
        if value is not None
    ]
    return "\n\n".join([*sections, "[[ ## completed ## ]]\n"])
