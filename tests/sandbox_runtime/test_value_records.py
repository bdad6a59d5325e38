"""Instances of the user's classes: they cross as records with the same name, fields and behaviour."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import enum
import json
import pickle

import attrs
import pytest
from value_samples import (
    Access,
    Animal,
    Cat,
    Color,
    Event,
    Level,
    Movie,
    Open,
    Pair,
    Person,
    Plain,
    Point,
    Size,
    Slotted,
    Token,
    Version,
    Word,
    there_and_back,
    to_host,
    to_sandbox,
)

from sandbox_runtime.guest.values.records import Record, as_json
from sandbox_runtime.host_costs import MAX_FLAG_COMBINATIONS
from sandbox_runtime.values.classes import Classes
from sandbox_runtime.values.encoder import ValueCodec
from sandbox_runtime.values.type_rules import HandleType


class TestRecords:
    """Instances of classes that the sandbox lacks become records with the same name, fields and access."""

    def test_a_dataclass(self):
        """The fields of a record are attributes as well as keys."""
        record = to_sandbox(Point(1, "a"))

        assert isinstance(record, Record)
        assert type(record).__name__ == "Point"
        assert (record.x, record["y"]) == (1, "a")
        assert repr(record) == "Point(x=1, y='a')"

    def test_the_methods_of_a_dict(self):
        """A record is read like a dict, and converted to one; a field of such a name takes precedence."""
        record = to_sandbox([Point(1, "a"), {"inner": Point(2, "b")}])[0]
        record.y = [{"deep": (to_sandbox(Point(3, "c")),)}]

        assert (record.get("x"), record.get("z"), record.get("z", 5)) == (1, None, 5)
        assert next(iter(record.items())) == ("x", 1)
        assert next(iter(record.values())) == 1
        assert record.toDict() == {"x": 1, "y": [{"deep": ({"x": 3, "y": "c"},)}]}
        record.get = 7
        assert record.get == 7

    def test_a_field_that_is_not_there(self):
        """The error lists the fields."""
        with pytest.raises(AttributeError, match=r"Point has no 'z'. It has: x, y\."):
            to_sandbox(Point(1, "a")).z  # noqa: B018

    def test_json_of_records(self):
        """An encoder writes them as objects, and leaves all else to the method that it had."""

        class Encoder(json.JSONEncoder):
            default = as_json(json.JSONEncoder.default)

        assert json.dumps(to_sandbox([Point(1, "a")]), cls=Encoder) == '[{"x": 1, "y": "a"}]'
        with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
            json.dumps({1}, cls=Encoder)

    @pytest.mark.parametrize("define", [attrs.define, attrs.frozen, attrs.define(slots=False)])
    def test_an_attrs_class(self, define):
        """Its fields, defaults and private names cross as those of a dataclass, and it is built and checked again."""

        @define
        class Part:
            name: str
            _size: int = 1
            tags: list = attrs.field(factory=list)

        codec = ValueCodec()
        record = to_sandbox(Part("a", 2), codec)

        assert repr(record) == "Part(name='a', _size=2, tags=[])"
        assert repr(type(record)("b")) == "Part(name='b', _size=1, tags=[])"
        assert to_host(record, codec) == Part("a", 2)
        assert to_host(type(record)("b", "many"), codec) == {
            "name": "b",
            "_size": "many",
            "tags": [],
        }

    def test_a_slotted_dataclass(self):
        """A dataclass without `__dict__` crosses by its fields."""
        assert repr(to_sandbox(Slotted(2))) == "Slotted(x=2)"

    def test_a_named_tuple(self):
        """A named tuple stays one: it can be unpacked, indexed and compared as usual."""
        pair = to_sandbox(Pair(1, "b"))
        left, right = pair

        assert (left, right) == (pair.left, pair[1]) == pair
        assert repr(pair) == "Pair(left=1, right='b')"
        assert type(pair)(2, right="c")._asdict() == {"left": 2, "right": "c"}

    def test_a_named_tuple_from_the_collections_module(self):
        """A class made by `collections.namedtuple` crosses like one written as a class."""
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
        """An enum member arrives as a member of an enum with the same members and base type."""
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
        """All values of a class, in any number of messages, have one class in the sandbox."""
        one, two = to_sandbox(Point(1, 2)), to_sandbox([Point(3, 4)])[0]

        assert type(one) is type(two)

    def test_inheritance_stays(self):
        """A record is an instance of its class's ancestors."""
        cat = to_sandbox(Cat(name="Tom"))
        animal = to_sandbox(Animal(name="Rex"))

        assert isinstance(cat, type(animal))
        assert not isinstance(animal, type(cat))

    def test_classes_of_one_name_stay_distinct(self):
        """A notebook that runs a cell again has two classes of one name."""
        value_codec = ValueCodec()
        first = dataclasses.make_dataclass("Twin", [("a", int)])
        second = dataclasses.make_dataclass("Twin", [("b", int)])

        back = [there_and_back(value, value_codec) for value in (first(1), second(2), first(3))]

        assert [type(value) for value in back] == [first, second, first]

    def test_cells_can_create_records(self):
        """A record's class takes values by position and by name, and has the host class's defaults."""
        kind = type(to_sandbox(Cat(name="Tom")))

        assert repr(kind("Kim", lives=3)) == "Cat(name='Kim', lives=3, toys=[])"
        assert kind(name="Kim").toys is not kind(name="Kim").toys

    @pytest.mark.parametrize(
        ("args", "keywords", "message"),
        [
            ((), {}, "Cat() is missing 'name'. Call Cat(name: str, lives: int = ..., toys: list[s"),
            (("a",), {"name": "b"}, "Cat() got 'name' twice."),
            ((1, 2, 3, 4), {}, "Cat() takes 3 values, got 4."),
            (("a",), {"age": 3}, "Cat() has no field 'age'."),
        ],
    )
    def test_a_call_with_wrong_arguments(self, args, keywords, message):
        """The message says which arguments the class takes."""
        kind = type(to_sandbox(Cat(name="Tom")))

        with pytest.raises(TypeError) as caught:
            kind(*args, **keywords)

        assert str(caught.value).startswith(message)

    def test_a_default_that_stays_on_the_host(self):
        """A field whose default the sandbox cannot know is left out; the host fills it in."""
        value_codec = ValueCodec()
        kind = type(to_sandbox(Event(), value_codec))

        assert "when" not in kind()
        assert isinstance(to_host(kind(), value_codec=value_codec).when, datetime.datetime)

    def test_frozen_records_have_a_hash(self):
        """Frozen records can be keys and members of sets, as on the host, and cannot be changed."""
        record, *_ = to_sandbox({Slotted(1): 1})

        assert record in {record}
        assert to_sandbox(Slotted(1)) in {record}
        with pytest.raises(AttributeError, match="Slotted is frozen"):
            record.x = 2
        with pytest.raises(AttributeError, match="Slotted is frozen"):
            del record.x

    def test_ordered_records(self):
        """A dataclass with `order=True` is ordered in the sandbox too."""
        one, two = to_sandbox([Version(1, 2), Version(1, 10)])

        assert one < two <= two
        assert max(one, two) is two
        with pytest.raises(TypeError, match="not supported"):
            one < 3  # noqa: B015

    def test_records_without_an_equality_of_their_own(self):
        """Records of a class with `eq=False` are equal only to themselves."""
        one, two = to_sandbox([Token(1), Token(1)])

        assert one != two
        assert len({one, two}) == 2

    @pytest.mark.parametrize(
        "copy_of", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
    )
    def test_copies_inside_the_sandbox(self, copy_of):
        """Records, named tuples, enum members and handles can be copied and pickled."""
        value_codec = ValueCodec([HandleType(Plain)])
        values = [Point(1, [2]), Pair(1, "a"), Color.RED, Access.READ, Slotted(1), Plain()]
        arrived = to_sandbox(values, value_codec)

        assert copy_of(arrived) == arrived
        assert [type(value) for value in copy_of(arrived)] == [type(value) for value in arrived]

    def test_a_class_crosses_by_itself(self):
        """A class can be sent as a value, and instances that arrive later belong to it."""
        assert isinstance(to_sandbox(Point(1, 2)), to_sandbox(Point))

    def test_a_typed_dict(self):
        """A typed dict arrives as a class whose instances are dicts."""
        assert to_sandbox(Movie)(title="Alien") == {"title": "Alien"}

    def test_field_types_are_documented(self):
        """`help()` and the annotations tell the type of each field."""
        kind = to_sandbox(Person)

        assert kind.__annotations__["born"] == "datetime.date"
        assert kind.__doc__.startswith("Person(name: str, born: datetime.date")

    def test_a_pydantic_model(self):
        """Fields keep their types, nested models are records too, and private attributes are left out."""
        ada = Person(name="Ada", born="1815-12-10")
        record = to_sandbox(Person(name="Bob", born="2000-01-01", friends=[ada]))

        assert record.born == datetime.date(2000, 1, 1)
        assert record.friends[0].name == "Ada"
        assert list(record) == ["name", "born", "friends"]

    def test_extra_fields_of_a_pydantic_model(self):
        """Extra fields that a model allows cross like declared ones."""
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
        """Records are equal if class and fields are; another class with the same fields is not equal."""
        assert to_sandbox(Point(1, 2)) == to_sandbox(Point(1, 2))
        assert to_sandbox(Point(1, 2)) != to_sandbox(Point(1, 3))
        other = dataclasses.make_dataclass("Point", ["x", "y"])
        assert to_sandbox(Point(1, 2)) != to_sandbox(other(1, 2))

    def test_an_unknown_field(self):
        """An unknown field raises the standard error: AttributeError or KeyError."""
        record = to_sandbox(Point(1, 2))

        with pytest.raises(AttributeError):
            record.z  # noqa: B018
        with pytest.raises(KeyError):
            record["z"]


class TestFlags:
    """A class of flags keeps each combination that was ever made, so their number is bounded."""

    def test_bits_that_are_no_flags_stay_numbers(self):
        """A number that is no combination of the class's flags is not rebuilt, and not kept."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        classes = Classes()
        reduced = classes.reduce_class(access)
        assert reduced is not None
        key = reduced[1][0]

        for n in range(1, 4_000):
            assert type(classes.rebuild(key, n * (2**61 - 1) * 8)) is int

        assert len(access._value2member_map_) == 3
        assert classes.rebuild(key, 5) is access.R | access.X
        assert classes.rebuild(key, -2) == ~access.R

    def test_combinations_are_bounded(self):
        """A class of many flags refuses further combinations."""
        wide = enum.Flag("wide", [f"F{n}" for n in range(30)])
        classes = Classes()
        reduced = classes.reduce_class(wide)
        assert reduced is not None

        for n in range(20_000):
            classes.rebuild(reduced[1][0], n)

        assert len(wide._value2member_map_) <= MAX_FLAG_COMBINATIONS + 30
