"""The table of `docs/values.md`, row by row, and round trips through a real sandbox."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import math
import os
import signal
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from cells import output
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox_runtime import (
    CodeType,
    Completed,
    Failed,
    HandleType,
    Submitted,
    ValueCrossingError,
    ValueType,
    open_session,
)
from sandbox_runtime.guest.values import codec
from sandbox_runtime.values.chunks import Stream
from sandbox_runtime.values.encoder import ValueCodec


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


@dataclasses.dataclass(frozen=True)
class Place:
    name: str
    at: tuple[float, float] = (0.0, 0.0)


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Animal(pydantic.BaseModel):
    name: str
    born: datetime.date | None = None


class Cat(Animal):
    lives: int = 9
    friends: list[Animal] = []
    color: Color = Color.RED


class Aliased(pydantic.BaseModel):
    name: str = pydantic.Field(alias="fullName")


class Names(pydantic.RootModel[list[str]]):
    pass


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


class Movie(TypedDict):
    title: str


class Photo:
    """A type whose values stay on the host."""


class Money:
    """A type whose values cross as plain data."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


class Grid:
    """A type whose variables are created by code."""

    def __init__(self, size: int) -> None:
        self.size = size


TYPES = [
    HandleType(Photo, lambda photo: "png,\n12 bytes"),
    ValueType(Money, lambda money: {"cents": money.cents}),
    CodeType(
        Grid,
        lambda grid: str(grid.size),
        lambda grid, name, data: f"from math import inf\n{name} = [[0] * int({data})]",
    ),
    list[Cat],
    Pair,
    Movie,
]


@pytest.fixture(scope="module")
def given_back():
    """The arguments of the tool `give`, in all tests of this module."""
    return []


@pytest.fixture(scope="module")
def session(given_back):
    """One session for all tests, which use different variable names."""

    def give(value):
        given_back.append(value)
        return value

    with open_session(tools={"give": give}, types=TYPES) as opened:
        yield opened


def submitted(session, code="SUBMIT(v)"):
    """Returns the output that a cell submits."""
    result = session.run_cell(code)
    assert isinstance(result, Submitted), result
    return result.outputs["output"]


NOON = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
CAT = Cat(name="Tom", born="2020-01-02", friends=[Animal(name="Rex")])

# A value, an expression that is true of it in a cell, and the value that comes back: the rows of the documentation.
ROWS = [
    (None, "v is None", None),
    (True, "v is True", True),
    (10**40, "v + 1 - 10**40 == 1", 10**40),
    (math.inf, "v > 1", math.inf),
    (1 + 2j, "v.imag == 2", 1 + 2j),
    ("naïve \ud800", "len(v) == 7", "naïve \ud800"),
    (b"ab", "v[0] == 97", b"ab"),
    (bytearray(b"ab"), "type(v) is bytearray", b"ab"),
    ([1, [2]], "v[1][0] == 2", [1, [2]]),
    ((1, (2,)), "type(v) is tuple", (1, (2,))),
    ({1: "a", (2, 3): {"$": 1}}, "v[2, 3] == {'$': 1}", {1: "a", (2, 3): {"$": 1}}),
    ({1, 2}, "type(v) is set", {1, 2}),
    (frozenset({1}), "type(v) is frozenset", frozenset({1})),
    (collections.deque([1, 2], 2), "v.maxlen == 2", [1, 2]),
    (collections.Counter("aab"), "v.most_common(1) == [('a', 2)]", {"a": 2, "b": 1}),
    (NOON, "v.utcoffset().seconds == 7200 and v.tzinfo.key == 'Europe/Berlin'", NOON),
    (datetime.date(2024, 1, 2), "v.day == 2", datetime.date(2024, 1, 2)),
    (datetime.time(1, 2), "v.minute == 2", datetime.time(1, 2)),
    (datetime.timedelta(1), "v.days == 1", datetime.timedelta(1)),
    (Decimal("1.10"), "str(v) == '1.10'", Decimal("1.10")),
    (Fraction(1, 3), "v * 3 == 1", Fraction(1, 3)),
    (uuid.UUID(int=1), "v.int == 1", uuid.UUID(int=1)),
    (PurePosixPath("/a/b"), "v.name == 'b'", PurePosixPath("/a/b")),
    (CAT, "v.friends[0].name == 'Rex' and isinstance(v, Cat) and isinstance(v, Animal)", CAT),
    (Aliased(fullName="Ada"), "v.name == 'Ada'", Aliased(fullName="Ada")),
    (Names(["a"]), "v.root == ['a']", Names(["a"])),
    (Open(a=1, b=2), "v.b == 2", Open(a=1, b=2)),
    (Point(1, [Pair(2)]), "v.y[0].left == 2 and v['x'] == 1", Point(1, [Pair(2)])),
    ({Place("a"): 1}, "v[Place('a')] == 1", {Place("a"): 1}),
    (Pair(1), "v == (1, 'r') and isinstance(v, Pair)", Pair(1)),
    (Color.BLUE, "v is Color.BLUE and [c.name for c in Color] == ['RED', 'BLUE']", Color.BLUE),
    (Level.HIGH, "v + 1 == 4 and isinstance(v, Level)", Level.HIGH),
    (Access.READ | Access.WRITE, "Access.READ in v", Access.READ | Access.WRITE),
    (Movie(title="Alien"), "v == Movie(title='Alien')", {"title": "Alien"}),
    (Money(5), "v['cents'] == 5", {"cents": 5}),
    (np.arange(4).reshape(2, 2), "v.shape == (2, 2) and v[1, 0] == 2", [[0, 1], [2, 3]]),
    (np.float32(1.5), "v == 1.5", 1.5),
    (pd.Timestamp("2024-01-02"), "v.day == 2", datetime.datetime(2024, 1, 2)),
    (pd.NA, "v is None", None),
    (pd.Series([1, 2]), "v.sum() == 3", [1, 2]),
    (pd.DataFrame({"x": [1, 2]}), "v['x'].sum() == 3", [{"x": 1}, {"x": 2}]),
    (pl.DataFrame({"x": [1, None]}), "v[1].x is None", [{"x": 1}, {"x": None}]),
    (pa.table({"x": [1, 2]}), "len(v.filter(x=2)) == 1", [{"x": 1}, {"x": 2}]),
]


