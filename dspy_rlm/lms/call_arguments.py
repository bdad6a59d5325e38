"""The arguments of one LM call: their size, the limit of the reply, and a digest that equal calls share."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import pydantic

from dspy_rlm.budget.token_bounds import Prompt, prompt_of
from dspy_rlm.lms.call_readings import characters
from dspy_rlm.lms.valid_text import valid_arguments

# The options that limit the length of a reply; which one applies depends on the LM.
REPLY_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

# Options for several candidate replies, each of which is charged.
_CANDIDATES = ("n", "num_generations", "best_of")

# Characters that are encoded at a time for the digest, so that it makes no copy of a long prompt.
_HASHED_CHARS = 1 << 20

# Parts that are nested deeper enter the digest by their `repr`.
_MAX_DEPTH = 20


class CallArguments:
    """The arguments of one call, with text that is valid Unicode."""

    def __init__(self, lm: Any, prompt: Any, options: Mapping[str, Any]) -> None:
        self._known: OfLM | None = getattr(lm, "_digested", None)
        self.model = str(lm.model)
        self.prompt, self.options = valid_arguments(prompt, options)
        self._of_lm: Mapping[str, Any] = getattr(lm, "kwargs", {})
        self.merged: dict[str, Any] = {**self._of_lm, **self.options}
        """The options of the LM and of the call."""
        parts = (self.prompt, self.merged.get("messages"), self.merged.get("request"))
        self.chars = sum(map(characters, parts))

    def content(self) -> Prompt:
        """Returns the content, to bound its tokens."""
        return prompt_of(self.prompt, self.merged)

    def candidates(self) -> int:
        """Returns the number of replies that the call asks for."""
        counts = [c for name in _CANDIDATES if (c := _whole(self.merged.get(name))) is not None]
        return max([1, *counts])

    def reply_limit(self) -> int | None:
        """Returns the limit of the reply, in tokens, that the LM or the call sets."""
        request = self._request()
        if request is not None:
            return _whole(request.config.max_tokens)
        limits = [_whole(self.merged.get(name)) for name in REPLY_LIMITS]
        return max((limit for limit in limits if limit is not None), default=None)

    def limited_to(self, tokens: int | None) -> tuple[Any, Mapping[str, Any]]:
        """Returns the prompt and the options, with a reply of at most so many tokens."""
        request = self._request()
        if request is not None:
            config = dataclasses.replace(request.config, max_tokens=tokens)
            limited = dataclasses.replace(request, config=config)
            if self.prompt is not None:
                return limited, self.options
            return None, {**self.options, "request": limited}
        names = (
            [name for name in REPLY_LIMITS if self.merged.get(name) is not None]
            or [name for name in REPLY_LIMITS if name in self._of_lm]
            or [REPLY_LIMITS[0]]
        )
        return self.prompt, {**self.options, **dict.fromkeys(names, tokens)}

    def digest(self, without: frozenset[str] = frozenset()) -> bytes:
        """Returns a digest of the call, which equal calls share. Options `without` are left out."""
        if without:
            of_lm, options = (
                {name: value for name, value in side.items() if name not in without}
                for side in (self._of_lm, self.options)
            )
            digest = hashlib.sha256()
            _add(digest, (self.model, of_lm, self.prompt, options))
            return digest.digest()
        known = self._known
        if known is None or known[0] != (self.model, self._of_lm):
            known = begun_digest(self.model, self._of_lm)
        digest = known[1].copy()
        _add(digest, (self.prompt, self.options))
        return bytes(digest.digest())

    def _request(self) -> Any:
        """Returns DSPy's request object, if the call has one."""
        request = self.options.get("request") if self.prompt is None else self.prompt
        return request if hasattr(request, "config") else None


OfLM: TypeAlias = tuple[tuple[str, Mapping[str, Any]], Any]
"""A model and the options of its LM, and the beginning of the digests of its calls."""


def begun_digest(model: str, options: Mapping[str, Any]) -> OfLM:
    """Returns the beginning of a digest, which all calls of an LM share while its options stay the same."""
    digest = hashlib.sha256()
    _add(digest, (model, options))
    return (model, dict(options)), digest


def _add(digest: Any, value: Any, depth: int = 0) -> None:
    """Adds a value piece by piece, each with its kind and its length, so that different values differ."""
    if type(value) is str and len(value) <= _HASHED_CHARS:  # the most frequent case, in one piece
        digest.update(b"text %d:" % len(value) + value.encode("utf-8", "surrogatepass"))
        return
    if isinstance(value, str):
        digest.update(b"text %d:" % len(value))
        for start in range(0, len(value), _HASHED_CHARS):
            piece = value[start : start + _HASHED_CHARS]
            digest.update(piece.encode("utf-8", "surrogatepass"))
        return
    if isinstance(value, bytes):
        digest.update(b"bytes %d:" % len(value))
        digest.update(value)
        return
    parts = _parts(value) if depth < _MAX_DEPTH else None
    if parts is None:
        digest.update(b"value ")
        _add(digest, repr(value))
        return
    digest.update(f"{type(value).__qualname__} {len(parts)}:".encode("utf-8", "surrogatepass"))
    for part in parts:
        _add(digest, part, depth + 1)


def _parts(value: Any) -> list[Any] | None:
    """Returns the parts of a container or a record; None for other values."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, pydantic.BaseModel):
        value = dict(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return [part for pair in value.items() for part in pair] if isinstance(value, Mapping) else None


def _whole(value: Any) -> int | None:
    """Returns the value if it is an integer above 0, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
