"""Upper bounds of the tokens of a request, before it is sent. No I/O, and no tokenizer: these differ by model.

A token stands for a byte of UTF-8 at least, in every tokenizer that works on bytes. English has about four
bytes to a token, so bytes alone are a loose bound. It is tightened by lines whose tokens are known: those of
a prompt that the same model has counted already. Tokens do not reach over the end of a line, but for runs of
empty ones, so a prompt has at most the tokens of an earlier one, and the bytes of the lines that are new.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

# Of the template that a provider puts around each message, and around all of them.
TOKENS_A_MESSAGE = 16
TOKENS_A_REQUEST = 64

# Providers describe the use of tools to the model; the longest such text known is that of Anthropic (700).
TOKENS_OF_TOOLS = 1_024

# A large image, as GPT-4o mini counts it, which counts most: 2,833 and 5,667 for each of 8 tiles.
TOKENS_AN_IMAGE = 50_000

# Gemini counts 32 tokens a second; the leanest codec has 750 bytes a second, 1,000 characters of base64.
CHARS_OF_AUDIO_A_TOKEN = 16

# Longer prompts are bounded by their bytes alone.
_MOST_COMPARED = 2_000_000

# Our own text and that of the program's author, in ASCII: English has 4 bytes to a token, code 3.
_BYTES_A_TRUSTED_TOKEN = 2

_IMAGES = frozenset({"image_url", "image", "input_image"})
_SOUNDS = frozenset({"input_audio", "audio"})
# Options that nobody counts: they stay with the client, or are a number.
_UNCOUNTED = frozenset({"api_key", "api_base", "base_url", "headers", "extra_headers", "cache"})

Lines = collections.Counter[str]


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What a request sends: its texts, and the most tokens of all else."""

    texts: tuple[str, ...]
    others: int = 0
    """Of templates, images, sounds."""

    def read(self) -> None:
        """Counts its bytes and its lines now, which it else does when it is asked for them."""
        _ = self.bytes, self.lines

    @functools.cached_property
    def bytes(self) -> int:
        """The bound that needs no other prompt."""
        return self.others + sum(map(_byte_count, self.texts))

    @functools.cached_property
    def lines(self) -> Lines | None:
        """How often each line is in the texts; None for a prompt that is too long to compare."""
        if sum(map(len, self.texts)) > _MOST_COMPARED:
            return None
        return Lines(line for text in self.texts for line in text.split("\n"))


def prompt_of(prompt: Any, options: Mapping[str, Any]) -> Prompt:
    """What a call of an LM with these arguments sends."""
    reader = _Reader()
    content = prompt if prompt is not None else options.get("messages", options.get("request"))
    reader.read(content)
    for name, value in options.items():
        if name not in {"messages", "request", *_UNCOUNTED}:
            reader.others += TOKENS_OF_TOOLS if name in ("tools", "functions") and value else 0
            reader.read(value)
    return Prompt(tuple(reader.texts), reader.others + TOKENS_A_REQUEST)


class _Reader:
    """Collects what is in a request: messages as dicts, the objects of DSPy's requests, schemas."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.others = 0

    def read(self, value: Any) -> None:
        """Takes in a part of a request, whatever it is."""
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, Mapping):
            self._read_mapping(value)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                self.read(item)
        elif isinstance(value, type) and issubclass(value, pydantic.BaseModel):
            # As it is, and with what a provider adds to make it strict.
            schema = json.dumps(value.model_json_schema())
            self.others += 2 * _byte_count(schema)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            self._read_mapping({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
        elif isinstance(value, pydantic.BaseModel):
            self._read_mapping(dict(value))
        elif value is not None:
            self.texts.append(str(value))

    def _read_mapping(self, entries: Mapping[Any, Any]) -> None:
        kind = entries.get("type")
        if kind in _IMAGES:
            self.others += TOKENS_AN_IMAGE
            return
        if kind in _SOUNDS:
            self.others += sum(map(len, _strings(entries))) // CHARS_OF_AUDIO_A_TOKEN
            return
        self.others += TOKENS_A_MESSAGE if "role" in entries else 0
        for name, value in entries.items():
            self.others += _byte_count(str(name))
            self.read(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)


def _byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


class Counted:
    """Prompts whose tokens are known, by who asked for what. Guarded by its owner."""

    def __init__(self) -> None:
        self._trusted: set[str] = set()
        self._known: dict[Any, tuple[Lines, int]] = {}
        self._factors: dict[str, float] = {}

    def trust(self, text: str) -> None:
        """Takes lines of ours, whose tokens are no riddle: ASCII that nobody else has written."""
        self._trusted.update(line.strip() for line in text.split("\n") if line.isascii())

    def bound(self, model: str, key: Any, prompt: Prompt) -> int:
        """The most tokens that the prompt has for this model."""
        most = prompt.bytes
        lines = prompt.lines
        if lines is not None:
            most -= sum(
                n * _spared(line.strip()) for line, n in lines.items() if self._trusts(line)
            )
            known = self._known.get((model, key))
            if known is not None:
                most = min(most, known[1] + prompt.others + _new_bytes(lines, known[0]))
        return int(most * self._factors.get(model, 1.0)) + 1

    def _trusts(self, line: str) -> bool:
        return line.strip() in self._trusted

    def learn(self, model: str, key: Any, prompt: Prompt, bound: int, tokens: int) -> None:
        """Takes in what the LM itself has counted; where that is more than the bound, it is raised."""
        if tokens > bound:
            factor = self._factors.get(model, 1.0)
            self._factors[model] = factor * tokens / bound
        lines = prompt.lines
        if lines is not None and tokens:
            self._known[model, key] = (lines, tokens)


def _new_bytes(lines: Lines, known: Lines) -> int:
    """The bytes of the lines that were not counted yet. Empty ones are counted anew: their tokens merge."""
    new = lines - known
    ends = lines.get("", 0)
    return ends + sum(n * (_byte_count(line) + 1) for line, n in new.items())


def _spared(line: str) -> int:
    """By how much a trusted line has fewer tokens than bytes, for sure."""
    return len(line) - min(len(line), len(line) // _BYTES_A_TRUSTED_TOKEN + 1)
