"""Combinations of the user's flags: a class of flags keeps each that was ever made, so their number is bounded.

Pydantic makes them on many routes: fields, aliases, keys, texts of JSON, extra fields. So the place where a class keeps
them decides, and not a prediction of what the conversion of a value would make.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, get_origin

from sandbox_runtime.host_costs import MAX_FLAG_COMBINATIONS
from sandbox_runtime.values.annotations import cached_by_type, types_in

# Of a class that does something else with bits that are no flags, only what it keeps is checked.
_KEEPS_OR_REFUSES = (enum.KEEP, enum.STRICT)

# What Pydantic converts only when it is read.
_LAZY = (Iterable, Iterator, Generator)

# Up to this many errors of a conversion are searched for one about flags.
_FEW_ERRORS = 100


class FlagError(ValueError):
    """A class of flags would have to keep a combination that it must not."""


class _Block:
    """A block in which no class may keep too much."""

    refusal = ""
    """Why the first combination was refused; empty if none was."""


_watching = threading.Lock()  # so that a class gets one dict
_current: ContextVar[_Block | None] = ContextVar("_current", default=None)


@contextlib.contextmanager
def bounded_flags(*annotations: Any) -> Iterator[None]:
    """Lets the classes of flags in some types keep no more than is bounded, whatever the block converts.

    `IntFlag(n)` keeps a member for any integer, and a combination that was forgotten would no longer equal an earlier
    one: flags are compared by identity. So bits that are no flags are refused, and new combinations beyond a number. In a
    union, a refused number may still be of another type. What other threads make is not touched, nor what is made outside
    of such a block; but the items of an `Iterable[...]` are converted when they are read, so its classes are always bounded.

    Raises:
        FlagError: The block has raised because a combination was refused.
    """
    found = [flags for annotation in annotations if (flags := _flags_in(annotation)).classes]
    if not found:
        yield
        return
    for classes, is_lazy in found:
        for cls in classes:
            _watch(cls, always=is_lazy)
    outer, block = _current.get(), _Block()
    _current.set(block)
    try:
        yield
    except Exception as error:
        if block.refusal and _is_of_flags(error):
            raise FlagError(block.refusal) from error
        raise
    finally:
        _current.set(outer)


@contextlib.contextmanager
def unbounded_flags() -> Iterator[None]:
    """Lets the user's own function, which a block with bounded flags calls, make what it likes."""
    block = _current.get()
    if block is None:
        yield
        return
    block.refusal = ""  # the conversion is over: an error is the function's own
    _current.set(None)
    try:
        yield
    finally:
        _current.set(block)


def _is_of_flags(error: Exception) -> bool:
    """Returns whether an error may be about a refused combination, which another type of a union may have taken."""
    import pydantic  # imported lazily, to keep the start of a session fast

    if not isinstance(error, pydantic.ValidationError) or error.error_count() > _FEW_ERRORS:
        return True
    return any(part["type"] in ("enum", "value_error") for part in error.errors(include_url=False))


# ---- Keeping ----


class _Kept(dict[Any, Any]):
    """What a class keeps by number. In a block with bounded flags it refuses what is too much."""

    always = False
    """Whether it refuses that outside of such a block too."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls._value2member_map_)
        self._cls = cls
        self._is_plain = (
            cls._missing_.__func__ is enum.Flag._missing_.__func__  # type: ignore[attr-defined]
            and cls._boundary_ in _KEEPS_OR_REFUSES
        )

    def __missing__(self, value: Any) -> Any:
        if self._is_plain and isinstance(value, int):
            self._check(value)  # before a member is made, which takes ten times as long
        raise KeyError(value)

    def setdefault(self, value: Any, member: Any = None) -> Any:
        self._check(value)
        return super().setdefault(value, member)

    def __setitem__(self, value: Any, member: Any) -> None:
        self._check(value)
        super().__setitem__(value, member)

    def _check(self, value: Any) -> None:
        block = _current.get()
        if (block is None and not self.always) or value in self:
            return
        problem = ""
        cls: Any = self._cls
        if len(self) >= MAX_FLAG_COMBINATIONS + len(cls.__members__):
            problem = f"{cls.__name__} has {len(self):,} combinations already"
        elif isinstance(value, int):
            mask, all_bits = cls._flag_mask_, cls._all_bits_
            if not ~all_bits <= value <= all_bits or (value & all_bits) & ~mask:
                problem = f"{value:#x}" if value.bit_length() > 1_000 else repr(value)
                problem = f"{problem:.100} has bits that are no flags of {cls.__name__}"
        if problem:
            if block is not None and not block.refusal:
                block.refusal = problem
            raise FlagError(problem)


def _watch(cls: Any, *, always: bool) -> None:
    """Makes a class of flags keep its members in a dict that can refuse further ones."""
    with _watching:
        earlier = kept = cls._value2member_map_
        if not isinstance(earlier, _Kept):
            cls._value2member_map_ = kept = _Kept(cls)
            for value, member in list(
                earlier.items()
            ):  # with those that another thread has just made
                dict.setdefault(kept, value, member)
        kept.always |= always


# ---- Types ----


class _Found(NamedTuple):
    """What is known of the flags in a type."""

    classes: frozenset[Any]
    is_lazy: bool
    """Whether a part of a value is converted only when it is read, as those of an `Iterable[...]` are."""


def _flags_in(annotation: Any) -> _Found:
    """Returns the classes of flags in a type, in the fields of its classes, and in what Pydantic builds for it."""
    listed = _listed(annotation)
    try:
        built = _built(annotation)
    except Exception:  # noqa: BLE001 - Pydantic does not convert to a type that it does not know
        return listed
    return _Found(listed.classes | built.classes, listed.is_lazy or built.is_lazy)


@cached_by_type
def _listed(annotation: Any) -> _Found:
    parts = list(types_in(annotation))
    is_lazy = any(get_origin(part) in _LAZY for part in parts)
    return _Found(frozenset(filter(_is_flag, parts)), is_lazy)


@cached_by_type
def _built(annotation: Any) -> _Found:
    """Searches the schema of a type. An error is not remembered: the type may be complete later."""
    found: set[Any] = set()
    is_lazy = False
    visited: dict[int, Any] = {}
    waiting: list[Any] = [] if _is_simple(annotation) else [_schema(annotation)]
    while waiting:
        part = waiting.pop()
        if _is_flag(part):
            found.add(part)
        elif isinstance(part, (Mapping, list, tuple)) and id(part) not in visited:
            visited[id(part)] = part  # keeps it alive, so that its id stays unique
            waiting += part.values() if isinstance(part, Mapping) else part
            is_lazy |= isinstance(part, Mapping) and part.get("type") == "generator"
    return _Found(frozenset(found), is_lazy)


def _is_simple(annotation: Any) -> bool:
    """Returns whether a type has no parts, so that no schema is needed."""
    if not isinstance(annotation, type):
        return annotation is Any or annotation is None
    return annotation.__module__ == "builtins" or issubclass(annotation, enum.Enum)


def _schema(annotation: Any) -> Any:
    import pydantic  # imported lazily, to keep the start of a session fast

    try:
        return pydantic.TypeAdapter(annotation).core_schema
    except pydantic.errors.PydanticUserError:  # a class that Pydantic does not know
        config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        return pydantic.TypeAdapter(annotation, config=config).core_schema


def _is_flag(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Flag)
