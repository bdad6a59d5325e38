"""Decimals with extreme exponents are refused after a conversion, wherever a value has them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pydantic
import pytest

from sandbox_runtime.host_costs import MAX_DIGITS
from sandbox_runtime.values.bounds.exponents import check_exponent, check_exponents

HUGE, TINY = Decimal("1e999999999"), Decimal("1e-999999999")


class Price(pydantic.BaseModel):
    """A model with a decimal, and another of its kind."""

    amount: Decimal
    other: Price | None = None


@dataclasses.dataclass
class Item:
    """A record that has a decimal only in a part."""

    price: Price


class Pair(NamedTuple):
    """A named tuple with a decimal."""

    name: str
    amount: Decimal


def price(amount: Decimal) -> Price:
    return Price.model_construct(amount=amount)


PLACES: dict[str, tuple[Any, Any]] = {
    "alone": (Decimal, HUGE),
    "tiny": (Decimal, TINY),
    "negative": (Decimal, Decimal("-1e999999999")),
    "with many digits": (Decimal, Decimal("9" * (MAX_DIGITS + 2))),
    "optional": (Decimal | None, HUGE),
    "constrained": (Annotated[Decimal, pydantic.Field(gt=0)], HUGE),
    "in a list": (list[Decimal], [Decimal(1), HUGE]),
    "in a sequence": (Sequence[Decimal], [HUGE]),
    "in a deque": (collections.deque[Decimal], collections.deque([HUGE])),
    "in a set": (set[Decimal], {HUGE}),
    "as a key": (dict[Decimal, int], {HUGE: 1}),
    "in a dict of lists": (dict[str, list[Decimal]], {"a": [Decimal(1)], "b": [HUGE]}),
    "in a model": (Price, price(HUGE)),
    "in a model in a model": (Price, Price.model_construct(amount=Decimal(1), other=price(HUGE))),
    "in a dataclass": (list[Item], [Item(price(HUGE))]),
    "in a named tuple": (Pair, Pair("a", HUGE)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_huge_exponent(place):
    """A number that `int()` would expand to a billion digits is refused at any place of a value."""
    annotation, value = PLACES[place]

    with pytest.raises(ValueError, match=r"an exponent beyond 4,200"):
        check_exponents(annotation, value)


@pytest.mark.parametrize("text", ["0", "1.10", "-1e4200", "1e-4200", "NaN", "Infinity", "9" * 4200])
def test_honest_numbers(text):
    """Numbers with as many digits as an integer from the sandbox may have are accepted, and those that are none."""
    check_exponent(Decimal(text))
    check_exponents(list[Decimal], [Decimal(text)])


def test_a_value_that_contains_itself():
    """Every part is visited once."""
    value: list[Any] = [Decimal(1)]
    value.append(value)

    check_exponents(list[Decimal | list[Any]], value)


def test_other_types_are_not_searched():
    """A value of a type without decimals costs nothing, however large it is."""
    check_exponents(list[int], [HUGE])
