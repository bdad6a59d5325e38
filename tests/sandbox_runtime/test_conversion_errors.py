"""The errors and defaults of a conversion stay in proportion to the value."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import random
import uuid
from decimal import Decimal
from typing import Annotated, Any, Generic, NamedTuple, Optional, TypeVar, Union

import pydantic
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field, create_model
from typing_extensions import TypedDict

from sandbox_runtime.values.bounds.conversion_cost import EffortError
from sandbox_runtime.values.bounds.conversion_errors import check_errors
from sandbox_runtime.values.bounds.converted_keys import check_making
from tests.measuring import Cost

WIDTH = 200
NAMES = [f"f{number}" for number in range(WIDTH)]

T = TypeVar("T")


class Tree(BaseModel):
    """A recursive record."""

    name: int
    children: list[Tree] = []


@dataclasses.dataclass
class Box(Generic[T]):
    """A generic record."""

    content: T
    a: int
    b: int
    c: int


class Point(NamedTuple):
    """A record that is also a list."""

    x: int
    y: int
    z: int
    u: int = 0


Model: Any = create_model("Model", **dict.fromkeys(NAMES, (int, ...)))
Defaults: Any = create_model("Defaults", **dict.fromkeys(NAMES, (int, 0)))
Data: Any = dataclasses.make_dataclass("Data", [(name, int) for name in NAMES])
Typed: Any = TypedDict("Typed", dict.fromkeys(NAMES, int))  # type: ignore[misc]
Tuple: Any = NamedTuple("Tuple", [(name, int) for name in NAMES])  # type: ignore[misc]
Outer: Any = create_model("Outer", inner=(list[Model], ...))
SCALARS: Any = Union[int, float, bool, datetime.date, datetime.time, uuid.UUID, Decimal, None]  # noqa: UP007

# Each takes from 300 bytes to 60 kB for an element of two or three characters.
WIDE = {
    "a model": (list[Model], {}),
    "a dataclass": (list[Data], {}),
    "a typed dict": (list[Typed], {}),
    "a named tuple": (list[Tuple], []),
    "a named tuple from a dict": (list[Tuple], {}),
    "a model of defaults": (list[Defaults], {}),
    "an optional model": (list[Optional[Model]], {}),  # noqa: UP045
    "a union of models": (list[Model | Defaults], {}),
    "an annotated model": (list[Annotated[Model, Field(title="x")]], {}),
    "a dict of models": (dict[str, Model], {}),
    "a fixed tuple": (list[tuple[(int,) * WIDTH]], []),
    "scalars of many types": (list[SCALARS], [1]),
    "a text of many types": (list[SCALARS], ""),
    "models in a model": (Outer, {}),
    "a generic dataclass": (list[Box[Model]], {"content": {}}),
}


def many(kind: Any, part: Any, count: int) -> Any:
    """Returns a value of so many parts for the type."""
    parts = [part.copy() if isinstance(part, (dict, list)) else part for _ in range(count)]
    if kind is Outer:
        return {"inner": parts}
    return (
        dict(zip(map(str, range(count)), parts, strict=True)) if kind == dict[str, Model] else parts
    )


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", WIDE)
def test_few_characters_for_many_errors(name):
    """What would need hundreds of megabytes is refused in time and memory that its length allows."""
    kind, part = WIDE[name]
    value = many(kind, part, 30_000)

    with Cost() as cost, pytest.raises(EffortError, match="Check one of its parts"):
        check_making(kind, value)

    assert cost.cpu_seconds < 4.0
    assert cost.peak_bytes < 128 * 1024 * 1024


@pytest.mark.parametrize("name", WIDE)
def test_few_parts(name):
    """Of a small value, the type decides: Pydantic names the places of its errors."""
    kind, part = WIDE[name]

    check_making(kind, many(kind, part, 20))


def test_the_bound_is_one_of_memory():
    """Whatever passes takes no more than the free bytes and the multiple of its length in errors."""
    value = [{} for _ in range(500)]
    check_errors(list[Model], value)

    with Cost() as cost, pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(list[Model]).validate_python(value)

    assert cost.peak_bytes < 64 * 1024 * 1024


def complete(number: int) -> dict[str, Any]:
    return dict.fromkeys(NAMES, number)


class Renamed(BaseModel):
    """A record whose fields arrive under other names."""

    a: int = Field(alias="A")
    b: int = Field(validation_alias=AliasChoices("B", "bb"))
    c: int = Field(validation_alias=AliasPath("deep", 0))


class Filled(BaseModel):
    """A record that completes itself."""

    a: int
    b: int
    c: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def fill(cls, data: Any) -> Any:
        """Adds what is absent."""
        return {"a": 1, "b": 2, "c": 3, **data}


# Honest values that would be over the bound if any of their fields or parts were counted as absent.
HONEST = {
    "complete records": (list[Model], [complete(number) for number in range(2_000)]),
    "one of two models": (list[Model | Point], [{"x": 1, "y": 2, "z": 3} for _ in range(30_000)]),
    "sparse records": (list[Defaults], [{"f1": 1, "f50": 2, "f99": 3} for _ in range(4_000)]),
    "other names": (list[Renamed], [{"A": 1, "bb": 2, "deep": [3]} for _ in range(60_000)]),
    "records that complete themselves": (list[Filled], [{"a": 1} for _ in range(60_000)]),
    "named tuples": (list[Point], [[1, 2, 3] for _ in range(60_000)]),
    "a dict beside a model": (list[Model | dict[str, int]], [{} for _ in range(60_000)]),
    "scalars of many types": (
        list[SCALARS],
        random.Random(1).choices([1, 1.5, None, True], k=60_000),
    ),
    "dates as texts": (
        list[datetime.date | datetime.time | uuid.UUID | None],
        ["2026-11-29"] * 60_000,
    ),
    "optional numbers": (list[int | float | None], ["1"] * 5_000 + [1] * 200_000),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_values(name):
    """A value that fits its type is not refused, however large it is."""
    kind, value = HONEST[name]

    check_errors(kind, value)
    pydantic.TypeAdapter(kind).validate_python(value)


def test_deep_values():
    """A value nested too deeply for a walk is refused only if it is large."""
    gc.collect()  # the finalizers of other tests would fail at that depth
    deep: Any = {"name": 1, "children": []}
    for _ in range(600):
        deep = {"name": 1, "children": [deep]}
    wide: Any = [{} for _ in range(200_000)]
    for _ in range(600):
        wide = [{"name": 1, "children": wide}]

    check_errors(Tree, deep)
    with pytest.raises(EffortError):
        check_errors(list[Tree], wide)


def test_a_value_that_contains_itself():
    """The walk ends."""
    loop: Any = {"name": 1}
    loop["children"] = [loop]

    check_errors(Tree, loop)
