"""Values at the border: what the host sends arrives, and what comes back is data or refused.

Here both sides run in one process: `values.encode` and `codec.receive` towards the sandbox,
`codec.send` and `values.decode` back.
"""

from __future__ import annotations

import array
import collections
import contextlib
import copy
import dataclasses
import datetime
import enum
import http
import io
import json
import math
import pickle
import re
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, TypedDict

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.errors import SandboxError, ValueCrossingError
from sandbox_runtime.guest.values import codec
from sandbox_runtime.guest.values.codec import INLINE_CHARS, MAX_DEPTH, receive
from sandbox_runtime.guest.values.records import Record
from sandbox_runtime.truncation import printable
from sandbox_runtime.values.encoder import ValueCodec, decode, encode, encode_inline
from sandbox_runtime.values.type_rules import HandleType


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


def to_sandbox(value, border=None):
    kind, parts = (border or ValueCodec()).encode(value, "x")
    return receive(kind, [bytes(part) for part in parts])


def to_host(value, border=None):
    text, extras = codec.send(value, "SUBMIT")
    return (border or ValueCodec()).decode([text.encode(), *map(bytes, extras)])


def there_and_back(value, border=None):
    border = border or ValueCodec()
    return to_host(to_sandbox(value, border), border)


def same(one, other):
    """Equal in type and value, all the way down; NaN is itself."""
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


