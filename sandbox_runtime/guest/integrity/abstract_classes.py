"""Lets abstract classes decide at once which classes are theirs.

If the own rule of an abstract class leaves that open, `isinstance` asks all classes that derive from it, and those that were
registered. Cells define such classes, and the answer would be code of theirs: also where the harness, or Pyodide for it,
asks in the middle of a later cell.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from types import NoneType
from typing import Any

_Rule = Callable[[type, type], Any]


def decide_for_the_harness() -> None:
    """Sets the rules of the abstract classes that are asked while a cell runs, or its error is reported."""
    for kind in (AsyncGenerator, Generator, Iterator):
        set_rule(kind, by_methods(kind, vars(kind)["__subclasshook__"].__func__))
    set_rule(Sequence, for_notes(Sequence))


def set_rule(kind: Any, rule: _Rule) -> None:
    """Sets the rule of an abstract class."""
    kind.__subclasshook__ = classmethod(rule)


def by_methods(kind: type, asked: _Rule) -> _Rule:
    """Returns the rule that refuses what another rule, which looks for methods, leaves open."""

    def __subclasshook__(cls: type, other: type) -> Any:  # noqa: N807 - the name that Python calls
        answer = asked(cls, other)
        return False if answer is NotImplemented and cls is kind else answer

    return __subclasshook__


def for_notes(kind: type) -> _Rule:
    """Returns a rule for the notes of an exception, which are a list if there are any. Leaves all else open."""

    def __subclasshook__(cls: type, other: type) -> Any:  # noqa: N807 - the name that Python calls
        if cls is not kind or (other is not list and other is not NoneType):
            return NotImplemented
        return other is list

    return __subclasshook__