class TestTheTable:
    """Each row of the documentation, in a real cell."""

    @pytest.mark.parametrize(
        ("value", "check", "back"), ROWS, ids=[type(value).__name__ for value, *_ in ROWS]
    )
    def test_a_row(self, session, value, check, back):
        """The cell sees the documented value; it comes back as documented, nested as well."""
        session.assign("v", value)

        assert output(session, check) == "True"
        for returned in (submitted(session), submitted(session, "SUBMIT([v])")[0]):
            assert returned == back
            assert type(returned) is type(back) or isinstance(returned, list)

    def test_a_time_zone_comes_back(self, session):
        """A time zone comes back by its name, not only by its offset."""
        session.assign("v", [NOON])

        assert submitted(session)[0].tzinfo is NOON.tzinfo

    def test_a_variable_made_by_code(self, session):
        """The statements of a `CodeType` run; its data is removed afterwards."""
        session.assign("v", Grid(3))

        assert output(session, "v, inf, '_raw_v' in globals()") == "([[0, 0, 0]], inf, False)"

    def test_code_for_a_variable_that_fails(self, session):
        """If the code fails, the assignment is refused."""
        with pytest.raises(ValueCrossingError, match="could not take v: ValueError"):
            session.assign("v", Grid("wide"))


class TestClasses:
    """Classes of records have their names in cells, and are the original classes on the host."""

    def test_declared_classes_can_be_used(self, session):
        """Declared classes can be used without any value of them, as for output types."""
        assert submitted(session, "SUBMIT(Cat('Kim', color=Color.BLUE))") == Cat(
            name="Kim", color=Color.BLUE
        )

    def test_names_that_are_taken_stay(self, opened):
        """A class does not replace a variable, a tool or a builtin."""
        names = ["Point", "print", "give", "SUBMIT"]
        session = opened(tools={"give": lambda: "a tool"})
        session.run_cell("Point = 'mine'")

        session.assign("v", [dataclasses.make_dataclass(name, [("x", int)])(1) for name in names])

        assert output(session, "print(Point, give())") == "mine a tool"

    def test_what_a_cell_made_invalid_comes_as_plain_data(self, session):
        """An instance of a host class is always valid; an invalid record comes as plain data."""
        session.assign("v", Cat(name="Tom"))

        assert submitted(session, "v.lives = 'many'; SUBMIT(v)")["lives"] == "many"

    def test_no_field_is_lost(self, session):
        """With a field that its class lacks, a record stays plain data."""
        session.assign("v", Cat(name="Tom"))

        assert submitted(session, "v.note = 'new'; SUBMIT(v)")["note"] == "new"

    def test_tools_get_instances(self, session, given_back):
        """Tools get instances, even without declared types."""
        session.assign("v", {"cats": [Cat(name="Tom")], "p": Point(1)})

        session.run_cell("give(v)")

        assert given_back[-1] == {"cats": [Cat(name="Tom")], "p": Point(1)}

    def test_what_tools_return_brings_its_classes(self, opened):
        """The class of a tool's result can be used by name from then on."""
        session = opened(tools={"locate": lambda: Place("a")})

        assert output(session, "isinstance(locate(), Place)") == "True"

    def test_a_healed_session_knows_them(self, opened):
        """Classes and handles belong to the session, so they survive a restart of its process."""
        photo = Photo()
        session = opened(types=TYPES)
        session.assign({"photo": photo, "cat": Cat(name="Tom")})
        number = output(session, "hash(photo)")

        os.kill(session.pid, signal.SIGKILL)

        assert session.run_cell("1") == Completed("1\n")
        assert output(session, "isinstance(cat, Animal), Pair(1).left") == "(True, 1)"
        assert output(session, "hash(photo)") == number
        assert submitted(session, "SUBMIT([photo, cat])") == [photo, Cat(name="Tom")]