class TestToSandbox:
    """Host to sandbox: every standard type keeps its type."""

    @given(trees)
    def test_values_arrive_as_they_are(self, value):
        """Any nesting of standard types."""
        assert same(to_sandbox(value), value)

    @pytest.mark.parametrize(
        "value",
        [
            10**10_000,
            -(10**10_000),
            -0.0,
            math.inf,
            "\ud800",
            "🙂" * 100_000,
            bytearray(b"abc"),
            range(3),
            slice(1, 2),
            ...,
            deque([1, 2], maxlen=2),
            Counter("abba"),
            OrderedDict(b=1, a=2),
            defaultdict(list, a=[1]),
            array.array("d", [1.5]),
            Decimal("NaN"),
            datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            re.compile("a+", re.IGNORECASE),
            ValueError("bad", 3),
            int,
            len,
            math.sin,
            http.HTTPStatus.NOT_FOUND,
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_odd_standard_values(self, value):
        """Everything in the standard library that can be pickled."""
        arrived = to_sandbox(value)

        assert type(arrived) is type(value)
        assert arrived == value or repr(arrived) == repr(value)

    def test_text_and_bytes_travel_raw(self):
        """The two large types are never pickled, and bytes not even copied."""
        data = b"x" * 100

        assert encode("naïve", "x") == ("text", ["naïve".encode()])
        assert encode(data, "x")[1][0] is data

    def test_small_buffers_travel_in_the_pickle(self):
        """However many there are: the header of a frame would have no place for their lengths."""
        _, parts = encode([pickle.PickleBuffer(bytes(9)) for _ in range(30_000)], "x")

        assert len(parts) == 1

    def test_no_more_large_buffers_than_a_header_can_tell(self):
        """The others stand in the pickle."""
        buffer = bytes(70_000)
        _, parts = encode([pickle.PickleBuffer(buffer) for _ in range(1_010)], "x")

        assert len(parts) == 1_001

    def test_buffers_travel_beside_the_pickle(self):
        """Large binary parts of a value are not copied into it."""
        buffer = bytearray(100_000)

        kind, parts = encode([pickle.PickleBuffer(buffer)], "x")

        assert kind == "pickle"
        assert [memoryview(part).nbytes for part in parts[1:]] == [100_000]
        assert memoryview(parts[0]).nbytes < 100

    @pytest.mark.parametrize("kind", [PurePosixPath, PureWindowsPath, Path, PurePath])
    def test_paths_become_pure_posix_paths(self, kind):
        """A path is a name there, whatever system it comes from."""
        assert to_sandbox(kind("a/b")) == PurePosixPath("a/b")

    def test_shared_parts_stay_shared(self):
        """An object that is there twice is there twice."""
        part = [1]

        first, second = to_sandbox([part, part])

        assert first is second

    def test_cycles(self):
        """A value may hold itself, also through a record."""
        rows: list[Any] = []
        rows.append({"rows": rows})
        point = Point(1, None)
        point.y = [point]

        arrived = to_sandbox(rows)
        record = to_sandbox(point)

        assert arrived[0]["rows"] is arrived
        assert record.y[0] is record


class TestRecords:
    """Classes that the sandbox lacks become records with the same name, fields and access."""

    def test_a_dataclass(self):
        """Fields are attributes, and keys."""
        record = to_sandbox(Point(1, "a"))

        assert isinstance(record, Record)
        assert type(record).__name__ == "Point"
        assert (record.x, record["y"]) == (1, "a")
        assert repr(record) == "Point(x=1, y='a')"

    def test_a_slotted_dataclass(self):
        """It has no `__dict__`; its fields count."""
        assert repr(to_sandbox(Slotted(2))) == "Slotted(x=2)"

    def test_a_named_tuple(self):
        """It is a named tuple there too: unpacked, indexed and compared as ever."""
        pair = to_sandbox(Pair(1, "b"))
        left, right = pair

        assert (left, right) == (pair.left, pair[1]) == pair
        assert repr(pair) == "Pair(left=1, right='b')"
        assert type(pair)(2, right="c")._asdict() == {"left": 2, "right": "c"}

    def test_an_old_style_named_tuple(self):
        """However it was made."""
        kind = collections.namedtuple("Old", "a b")

        assert repr(to_sandbox(kind(1, 2))) == "Old(a=1, b=2)"

    @pytest.mark.parametrize(
        ("member", "base"),
        [
            (Color.RED, enum.Enum),
            (Level.HIGH, int),
            (Access.READ | Access.WRITE, enum.Flag),
            (Word.YES, str),
            (Size.BIG, str),
        ],
    )
    def test_an_enum_member(self, member, base):
        """It is a member of an enum with the same members, and of the same kind."""
        arrived = to_sandbox(member)

        assert (arrived.name, arrived.value) == (member.name, member.value)
        assert isinstance(arrived, base)
        assert isinstance(arrived, enum.Enum)
        assert list(type(arrived).__members__) == list(type(member).__members__)

    def test_a_number_that_is_an_enum_member_still_counts(self):
        """An IntEnum compares with numbers, a StrEnum with text."""
        assert to_sandbox(Level.HIGH) == 3
        assert to_sandbox(Word.YES) + "!" == "yes!"

    def test_values_of_one_class_are_of_one_class(self):
        """However many values come, and in how many pieces."""
        one, two = to_sandbox(Point(1, 2)), to_sandbox([Point(3, 4)])[0]

        assert type(one) is type(two)

    def test_inheritance_stays(self):
        """A record is an instance of its class's ancestors."""
        cat = to_sandbox(Cat(name="Tom"))
        animal = to_sandbox(Animal(name="Rex"))

        assert isinstance(cat, type(animal))
        assert not isinstance(animal, type(cat))

    def test_classes_of_one_name_are_told_apart(self):
        """A notebook that runs a cell again has two classes of one name."""
        border = ValueCodec()
        first = dataclasses.make_dataclass("Twin", [("a", int)])
        second = dataclasses.make_dataclass("Twin", [("b", int)])

        back = [there_and_back(value, border) for value in (first(1), second(2), first(3))]

        assert [type(value) for value in back] == [first, second, first]

    def test_a_record_can_be_made(self):
        """By position and by name, with the defaults of its class."""
        kind = type(to_sandbox(Cat(name="Tom")))

        assert repr(kind("Kim", lives=3)) == "Cat(name='Kim', lives=3, toys=[])"
        assert kind(name="Kim").toys is not kind(name="Kim").toys

    @pytest.mark.parametrize(
        ("args", "given", "message"),
        [
            ((), {}, "Cat() is missing 'name'. Call Cat(name: str, lives: int = ..., toys: list[s"),
            (("a",), {"name": "b"}, "Cat() got 'name' twice."),
            ((1, 2, 3, 4), {}, "Cat() takes 3 values, got 4."),
            (("a",), {"age": 3}, "Cat() has no field 'age'."),
        ],
    )
    def test_a_record_made_wrongly(self, args, given, message):
        """The message says what the class takes."""
        kind = type(to_sandbox(Cat(name="Tom")))

        with pytest.raises(TypeError) as caught:
            kind(*args, **given)

        assert str(caught.value).startswith(message)

    def test_a_default_that_stays_on_the_host(self):
        """A field whose default the sandbox cannot know is left out; the host fills it in."""
        border = ValueCodec()
        kind = type(to_sandbox(Event(), border))

        assert "when" not in kind()
        assert isinstance(to_host(kind(), border=border).when, datetime.datetime)

    def test_frozen_records_have_a_hash(self):
        """They are keys and members of sets, as on the host, and cannot be changed."""
        record, *_ = to_sandbox({Slotted(1): 1})

        assert record in {record}
        assert to_sandbox(Slotted(1)) in {record}
        with pytest.raises(AttributeError, match="Slotted is frozen"):
            record.x = 2
        with pytest.raises(AttributeError, match="Slotted is frozen"):
            del record.x

    def test_ordered_records(self):
        """A dataclass that is ordered is ordered there."""
        one, two = to_sandbox([Version(1, 2), Version(1, 10)])

        assert one < two <= two
        assert max(one, two) is two
        with pytest.raises(TypeError, match="not supported"):
            one < 3  # noqa: B015

    def test_records_without_an_equality_of_their_own(self):
        """They are equal to themselves only."""
        one, two = to_sandbox([Token(1), Token(1)])

        assert one != two
        assert len({one, two}) == 2

    @pytest.mark.parametrize(
        "copy_of", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
    )
    def test_copies_inside_the_sandbox(self, copy_of):
        """Records, named tuples, enum members and handles can be copied and pickled."""
        border = ValueCodec([HandleType(Plain)])
        values = [Point(1, [2]), Pair(1, "a"), Color.RED, Access.READ, Slotted(1), Plain()]
        arrived = to_sandbox(values, border)

        assert copy_of(arrived) == arrived
        assert [type(value) for value in copy_of(arrived)] == [type(value) for value in arrived]

    def test_a_class_crosses_by_itself(self):
        """A class is a value too."""
        assert isinstance(to_sandbox(Point(1, 2)), to_sandbox(Point))

    def test_a_typed_dict(self):
        """Its values are dicts; the class makes them."""
        assert to_sandbox(Movie)(title="Alien") == {"title": "Alien"}

    def test_types_are_told(self):
        """`help()` and the annotations say what a field is."""
        kind = to_sandbox(Person)

        assert kind.__annotations__["born"] == "datetime.date"
        assert kind.__doc__.startswith("Person(name: str, born: datetime.date")

    def test_a_pydantic_model(self):
        """Fields keep their types, models in models are records too; private attributes stay out."""
        ada = Person(name="Ada", born="1815-12-10")
        record = to_sandbox(Person(name="Bob", born="2000-01-01", friends=[ada]))

        assert record.born == datetime.date(2000, 1, 1)
        assert record.friends[0].name == "Ada"
        assert list(record) == ["name", "born", "friends"]

    def test_extra_fields_of_a_pydantic_model(self):
        """A model that allows more has more."""
        assert dict(to_sandbox(Open(a=1, b=2))) == {"a": 1, "b": 2}

    def test_a_record_is_a_mapping_of_its_fields(self):
        """`dict`, `len`, iteration and unpacking work; it is mutable, so it has no hash."""
        record = to_sandbox(Point(1, 2))

        assert dict(record) == {"x": 1, "y": 2}
        assert {**record} == {"x": 1, "y": 2}
        assert (len(record), list(record), list(record.keys())) == (2, ["x", "y"], ["x", "y"])
        with pytest.raises(TypeError, match="unhashable"):
            hash(record)

    def test_records_compare_by_name_and_fields(self):
        """Two of the same are equal; another class with the same fields is not."""
        assert to_sandbox(Point(1, 2)) == to_sandbox(Point(1, 2))
        assert to_sandbox(Point(1, 2)) != to_sandbox(Point(1, 3))
        other = dataclasses.make_dataclass("Point", ["x", "y"])
        assert to_sandbox(Point(1, 2)) != to_sandbox(other(1, 2))

    def test_an_unknown_field(self):
        """Errors are those that the type itself would have raised."""
        record = to_sandbox(Point(1, 2))

        with pytest.raises(AttributeError):
            record.z  # noqa: B018
        with pytest.raises(KeyError):
            record["z"]


class TestRefusedByHost:
    """What must not or cannot enter the sandbox is refused with its place."""

    @pytest.mark.parametrize(
        ("value", "place"),
        [
            (Plain(), "rows is of type test_values.Plain,"),
            ([1, Plain()], "rows[1] is of type"),
            ([0, 1, 2, {"when": Plain()}], "rows[3]['when'] is of type"),
            ({"a": (1, {2: Plain()})}, "rows['a'][1][2] is of type"),
            (Point(1, [Plain()]), "rows.y[0] is of type"),
            ({frozenset([len, to_host]): 1}, "rows key <frozenset>"),
            (threading.Lock(), "rows is of type _thread.lock,"),
            ([io.BytesIO(), Plain()], "rows[1] is of type"),
            (lambda: 1, "rows is of type function,"),
            (to_host, "rows is of type function,"),
            (Plain, "rows is of type type,"),
            ((n for n in [1]), "rows is of type generator,"),
            (defaultdict(lambda: 1), "rows is of type collections.defaultdict,"),
            ([json], "rows[0] is of type module,"),
        ],
        ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
    )
    def test_the_place_is_named(self, value, place):
        """The message starts with where it is and what it is, and ends with what to do."""
        with pytest.raises(ValueCrossingError) as caught:
            encode(value, "rows")

        assert str(caught.value).startswith(place)
        assert str(caught.value).endswith("or give the sandbox a tool that works on it.")

    def test_it_is_a_type_error_too(self):
        """Callers that know nothing of us catch what they expect."""
        with pytest.raises(TypeError):
            encode(Plain(), "x")

    def test_open_files_stay(self, tmp_path):
        """Resources of the host do not cross."""
        with (tmp_path / "f").open("w") as file, pytest.raises(ValueCrossingError, match=r"x\[0\]"):
            encode([file], "x")

    def test_a_value_that_is_too_deep(self):
        """Python's own pickler gives up; that is an error of the value, not of ours."""
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]

        with pytest.raises(ValueCrossingError, match="recursion"):
            encode(value, "x")

    def test_a_record_without_one_of_its_fields(self):
        """A half-made object is refused like any other that cannot be read."""
        point = Point(1, 2)
        del point.y

        with pytest.raises(ValueCrossingError, match=r"^x\[0\] is of type test_values\.Point"):
            encode([point], "x")

    def test_a_value_whose_own_methods_fail(self):
        """Whatever a reducer raises, the error names the value."""

        class Evil(dict):
            def __reduce_ex__(self, protocol):
                raise OSError("evil")

        with pytest.raises(ValueCrossingError, match=r"^x\['a'\] is of type .*Evil"):
            encode({"a": Evil()}, "x")

    def test_a_subclass_is_not_its_base(self):
        """What a class of the host adds could not come along, so nothing pretends that it did."""

        class Names(list):
            pass

        with pytest.raises(ValueCrossingError, match="exists on the host only"):
            encode(Names(), "x")


class TestInline:
    """Small results of tools travel as JSON text in the message itself."""

    @pytest.mark.parametrize(
        "value", [None, True, 3, -(2**63), 10**4000, 1.5, math.inf, "naïve \ud800", ""]
    )
    def test_small_plain_values(self, value):
        """What arrives is what was sent."""
        inline = encode_inline(value)

        assert inline is not None
        assert same(receive("json", [inline.encode()]), value)

    def test_nan(self):
        """It is no JSON, but both ends are Python."""
        assert encode_inline(math.nan) == "NaN"

    @pytest.mark.parametrize(
        "value",
        ["x" * (INLINE_CHARS + 1), b"", [], Level.HIGH, 10**5000],
        ids=["text", "bytes", "list", "enum", "int"],
    )
    def test_others_do_not(self, value):
        """Anything large or not plain goes the usual way; a number that has no JSON does, too."""
        assert encode_inline(value) is None


class TestToHost:
    """Sandbox to host: tagged JSON and raw bytes, never a pickle."""

    @given(trees)
    def test_values_come_back_as_they_are(self, value):
        """Any nesting of standard types."""
        assert same(to_host(value), value)

    @given(trees)
    def test_there_and_back(self, value):
        """What the host gave and the sandbox returns is the same."""
        assert same(to_host(to_sandbox(value)), value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (Counter("abb"), {"a": 1, "b": 2}),
            (OrderedDict(a=1), {"a": 1}),
            (deque([1, 2]), [1, 2]),
            (range(3), [0, 1, 2]),
            ({"a": 1}.keys(), {"a"}),
            ({"a": 1}.values(), [1]),
            ({"a": 1}.items(), {("a", 1)}),
            (bytearray(b"a"), b"a"),
            (memoryview(b"a"), b"a"),
            (Color.RED, "r"),
            (Level.HIGH, 3),
            (Pair(1, "b"), (1, "b")),
            (Point(1, [Pair(2, "c")]), {"x": 1, "y": [(2, "c")]}),
            (Slotted(1), {"x": 1}),
            (to_sandbox(Point(1, "a")), {"x": 1, "y": "a"}),
            (to_sandbox(Color.RED), "r"),
            (Path("/tmp/x"), PurePosixPath("/tmp/x")),
            ({"$": 1}, {"$": 1}),
            ({1: "a", "1": "b"}, {1: "a", "1": "b"}),
            (True, True),
            ("x" * (INLINE_CHARS + 1), "x" * (INLINE_CHARS + 1)),
            ("\ud800" * (INLINE_CHARS + 1), "\ud800" * (INLINE_CHARS + 1)),
            ([b"", b"", b"x"], [b"", b"", b"x"]),
            (10**4200, 10**4200),
        ],
        ids=lambda value: f"{type(value).__name__}",
    )
    def test_other_types_become_the_nearest_plain_one(self, value, expected):
        """A subclass counts as what it extends; records are dicts of their fields."""
        assert same(to_host(value), expected)

    def test_subclasses_with_methods_of_their_own_do_not_get_to_speak(self):
        """The data of a text or number is read past its class's methods."""

        class Text(str):
            def __str__(self):
                return "lie"

        class Number(int):
            def __int__(self):
                return 99

        assert same(to_host([Text("truth"), Number(3)]), ["truth", 3])

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (object(), "SUBMIT is of type object, which cannot leave the sandbox; turn it into "),
            ([0, {"when": [object()]}], "SUBMIT[1]['when'][0] is of type object, "),
            ({1: {2: len}}, "SUBMIT[1][2] is of type builtin_function_or_method, "),
            ({frozenset([object]): 1}, "SUBMIT key"),
            (Point(object(), 1), "SUBMIT.x is of type object, "),
            (Point, "SUBMIT is of type type, "),
            ([10**4300], "SUBMIT[0] is an integer of more than 4,200 digits, "),
            ({"a": {1}, "b": [1, [10**4300]]}, "SUBMIT['b'][1][0] is an integer of more than 4,2"),
            ([{1}, ["x", -(10**4300)]], "SUBMIT[1][1] is an integer of more than 4,200 digits, "),
            (Level, "SUBMIT is of type EnumType, "),
        ],
        ids=lambda value: "",
    )
    def test_what_cannot_leave_is_named_with_its_place(self, value, message):
        """The message is for the LM: where, what, and what to do."""
        with pytest.raises(codec.CannotSend) as caught:
            codec.send(value, "SUBMIT")

        assert str(caught.value).startswith(message)

    def test_cycles_are_refused(self):
        """A value that holds itself has no end as data."""
        rows: list[Any] = []
        rows.append(rows)

        with pytest.raises(codec.CannotSend, match="deeper than 100 levels, or holds itself"):
            codec.send(rows, "SUBMIT")

    def test_a_long_path_is_cut(self):
        """The place of something deep is not longer than the message."""
        rows: list[Any] = []
        rows.append(rows)

        with pytest.raises(codec.CannotSend) as caught:
            codec.send(rows, "SUBMIT")

        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize(
        "wrap",
        [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {1: v}, lambda v: {"$": v}],
        ids=["list", "tuple", "dict", "dict of numbers", "dict with a dollar"],
    )
    def test_whatever_leaves_can_be_read(self, wrap):
        """The deepest value that the sandbox sends is not too deep for the host."""
        value: Any = 1
        for _ in range(MAX_DEPTH):
            value = wrap(value)

        assert same(to_host(value), value)

    def test_shared_parts_are_sent_twice(self):
        """Sharing is no cycle."""
        part = [1]

        assert to_host([part, part]) == [[1], [1]]


