"""Rules for values of the user's own types: one per type, passed when a session is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

# Rules do not apply to these: they cross unchanged, at the speed of C.
_FIXED = (type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset, object, type)


@dataclasses.dataclass(frozen=True)
class HandleType:
    """A rule whose values stay on the host. Cells get handles, which come back as the same objects.

    Raises:
        TypeError: `cls` is no class.
        ValueError: `cls` is a built-in type whose values always cross unchanged, such as `str` or `list`.
    """

    cls: type
    """The class. The rule also applies to its subclasses."""

    preview: Callable[[Any], str] | None = None
    """Returns a short description of a value, shown for its handle."""

    def __post_init__(self) -> None:
        _check_type(self.cls)


@dataclasses.dataclass(frozen=True)
class ValueType:
    """A rule whose values cross as plain data.

    Raises:
        TypeError: `cls` is no class.
        ValueError: `cls` is a built-in type whose values always cross unchanged, such as `str` or `list`.
    """

    cls: type
    """The class. The rule also applies to its subclasses."""

    to_plain: Callable[[Any], Any]
    """Returns the replacement that crosses: anything that can cross itself."""

    from_plain: Callable[[Any], Any] | None = None
    """Rebuilds a value from plain data, for outputs declared with this type."""

    def __post_init__(self) -> None:
        _check_type(self.cls)


@dataclasses.dataclass(frozen=True)
class CodeType:
    """A rule whose variables are created by code that runs in the sandbox, before the first cell.

    Such a value is a variable of its own, and cannot be a part of another one.

    Raises:
        TypeError: `cls` is no class.
        ValueError: `cls` is a built-in type whose values always cross unchanged, such as `str` or `list`.
    """

    cls: type
    """The class. The rule also applies to its subclasses."""

    payload: Callable[[Any], str | bytes]
    """Returns the data that the code works on."""

    code: Callable[[Any, str, str], str]
    """Returns statements that bind the variable. Called with the value, the variable's name and the data's name."""

    def __post_init__(self) -> None:
        _check_type(self.cls)


Rule: TypeAlias = HandleType | ValueType | CodeType
"""A rule by which values of one type cross to the sandbox. The first rule whose class a value is an instance of applies."""


def _check_type(kind: object) -> None:
    if not isinstance(kind, type):
        raise TypeError(f"A rule needs a class, not {kind!r}.")
    if kind in _FIXED:
        raise ValueError(
            f"There can be no rule for {kind.__name__}: its values always cross unchanged."
        )


class Rules:
    """The rules of a session; the first match applies."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = tuple(rules)
        self._by_type: dict[type, Rule | None] = {}

    def find(self, kind: type) -> Rule | None:
        """Returns the rule for a class, if there is one."""
        if not self._rules:
            return None
        if kind not in self._by_type:
            fits = (rule for rule in self._rules if issubclass(kind, rule.cls))
            self._by_type[kind] = next(fits, None)
        return self._by_type[kind]
