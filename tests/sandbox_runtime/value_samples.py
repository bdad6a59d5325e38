"""The classes, strategies and codec helpers that the tests of values share.

Both sides of the codec run in this process: `to_sandbox` is `ValueCodec.encode` and the guest's `receive`;
`to_host` is the guest's `send` and `ValueCodec.decode`.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
from collections import deque
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict

import pydantic
from hypothesis import strategies as st

from sandbox_runtime.guest.values import codec
from sandbox_runtime.guest.values.codec import receive
from sandbox_runtime.values.encoder import ValueCodec


class Color(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int


class Pair(NamedTuple):
    left: int
    right: str


class Person(pydantic.BaseModel):
    name: str
    born: datetime.date
    friends: list[Person] = []
    _secret: str = pydantic.PrivateAttr("s")


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Word(enum.StrEnum):
    YES = "yes"


class Size(str, enum.Enum):  # noqa: UP042 - the older way, which many still use
    BIG = "big"


class Animal(pydantic.BaseModel):
    name: str


class Cat(Animal):
    lives: int = 9
    toys: list[str] = pydantic.Field(default_factory=list)


class Event(pydantic.BaseModel):
    when: datetime.datetime = pydantic.Field(default_factory=datetime.datetime.now)


@dataclasses.dataclass(order=True)
class Version:
    major: int
    minor: int


@dataclasses.dataclass(eq=False)
class Token:
    x: int


class Movie(TypedDict):
    title: str


class Plain:
    def __init__(self):
        self.x = 1


def to_sandbox(value, value_codec=None):
    kind, parts = (value_codec or ValueCodec()).encode(value, "x")
    return receive(kind, [bytes(part) for part in parts])


def to_host(value, value_codec=None):
    text, extras = codec.send(value, "SUBMIT")
    return (value_codec or ValueCodec()).decode([text.encode(), *map(bytes, extras)])


def there_and_back(value, value_codec=None):
    value_codec = value_codec or ValueCodec()
    return to_host(to_sandbox(value, value_codec), value_codec)


def same(one, other):
    """Returns whether two values are equal in type and value at every level; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    return one == other


anything = st.text(st.characters(exclude_categories=()))  # lone surrogates as well
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | anything
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.builds(PurePosixPath, st.text("ab/.", max_size=5))
)
keys = st.integers() | anything | st.dates() | st.tuples(st.integers(), anything) | st.none()
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(anything | st.just("$"), inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.frozensets(keys, max_size=4)
        | st.sets(keys, max_size=4)
    ),
    max_leaves=20,
)