KNOWN = ["Point", "Pair", "Color", "Cat"]

hostile = [
    b"",
    b"{",
    b"\xff",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 402 + b"]" * 402,
    b"9" * 100_000,
    b'{"$":"nothing","of":1}',
    b'{"$":null,"of":1}',
    b'{"$":["tuple"],"of":[]}',
    b'{"$":{},"of":[]}',
    b'{"$":"tuple"}',
    b'{"$":"tuple","of":1}',
    b'{"$":"set","of":[[1]]}',
    b'{"$":"set","of":[{"$":"dict","of":[]}]}',
    b'{"$":"frozenset","of":null}',
    b'{"$":"dict","of":[[1]]}',
    b'{"$":"dict","of":[[1,2,3]]}',
    b'{"$":"dict","of":[[[1],2]]}',
    b'{"$":"dict","of":3}',
    b'{"$":"str"}',
    b'{"$":"str","at":0}',
    b'{"$":"bytes","at":-1}',
    b'{"$":"bytes","at":1}',
    b'{"$":"bytes","at":true}',
    b'{"$":"bytes","at":0.0}',
    b'{"$":"bytes","at":"0"}',
    b'{"$":"bytes","at":999999999999999999999}',
    b'{"$":"bytes","at":[0,1]}',
    b'{"$":"bytes","at":[0]}',
    b'{"$":"bytes","at":[0,true]}',
    b'{"$":"str","at":[-1,0]}',
    b'{"$":"pieces","at":0}',
    b'{"$":"pieces","at":0,"of":{}}',
    b'{"$":"pieces","at":-1,"of":[]}',
    b'{"$":"pieces","at":0,"of":[-1]}',
    b'{"$":"pieces","at":0,"of":[true]}',
    b'{"$":"pieces","at":0,"of":[1]}',
    b'{"$":"complex","of":["x",1]}',
    b'{"$":"complex","of":[1,2,3]}',
    b'{"$":"complex","of":1}',
    b'{"$":"datetime","of":"yesterday"}',
    b'{"$":"datetime","of":3}',
    b'{"$":"date","of":"2024-13-01"}',
    b'{"$":"time","of":"25:00"}',
    b'{"$":"timedelta","of":[1e300,0,0]}',
    b'{"$":"timedelta","of":[999999999999,0,0]}',
    b'{"$":"timedelta","of":["a"]}',
    b'{"$":"timedelta","of":[NaN,0,0]}',
    b'{"$":"Decimal","of":"much"}',
    b'{"$":"Decimal","of":5}',
    b'{"$":"Decimal","of":"' + b"9" * 5000 + b'"}',
    b'{"$":"Fraction","of":"1/0"}',
    b'{"$":"Fraction","of":"1e999999999"}',
    b'{"$":"Fraction","of":"' + b"9" * 3000 + b"/" + b"7" * 3000 + b'"}',
    b'{"$":"Fraction","of":"a/b"}',
    b'{"$":"UUID","of":"zz"}',
    b'{"$":"UUID","of":{}}',
    b'{"$":"Path","of":1}',
    b'{"$":"Path","of":null}',
    b'{"$":"Record","of":{}}',
    b'{"$":"handle","of":0}',
    b'{"$":"handle","of":true}',
    b'{"$":"handle","of":"0"}',
    b'{"$":"record","of":{}}',
    b'{"$":"record","as":"a","of":1}',
    b'{"$":"named","as":"a","of":{}}',
    b'{"$":"table","of":[["a"],[[1],[2]]]}',
    b'{"$":"table","of":[["a","b"],[[1],[1,2]]]}',
    b'{"$":"table","of":[[[]],[[1]]]}',
    b'{"$":"table","of":3}',
    b'{"$":"datetime","of":"2024-01-01","zone":"../../etc/passwd"}',
    b'{"$":"datetime","of":"2024-01-01","zone":3}',
    b'{"$":"__class__","of":{}}',
]