class TestHandles:
    """Cells pass on values that stay on the host."""

    def test_repr_of_a_handle(self, session):
        """The repr has the type and the preview, on one line."""
        session.assign("photo", Photo())

        assert output(session, "photo") == "<Photo handle: png, 12 bytes>"

    def test_it_comes_out_as_the_same_object(self, session, given_back):
        """The object survives variables, lists, dict keys, tool calls and SUBMIT."""
        photo = Photo()
        session.assign("v", [photo, {"a": photo}])

        returned = submitted(session, "SUBMIT(give([v, {v[0]: 1}]))")

        assert given_back[-1][0][0] is given_back[-1][0][1]["a"] is photo
        assert returned[0][0] is photo
        assert next(iter(returned[1])) is photo

    def test_the_same_object_is_the_same_handle(self, session):
        """An object has one handle however often it crosses; another object has another."""
        photo = Photo()
        session.assign({"one": photo, "two": [photo], "other": Photo()})

        assert output(session, "one == two[0], one is two[0] or one in {two[0]}, one == other") == (
            "(True, True, False)"
        )

    @pytest.mark.parametrize("code", ["photo.url", "photo.url = 1", "del photo.url"])
    def test_a_handle_has_no_attributes(self, session, code):
        """Attribute access raises an error that says how to use a handle."""
        session.assign("photo", Photo())

        result = session.run_cell(code)

        assert isinstance(result, Failed)
        assert "stays on the host: it can be passed to a tool" in result.message

    def test_a_forged_number(self, session):
        """A cell cannot forge a handle."""
        result = session.run_cell(
            "from sandbox_runtime.guest.values.handles import Handle; SUBMIT(Handle(10**6, 'x', ''))"
        )

        assert result.error_type == "ValueCrossingError"
        assert "the handle is not valid in this session" in result.message


