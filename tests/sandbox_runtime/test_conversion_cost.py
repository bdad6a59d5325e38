"""The work of converting a value to a type is bounded before the conversion."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar

import pydantic
import pytest
from pydantic import AliasPath, BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict

from sandbox_runtime.values.bounds.conversion_cost import (
    EffortError,
    check_effort,
    check_text_effort,
)


class Left(BaseModel):
    """A model with the same field as `Right`."""

    x: Left | Right | None = None


class Right(BaseModel):
    """A model with the same field as `Left`."""

    x: Left | Right | None = None


class Tree(BaseModel):
    """A recursive model without a union."""

    children: list[Tree] = []


class Plus(BaseModel):
    """One of two kinds of expression."""

    op: Literal["+"]
    a: Plus | Times | int
    b: Plus | Times | int


class Times(BaseModel):
    """The other kind of expression."""

    op: Literal["*"]
    a: Plus | Times | int
    b: Plus | Times | int


@dataclasses.dataclass
class Node:
    """A dataclass that refers to another one."""

    x: Node | Twin | None = None


@dataclasses.dataclass
class Twin:
    """A dataclass with the same fields as `Node`."""

    x: Node | Twin | None = None


Json = TypeAliasType("Json", "dict[str, Json] | list[Json] | str | int | None")
Lists = TypeAliasType("Lists", "list[Lists] | tuple[Lists, ...] | int")


class Pair(NamedTuple):
    """A named tuple."""

    a: int
    b: str


class Facts(TypedDict):
    """A typed dict."""

    a: list[int]


T = TypeVar("T")


class First(BaseModel, Generic[T]):
    """A generic class, which Pydantic refers to in its own way."""

    x: First[T] | Second[T] | T | None = None


class Second(BaseModel, Generic[T]):
    """A generic class with the same field as `First`."""

    x: First[T] | Second[T] | T | None = None


class Upper(BaseModel):
    """A model that reads its field from a path within the value."""

    x: Upper | Lower | None = Field(None, validation_alias=AliasPath("x", 0))


class Lower(BaseModel):
    """A model with the same path as `Upper`."""

    x: Upper | Lower | None = Field(None, validation_alias=AliasPath("x", 0))


class Open(BaseModel, extra="allow"):
    """A model with extra fields."""

    __pydantic_extra__: dict[str, Open | Wide]


class Wide(BaseModel, extra="allow"):
    """Another model with extra fields."""

    __pydantic_extra__: dict[str, Open | Wide]


def paths(depth, leaf):
    """Returns a value with the field of `Upper` at each level."""
    value = leaf
    for _ in range(depth):
        value = {"x": [value]}
    return value


def nested(depth, leaf=None):
    """Returns dicts nested in dicts."""
    value = leaf
    for _ in range(depth):
        value = {"x": value}
    return value


def lists(depth, leaf):
    """Returns lists nested in lists."""
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


def expression(depth):
    """Returns a nested sum."""
    return 1 if depth == 0 else {"op": "+", "a": expression(depth - 1), "b": expression(depth - 1)}


HONEST = [
    (Left | Right, nested(10)),
    (Tree, {"children": [{"children": []}] * 1000}),
    (list[Tree], [{"children": []}] * 10_000),
    (Json, [{"a": [1, {"b": None}]} for _ in range(10_000)]),
    (Json, nested(90, 1)),
    (Plus | Times, expression(7)),
    (dict[str, list[int] | list[str]], {str(k): [k] for k in range(1000)}),
    (list[int] | tuple[int, ...], list(range(1000))),
    (Pair | Facts, [1, "a"]),
    (Annotated[Pair, "noted"] | None, None),
    (Mapping[str, Json], {"a": []}),
    (int | str, "x" * 1000),
    (Left, Left()),
]

HOSTILE = [
    (Left | Right, nested(40)),
    (Left | Right, nested(40, "wrong")),
    (Left, nested(90)),
    (list[Left | Right], [nested(17) for _ in range(10)]),
    (Node | Twin, nested(40)),
    (Lists, lists(40, "x")),
    (Plus | Times, expression(12)),
    (Left | Right, nested(395)),
    (First[int] | Second[int], nested(40, "wrong")),
    (Upper | Lower, paths(40, "wrong")),
    (Open | Wide, nested(40, "wrong")),
]


@pytest.mark.parametrize(("annotation", "value"), HONEST, ids=str)
def test_honest_values(annotation, value):
    """Honest values are within the bound, and convert as with Pydantic alone."""
    check_effort(annotation, value)

    with contextlib.suppress(
        pydantic.ValidationError
    ):  # some are invalid; the conversion must only be fast
        pydantic.TypeAdapter(annotation).validate_python(value)


@pytest.mark.parametrize(("annotation", "value"), HOSTILE, ids=lambda part: str(part)[:40])
def test_values_that_multiply(annotation, value):
    """Values that multiply the tries are refused, and the check itself is fast."""
    began = time.thread_time()

    with pytest.raises(EffortError, match=r"unions in unions|nested too deeply"):
        check_effort(annotation, value)

    assert time.thread_time() - began < 2


def test_a_text_of_such_a_value():
    """Only brackets count, and only for types with unions in unions."""
    text = '{"x": ' * 40 + "null" + "}" * 40

    with pytest.raises(EffortError, match="40 levels"):
        check_text_effort(Left | Right, text)
    check_text_effort(Tree, text)
    check_text_effort(Left | Right, text[-30:])


def test_discriminated_unions():
    """A discriminated union still counts as if all alternatives were tried, up to the same bound."""
    kinds = Annotated[Plus | Times, Field(discriminator="op")]

    check_effort(kinds, expression(6))


def test_a_value_that_holds_itself():
    """A value that contains itself is counted once."""
    loop: dict[str, object] = {}
    loop["x"] = loop

    check_effort(Left | Right, loop)


def test_an_unknown_type():
    """An unknown type counts as no work."""
    check_effort("nonsense", nested(50))
    check_effort(object(), nested(50))