class TestHostileData:
    """Whatever the sandbox sends, the host gets a value or a ValueCrossingError."""

    @pytest.mark.parametrize("data", hostile, ids=lambda data: data[:40].decode("latin-1"))
    def test_wrong_data_is_refused(self, data):
        """Bad tags, wrong indexes, deep nesting, texts that build huge numbers."""
        with pytest.raises(ValueCrossingError, match="cannot be read"):
            decode([data])

    def test_nothing(self):
        """A value consists of at least one part."""
        with pytest.raises(ValueCrossingError, match="nothing came"):
            decode([])

    def test_text_that_is_not_utf_8(self):
        """Raw bytes that pretend to be text."""
        with pytest.raises(ValueCrossingError):
            decode([b'{"$":"str","at":0}', b"\xff"])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.fixed_dictionaries(
                    {
                        "$": st.sampled_from(
                            [
                                "tuple",
                                "set",
                                "frozenset",
                                "complex",
                                "datetime",
                                "date",
                                "time",
                                "timedelta",
                                "Decimal",
                                "Fraction",
                                "UUID",
                                "Path",
                                "dict",
                                "str",
                                "bytes",
                                "record",
                                "named",
                                "enum",
                                "handle",
                                "table",
                            ]
                        )
                        | inner
                    },
                    optional={
                        "of": inner
                        | st.fixed_dictionaries({"x": inner}, optional={"y": inner})
                        | st.just(0),
                        "at": inner,
                        "as": inner | st.sampled_from([f"{__name__}.{n}" for n in KNOWN]),
                        "zone": inner | st.sampled_from(["UTC", "..", "/etc", "Europe"]),
                    },
                )
            ),
        ),
        st.lists(st.binary(max_size=5), max_size=2),
    )
    def test_any_tree_of_tags(self, tree, extras):
        """No combination of tags raises anything else, also where classes and handles are known."""
        border = ValueCodec([HandleType(Plain)])
        border.encode([Point(1, 2), Pair(1, "a"), Color.RED, Cat(name="Tom"), Plain()], "v")

        with contextlib.suppress(ValueCrossingError):
            border.decode([json.dumps(tree).encode(), *extras])

    @given(st.binary())
    def test_noise(self, noise):
        """Nor do bytes that are no JSON."""
        with contextlib.suppress(SandboxError):
            decode([noise])

    def test_nothing_is_built_but_plain_values(self):
        """No tag names a class: the types that can come out are these."""
        built = decode(
            [
                json.dumps(
                    {
                        "uuid": {"$": "UUID", "of": str(uuid.UUID(int=1))},
                        "half": {"$": "Fraction", "of": "1/2"},
                        "much": {"$": "Decimal", "of": "1E+400"},
                    }
                ).encode()
            ]
        )

        assert built == {
            "uuid": uuid.UUID(int=1),
            "half": Fraction(1, 2),
            "much": Decimal("1E+400"),
        }


