"""The regular expressions in a cell's signature: bounds on compiling and on matching them.

Pydantic matches with Rust's `regex`, whose time is linear in the size of the pattern times the length of the text. Its
memory at the first match is linear in the size of the pattern times the number of its groups, and it is never returned
while the pattern lives.
"""

from __future__ import annotations

import functools
import re
import time
import typing
from typing import Any

import pydantic
import pydantic_core
from pydantic_core import core_schema

from sandbox_runtime.helpers import (
    MATCHING_SECONDS,
    MAX_MATCHED_CHARS,
    MAX_MATCHING_STEPS,
    MAX_PATTERN_CHARS,
    MAX_PATTERN_SLOTS,
    MAX_PATTERN_STATES,
    MAX_REPETITIONS,
    SECONDS_PER_MATCHED_BYTE,
)

# An escape, a repetition, the beginning of a group, or any other character.
_TOKEN = re.compile(
    r"\\[pPxuU]\{[^}]*\}|\\.|\{\s*\d+\s*,?\s*\d*\s*\}|\((?:\?(?!P?<))?|.", re.DOTALL
)
_COUNT = re.compile(r"\d+")

# In this mode a pattern may contain spaces and comments, also within a repetition: `a{#}\n1000}`.
_VERBOSE = re.compile(r"\(\?[A-Za-z-]*x")

# At most this many states of the automaton for a character class (measured: \w has 320); 4 for any other token.
_STATES = {
    **dict.fromkeys("pPwW", 400),
    **dict.fromkeys("dD", 60),
    **dict.fromkeys("sSbB", 20),
    ".": 10,
}

# The number of compiled patterns that are kept, and of bytes that all of them match until they are dropped: the
# memory of a compiled pattern grows with what it matches.
_KEPT_PATTERNS = 16
_KEPT_BYTES = 20_000

# From this number of states compiled, 4 MB, what Pydantic keeps is displaced, which takes 4 ms.
_KEPT_STATES = 20_000
_PYDANTIC_KEEPS = 64


class Patterns:
    """The patterns of one signature, with the work that they have caused."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[int, int]] = {}
        # Threads may lose an addition to each other; the bounds are not that precise.
        self._seconds = 0.0
        self._bytes = 0

    def matching(self, annotation: Any, pattern: Any) -> Any:
        """Returns the type of texts that match the pattern.

        Raises:
            ValueError: The pattern is invalid, or too expensive to compile or to match.
        """
        tokens = self._admit(pattern)

        # `typing` keeps this function, as an annotation, longer than the signature: it must not hold a compiled pattern.
        def check(value: Any) -> Any:
            if isinstance(value, str):
                self._match(pattern, tokens, value)
            return value

        checked: Any = typing.Annotated[annotation, pydantic.AfterValidator(check)]
        if annotation is not str:
            return checked
        schema = pydantic.WithJsonSchema({"type": "string", "pattern": pattern})
        return typing.Annotated[checked, schema]

    def _admit(self, pattern: Any) -> int:
        """Checks a pattern, and returns the number of its tokens after repetition."""
        if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_CHARS:
            raise ValueError(f"A pattern is a text of at most {MAX_PATTERN_CHARS} characters.")
        if _VERBOSE.search(pattern):
            raise ValueError(
                f"The pattern {pattern!r:.200} has the flag x; write it without spaces."
            )
        tokens, states, groups, repetitions = _size(pattern)
        if repetitions > MAX_REPETITIONS:
            raise ValueError(
                f"The pattern {pattern!r:.200} repeats its parts more than {MAX_REPETITIONS} times; use * or +."
            )
        if not self._states:
            _kept.forget()  # at most the patterns of one signature are kept
        self._states[pattern] = (states, states * 2 * (groups + 1))
        all_states, all_slots = map(sum, zip(*self._states.values(), strict=True))
        if all_states > MAX_PATTERN_STATES or all_slots > MAX_PATTERN_SLOTS:
            raise ValueError(
                f"The pattern {pattern!r:.200} makes the patterns of this signature too large. Repeat classes like "
                r"\w and \p{L} less often, write [a-z] where that is enough, and (?:...) in place of (...)."
            )
        _kept.add_states(states)
        try:
            _compiled(pattern)
        except pydantic_core.SchemaError as error:
            reason = str(error).partition("SchemaError:")[2].strip() or str(error)
            raise ValueError(
                f"The pattern {pattern!r:.200} cannot be used: {reason}"[:500]
            ) from error
        return tokens

    def _match(self, pattern: str, tokens: int, text: str) -> None:
        """Raises `ValueError` if the text does not match, or if matching takes too much time."""
        size = len(text.encode("utf-8", "surrogatepass"))
        longest = min(MAX_MATCHED_CHARS, MAX_MATCHING_STEPS // tokens)
        if size > longest:
            raise ValueError(f"a text for this pattern has at most {longest:,} characters")
        if self._seconds > MATCHING_SECONDS + SECONDS_PER_MATCHED_BYTE * self._bytes:
            raise ValueError("the patterns of this signature take too long to match; simplify them")
        began = time.thread_time()
        try:
            _compiled(pattern).validate_python(text)
        except pydantic.ValidationError:
            raise ValueError(f"String should match pattern '{pattern}'") from None
        finally:
            self._seconds += time.thread_time() - began
            self._bytes += size
            _kept.add_bytes(size)


def _size(pattern: str) -> tuple[int, int, int, int]:
    """Returns the most tokens, states and groups that the pattern can have, and the product of its repetitions.

    Every repetition is counted as if it repeated the whole pattern, and every parenthesis as if none stood in a class.
    """
    tokens = states = repetitions = 1
    groups = 0
    for part in _TOKEN.findall(pattern):
        if part[0] == "{" and len(part) > 1:
            repetitions *= max(1, *(int(count[:9]) for count in _COUNT.findall(part)))
            continue
        tokens += 1
        groups += part == "("
        states += _STATES.get(part[1] if part[0] == "\\" and part[1:] else part, 4)
    return tokens * repetitions, states * repetitions, groups, repetitions


@functools.lru_cache(maxsize=_KEPT_PATTERNS)
def _compiled(pattern: str) -> pydantic_core.SchemaValidator:
    return pydantic_core.SchemaValidator(core_schema.str_schema(pattern=pattern))


class _Kept:
    """Drops compiled patterns before they take much memory."""

    def __init__(self) -> None:
        self._bytes = 0
        self._states = 0

    def add_bytes(self, size: int) -> None:
        """Notes that a text was matched."""
        self._bytes += size
        if self._bytes > _KEPT_BYTES:
            self._bytes = 0
            _compiled.cache_clear()

    def add_states(self, states: int) -> None:
        """Notes that a pattern is compiled."""
        self._states += states

    def forget(self) -> None:
        """Drops everything. Pydantic itself keeps its last 50 patterns, so large ones are displaced by small ones."""
        _compiled.cache_clear()
        if self._states > _KEPT_STATES:
            self._states = 0
            for n in range(_PYDANTIC_KEEPS):
                _compiled.__wrapped__(f"x{n}")


_kept = _Kept()
