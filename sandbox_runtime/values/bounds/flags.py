"""Combinations of the user's flags: a class of flags keeps each that was ever made, so their number is bounded."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from sandbox_runtime.host_costs import MAX_FLAG_COMBINATIONS


def flag_validator(cls: type[enum.Flag]) -> Callable[[Any], enum.Flag]:
    """Returns a function that builds a combination of the class's own flags, or raises `ValueError`."""

    def build(value: Any) -> enum.Flag:
        check_flag(cls, value)
        return cls(value)

    return build


def check_flag(cls: Any, value: Any) -> Any:
    """Returns the value unchanged, unless the class would have to keep it as a new combination and cannot.

    `IntFlag(n)` keeps a member for any integer, and a combination that was forgotten would no longer equal an earlier
    one: flags are compared by identity. So bits that are no flags are refused, and new combinations beyond a number.
    """
    if type(value) is not int:
        return value
    mask, all_bits = cls._flag_mask_, cls._all_bits_
    if not ~all_bits <= value <= all_bits or (value & all_bits) & ~mask:
        raise ValueError(f"{value!r:.100} has bits that are no flags of {cls.__name__}")
    kept = cls._value2member_map_
    if value not in kept and len(kept) >= MAX_FLAG_COMBINATIONS + len(cls.__members__):
        raise ValueError(f"{cls.__name__} has {len(kept):,} combinations already")
    return value