class TestRules:
    """Rules for the user's own types."""

    @pytest.mark.parametrize("cls", [str, dict, object, type(None)])
    def test_fixed_types(self, cls):
        """Types whose values always cross unchanged cannot have a rule."""
        with pytest.raises(ValueError, match="always cross unchanged"):
            HandleType(cls)

    def test_a_rule_needs_a_class(self):
        """Anything but a class is refused as the type of a rule."""
        with pytest.raises(TypeError, match=r"A rule needs a class, not list\[int\]"):
            ValueType(list[int], list)

    def test_the_first_matching_rule_applies(self):
        """A rule applies to subclasses, and the first matching rule wins."""

        class Thumbnail(Photo):
            pass

        value_codec = ValueCodec([ValueType(Thumbnail, lambda _: "small"), *TYPES])
        kind, parts = value_codec.encode([Thumbnail(), Photo()], "v")

        arrived = codec.receive(kind, parts)

        assert arrived[0] == "small"
        assert repr(arrived[1]).startswith("<Photo handle")

    @pytest.mark.parametrize(
        ("value", "place"),
        [
            ([{"when": Grid(1)}], "rows[0]['when'] is of type test_crossing.Grid, which cannot"),
            ([0, Point(1, Grid(1))], "rows[1].y is of type"),
            ((0, Pair(Grid(1))), "rows[1].left is of type"),
            ([Money(object)], "rows[0]['cents'] is of type"),
            (Money(lambda: 1), "rows['cents'] is of type function"),
            ({"t": pd.DataFrame({"o": [1, lambda: 1]})}, "rows['t']['o'][1] is of type function"),
            (pl.DataFrame({"o": pl.Series([TYPES[0].preview], dtype=pl.Object)}), "rows['o'][0]"),
        ],
    )
    def test_what_cannot_cross_is_named_with_its_place(self, value, place):
        """Errors name the place, also inside records, tables and values with rules."""
        if place.startswith("rows[0]['cents']"):
            value = [Money(lambda: 1)]
        with pytest.raises(ValueCrossingError) as caught:
            ValueCodec(TYPES).encode(value, "rows")

        assert str(caught.value).startswith(place)

    def test_a_rule_that_fails(self):
        """The exception of a rule's function is the reason in the error."""
        value_codec = ValueCodec([CodeType(Grid, lambda grid: grid.missing, lambda *_: "")])

        with pytest.raises(
            ValueCrossingError, match=r"v is of type .*Grid.*no attribute 'missing'"
        ):
            value_codec.encode_variable(Grid(1), "v", Stream(lambda: None, lambda _: None))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=9)
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from([*Color, *Level, *Access, Access.READ | Access.WRITE])
)
records = (
    st.builds(Place, st.text(), st.tuples(st.floats(0, 1), st.floats(0, 1)))
    | st.builds(Pair, st.integers(), st.text())
    | st.builds(Animal, name=st.text(), born=st.none() | st.dates())
    | st.builds(Cat, name=st.text(), color=st.sampled_from(Color))
)
trees = st.recursive(
    scalars | records,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from(Color), inner, max_size=3)
        | st.builds(Point, st.integers(), inner)
    ),
    max_leaves=12,
)


def there_and_back(value):
    value_codec = ValueCodec()
    kind, parts = value_codec.encode(value, "v")
    text, extras = codec.send(codec.receive(kind, parts), "v")
    return value_codec.decode([text.encode(), *map(bytes, extras)])


def types_of(value):
    """Returns the types of a value and of all its parts."""
    kind = type(value)
    if isinstance(value, dict):
        return kind, [(types_of(k), types_of(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [types_of(item) for item in value]
    if isinstance(value, Point):
        return kind, [types_of(value.x), types_of(value.y)]
    return kind


class TestRoundTrips:
    """Values survive a round trip: equal, and of the same types."""

    @given(trees)
    def test_both_sides_in_one_process(self, value):
        """Any nesting of standard types, records, named tuples and enum members."""
        back = there_and_back(value)

        assert back == value
        assert types_of(back) == types_of(value)

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(trees)
    def test_through_a_session(self, session, value):
        """The same holds through a real sandbox, as an output and as a tool argument."""
        session.assign("v", value)

        for back in (submitted(session), submitted(session, "SUBMIT(give(v))")):
            assert back == value
            assert types_of(back) == types_of(value)


class TestSpeed:
    """Large plain values leave at the speed of C."""

    @pytest.mark.nightly
    def test_many_small_lists(self, session):
        """A million pairs take at most a few seconds, even on a slow machine."""
        session.run_cell("pairs = [[i, -i] for i in range(1_000_000)]")

        result = session.run_cell(
            "import time; t = time.monotonic(); n = len(give(pairs)); time.monotonic() - t"
        )

        assert float(result.output) < 20
        assert len(submitted(session, "SUBMIT(pairs)")) == 1_000_000

    @pytest.mark.nightly  # a million pairs, as in `test_many_small_lists`
    def test_beside_others(self, session, given_back):
        """One value that is not plain does not slow down the others."""
        session.run_cell("pairs = [[i, -i] for i in range(1_000_000)]")

        result = session.run_cell(
            "import time; t = time.monotonic(); n = give([pairs, {1}])[1]; time.monotonic() - t"
        )

        assert float(result.output) < 20
        assert given_back.pop()[0][-1] == [999_999, -999_999]