class TestPrintable:
    """Text for an LM or a terminal is always encodable."""

    @given(anything)
    def test_lone_surrogates_are_written_out(self, text):
        """They are shown as escapes; all else is left alone."""
        shown = printable(text)

        shown.encode()
        assert shown == text or "\\ud" in shown


class TestCost:
    """What reading a value may cost the host is known before it is read."""

    def test_a_part_that_is_named_often(self):
        """Is one object, however often."""
        text, data = decode(
            [
                json.dumps(
                    [[{"$": "str", "at": 0}] * 1000, [{"$": "bytes", "at": 0}] * 1000]
                ).encode(),
                b"abc",
            ]
        )

        assert text == ["abc"] * 1000
        assert data == [b"abc"] * 1000
        assert len(set(map(id, text))) == len(set(map(id, data))) == 1

    @pytest.mark.parametrize(
        "item", ["[]", "{}", '{"a":0}', "[0]", '"ab"', "300", '{"$":"tuple","of":[]}']
    )
    def test_small_things_in_great_number(self, item):
        """Are counted before they are made, and refused with what to do."""
        data = f"[{','.join([item] * 400_000)}]".encode()

        with pytest.raises(ValueCrossingError, match=r"more than 1,000,000 bytes.*frame_bytes"):
            ValueCodec().decode([data], memory_bytes=1_000_000)
        assert len(ValueCodec().decode([data], memory_bytes=200_000_000)) == 400_000

    def test_rows_of_a_table(self):
        """A dict for each row is more than its cell."""
        data = b'{"$":"table","of":[["a"],[[' + b"1," * 400_000 + b"1]]]}"

        with pytest.raises(ValueCrossingError, match="more than 40,000,000 bytes"):
            ValueCodec().decode([data], memory_bytes=40_000_000)
        assert len(ValueCodec().decode([data])) == 400_001

    def test_text_with_a_wide_character(self):
        """Takes four bytes for each of its characters."""
        data = [b'{"$":"str","at":0}', b"x" * 1000 + "\N{SLIGHTLY SMILING FACE}".encode()]

        with pytest.raises(ValueCrossingError, match="more than 4,000 bytes"):
            ValueCodec().decode(data, memory_bytes=4_000)
        assert len(ValueCodec().decode(data, memory_bytes=5_000)) == 1001

    @pytest.mark.parametrize("exponent", [4201, -4201, 999_999_999, -999_999_999])
    def test_a_decimal_that_would_explode(self, exponent):
        """As a whole number or as a ratio; both sides refuse it, and say what to do."""
        with pytest.raises(ValueCrossingError, match="exponent beyond 4,200"):
            decode([json.dumps({"$": "Decimal", "of": f"1e{exponent}"}).encode()])
        with pytest.raises(codec.CannotSend, match=r"v\[0\] is a Decimal with an exponent"):
            codec.send([Decimal(f"1e{exponent}")], "v")

    @pytest.mark.parametrize(
        "number",
        [
            Decimal(text)
            for text in ("1e4200", "-1e-4200", "0", "0E-20", "NaN", "-Infinity", "9.99")
        ],
        ids=str,
    )
    def test_other_decimals(self, number):
        """Cross as they are, and what is made of them is a number that Python can write."""
        came = to_host(number)

        assert str(came) == str(number)
        if came.is_finite():
            str(int(came))

    @pytest.mark.parametrize(
        "content", [[1, 2], [1, 2, 3, 4], [1.5, 0, 0], ["1", 0, 0], [True, 0, 0], {}, "123"]
    )
    def test_a_duration(self, content):
        """Has three whole numbers."""
        with pytest.raises(ValueCrossingError):
            decode([json.dumps({"$": "timedelta", "of": content}).encode()])

    def test_zones_that_are_not_there(self):
        """Are not looked for: the offset stays as it came."""
        moment = {"$": "datetime", "of": "2024-01-01T00:00:00+02:00", "zone": "Area/Nowhere"}

        (read,) = decode([json.dumps([moment]).encode()])

        assert read.utcoffset() == datetime.timedelta(hours=2)


class TestHandedOut:
    """A handle stands for something only if it reached the sandbox."""

    def test_a_value_that_did_not_cross(self):
        """Leaves no handle behind, of none of its parts."""
        border = ValueCodec([HandleType(Plain)])
        with pytest.raises(ValueCrossingError):
            border.encode([Plain(), threading.Lock()], "v")

        assert not border._handles._values

    def test_numbers_cannot_be_guessed(self):
        """They are drawn, not counted, and exact as a number of JSON."""
        border = ValueCodec([HandleType(Plain)])
        border.encode([Plain() for _ in range(100)], "v")

        numbers = sorted(border._handles._values)

        assert len(numbers) == 100
        assert numbers[0] > 2**40
        assert numbers[-1] < 2**53

    def test_one_object_has_one_number(self):
        """Also in values that cross at different times."""
        border, plain = ValueCodec([HandleType(Plain)]), Plain()
        for _ in range(3):
            border.encode([plain, plain], "v")

        assert len(border._handles._values) == 1
