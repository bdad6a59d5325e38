"""Upper bounds of the tokens of a request, before it is sent. No I/O, and no tokenizer: these differ by model.

In every byte-level tokenizer, a token covers at least one byte of UTF-8. English has about four bytes per
token, so bytes alone are a loose bound. Lines that the same model has counted in an earlier prompt tighten
it: tokens do not cross the end of a line, except in runs of empty lines, so a prompt has at most the tokens
of the earlier one plus the bytes of its new lines.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

# Tokens of a provider's template around each message, and around all of them.
TOKENS_A_MESSAGE = 16
TOKENS_A_REQUEST = 64

# Providers add a text about tool use to the prompt; the longest known one is that of Anthropic (700).
TOKENS_OF_TOOLS = 1_024

# A large image as GPT-4o mini counts it, more than other models: 2,833, and 5,667 for each of 8 tiles.
TOKENS_AN_IMAGE = 50_000

# A document is not bounded by its bytes: a page is billed as an image and as its text, and a PDF of empty pages has few
# bytes a page. At most 1,000 pages are accepted (Gemini; Anthropic and OpenAI: 100), at up to 3,000 tokens for each of 100
# (Anthropic), or 258 for each of 1,000 (Gemini). A file by its address or id has no bytes at all.
TOKENS_A_DOCUMENT = 300_000

# Sound and video that are named by an address or an id: the longest that Gemini accepts, 9.5 hours of sound.
TOKENS_OF_HOURS = 1_100_000

# Gemini counts 32 tokens per second; the leanest codec has 750 bytes per second, 1,000 characters of base64.
CHARS_OF_AUDIO_A_TOKEN = 16

# Longer prompts are bounded by their bytes alone.
_MOST_COMPARED = 2_000_000

# Our own text and that of the program's author, in ASCII: English has 4 bytes per token, code 3.
_BYTES_A_TRUSTED_TOKEN = 2

_IMAGES = frozenset({"image_url", "image", "input_image"})
_DOCUMENTS = frozenset({"file", "input_file", "document", "binary", "media"})
_VIDEOS = frozenset({"video", "video_url", "input_video"})
_REFERENCES = ("url", "file_id", "path", "file_uri", "fileUri")
_SOUNDS = frozenset({"input_audio", "audio"})
# Options without tokens: they stay in the client, or are numbers.
_UNCOUNTED = frozenset({"api_key", "api_base", "base_url", "headers", "extra_headers", "cache"})

Lines = collections.Counter[str]


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The content of a request: its texts, and an upper bound of the tokens of everything else."""

    texts: tuple[str, ...]
    others: int = 0
    """Tokens of templates, images and audio."""

    def read(self) -> None:
        """Computes `bytes` and `lines` now instead of on first use."""
        _ = self.bytes, self.lines

    @functools.cached_property
    def bytes(self) -> int:
        """The bound by bytes alone."""
        return self.others + sum(map(_byte_count, self.texts))

    @functools.cached_property
    def lines(self) -> Lines | None:
        """The lines of the texts with their counts; None for a prompt that is too long to compare."""
        if sum(map(len, self.texts)) > _MOST_COMPARED:
            return None
        return Lines(line for text in self.texts for line in text.split("\n"))


def prompt_of(prompt: Any, options: Mapping[str, Any]) -> Prompt:
    """Returns the content of the request for an LM call with these arguments."""
    reader = _Reader()
    content = prompt if prompt is not None else options.get("messages", options.get("request"))
    reader.read(content)
    for name, value in options.items():
        if name not in {"messages", "request", *_UNCOUNTED}:
            reader.others += TOKENS_OF_TOOLS if name in ("tools", "functions") and value else 0
            reader.read(value)
    return Prompt(tuple(reader.texts), reader.others + TOKENS_A_REQUEST)


class _Reader:
    """Collects the content of a request: messages as dicts, DSPy's request objects, schemas."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.others = 0

    def read(self, value: Any) -> None:
        """Adds a part of a request, of any type."""
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, Mapping):
            self._read_mapping(value)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                self.read(item)
        elif isinstance(value, type) and issubclass(value, pydantic.BaseModel):
            # Twice: a provider extends the schema to make it strict.
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
        if kind in _VIDEOS or (kind in _SOUNDS and _is_reference(entries)):
            self.others += TOKENS_OF_HOURS
            return
        if kind in _SOUNDS:
            self.others += sum(map(len, _strings(entries))) // CHARS_OF_AUDIO_A_TOKEN
            return
        if kind in _DOCUMENTS and not _is_text_file(entries):
            self.others += TOKENS_A_DOCUMENT
        self.others += TOKENS_A_MESSAGE if "role" in entries else 0
        for name, value in entries.items():
            self.others += _byte_count(str(name))
            self.read(value)


def _is_reference(entries: Mapping[Any, Any]) -> bool:
    """Returns whether a part of a prompt names its content, instead of having it."""
    return any(
        (name in _REFERENCES and bool(value) and not str(value).startswith("data:"))
        or (isinstance(value, Mapping) and _is_reference(value))
        for name, value in entries.items()
    )


def _is_text_file(entries: Mapping[Any, Any]) -> bool:
    """Returns whether a file is here as a text, which its bytes bound."""
    is_here = any(text.startswith("data:text/") for text in _strings(entries))
    return is_here and not _is_reference(entries)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)


def _byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


class Counted:
    """Prompts with known tokens, by model and kind of call. The owner locks it."""

    def __init__(self) -> None:
        self._trusted: set[str] = set()
        self._known: dict[Any, tuple[Lines, int]] = {}
        self._factors: dict[str, float] = {}

    def trust(self, text: str) -> None:
        """Adds lines of our own or the program's author, in ASCII, whose ratio of bytes to tokens is known."""
        self._trusted.update(line.strip() for line in text.split("\n") if line.isascii())

    def bound(self, model: str, key: Any, prompt: Prompt) -> int:
        """Returns the upper bound of the prompt's tokens for this model."""
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
        """Adds the LM's own count; a count above the bound raises later bounds."""
        if tokens > bound:
            factor = self._factors.get(model, 1.0)
            self._factors[model] = factor * tokens / bound
        lines = prompt.lines
        if lines is not None and tokens:
            self._known[model, key] = (lines, tokens)


def _new_bytes(lines: Lines, known: Lines) -> int:
    """Returns the bytes of new lines. Empty lines count as new: their tokens merge."""
    new = lines - known
    ends = lines.get("", 0)
    return ends + sum(n * (_byte_count(line) + 1) for line, n in new.items())


def _spared(line: str) -> int:
    """Returns the guaranteed difference between a trusted line's bytes and its tokens."""
    return len(line) - min(len(line), len(line) // _BYTES_A_TRUSTED_TOKEN + 1)
