"""Classes that came from the host are the same in every cell, whatever an earlier cell did to them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

import pydantic
import pytest

from sandbox_runtime import Session, Submitted, open_session


class Colour(enum.Enum):
    """An enum."""

    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    """An enum with a mixin."""

    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    """A flag."""

    READ = 1
    WRITE = 2


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: int = 3


class Page(TypedDict):
    """A typed dict."""

    text: str


@dataclasses.dataclass(order=True)
class Letter:
    """A dataclass."""

    text: str
    pages: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)
    colour: Colour = Colour.RED


class Invoice(pydantic.BaseModel):
    """A model."""

    total: float
    lines: list[str] = []


VALUES: dict[str, Any] = {
    "letter": Letter("real"),
    "invoice": Invoice(total=4.5),
    "point": Point(1),
    "colour": Colour.BLUE,
    "level": Level.HIGH,
    "right": Right.READ | Right.WRITE,
}


@pytest.fixture
def session() -> Iterator[Session]:
    """A session with a tool that returns values of the host's classes."""
    with open_session(tools={"get": VALUES.__getitem__, "note": lambda text: text}) as session:
        yield session


def test_a_class_is_the_same_object_in_later_cells(session):
    """Values that arrived in different cells have one class and compare equal, also as members of enums."""
    session.run_cell("first = [get(name) for name in " + repr([*VALUES]) + "]")
    session.run_cell("Letter.planted = 1")
    result = session.run_cell(
        "again = [get(name) for name in " + repr([*VALUES]) + "]\n"
        "print([type(a) is type(b) for a, b in zip(first, again)])\n"
        "print(first == again, hasattr(Letter, 'planted'), first[3] is again[3] is Colour.BLUE)\n"
        "print(Colour(1), Colour['RED'], list(Colour), len(Colour), 2 in Level, Level.LOW + 1)\n"
        "print((Right.READ | Right.WRITE) == again[5], Right.READ in again[5], ~Right.READ)\n"
        "print(Point(5), Point._make([1, 2])._replace(x=9), Letter('b') > first[0], first[0].colour)\n"
        "import copy, pickle\n"
        "print(copy.deepcopy(first) == pickle.loads(pickle.dumps(first)) == first, Letter, Colour)"
    )

    assert result.output == (
        "[True, True, True, True, True, True]\nTrue False True\n"
        "Colour.RED Colour.RED [<Colour.RED: 1>, <Colour.BLUE: 2>] 2 True 2\n"
        "True True Right.WRITE\n"
        "Point(x=5, y=3) Point(x=9, y=2) False Colour.RED\n"
        "True <class 'host_types.Letter'> <enum 'Colour'>\n"
    )


def test_they_return_to_the_host_as_before(session):
    """After a change of its class in an earlier cell, a value is still one of the host's class."""
    session.run_cell("letter, colour = get('letter'), get('colour')\nLetter.text = 'other'")

    session.run_cell("point, right = get('point'), get('right')")
    result = session.run_cell("SUBMIT([letter, colour, point, right, get('invoice')])")

    assert isinstance(result, Submitted)
    names = ("letter", "colour", "point", "right", "invoice")
    assert result.outputs == {"output": [VALUES[name] for name in names]}


ACT = (
    "def act(*args, **named):\n    try:\n        note('forged')\n    except Exception:\n        pass\n"
    "    return 'forged'\n"
    "import gc\nfrom sandbox_runtime.guest.values import codec, records\n"
)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "plant",
    [
        "Letter.__getattribute__ = act",
        "Letter.text = property(act)",
        "Letter.__init__ = Letter.__new__ = act",
        "type.__setattr__(Letter, '__setstate__', act)",
        "Letter.__bases__ = (type('Other', (records.Record,), {'text': property(act)}),)",
        "def outer(name):\n    def method(one, other):\n        return note('forged'), name\n"
        "    return method\nLetter.__lt__.__code__ = outer(1).__code__",
        "Letter.__record_fields__['text'] = 'forged'\nLetter.__record_factories__['tags'] = act",
        "records._CLASSES.update({text: (*known[:2], type('Letter', (records.Record,), "
        "{'text': property(act), '__module__': 'host_types'})) for text, known in records._CLASSES.items()})",
        "for text, (maker, args, kind) in list(records._CLASSES.items()):\n"
        "    if kind is Letter:\n"
        "        other = type('Meta', (type,), {'__call__': act, '__hash__': act})('Letter', (records.Record,), {})\n"
        "        records._CLASSES[text] = maker, args, other",
        "class Text(str):\n    __hash__ = str.__hash__\n    def __eq__(self, other):\n        act()\n"
        "        return str.__eq__(self, other)\n"
        "for text in list(records._CLASSES):\n    records._CLASSES[Text(text)] = records._CLASSES.pop(text)",
        "records._KEYS.update(dict.fromkeys(records._KEYS, 'forged'))",
        "Letter.__name__ = Letter.__qualname__ = 'FailedRow'",
        "Colour.RED._value_ = Colour.RED._name_ = 'forged'",
        "Colour._value2member_map_[1] = Colour._value2member_map_[2] = 'forged'",
        "type.__setattr__(Colour, 'BLUE', Colour.RED)\nColour._member_map_['BLUE'] = Colour.RED",
        "type.__setattr__(Colour, '__new__', act)\ntype.__setattr__(Colour, '_missing_', act)",
        "type.__setattr__(Colour, 'value', property(act))",
        "Point.x = property(act)\nPoint._make = act",
        "type.__setattr__(Point, '__new__', act)",
        "[new] = [f for f in gc.get_referents(Point.__dict__['__new__']) if type(f) is type(act)]\n"
        "new.__globals__['_tuple_new'] = act",
        "codec.host_key = records.host_key = act",
    ],
)
@pytest.mark.parametrize("cells_before", [0, 1], ids=["as it arrives", "later"])
def test_a_later_cell_gets_the_real_thing(session, plant, cells_before):
    """Whatever a cell plants in a class or its tables, a later cell reads, makes and submits real values."""
    arrive = "first = [get('letter'), get('colour'), get('point')]\n"
    for _ in range(cells_before):
        session.run_cell(arrive)
    planted = session.run_cell(arrive + ACT + plant + "\nprint('planted')")
    session.run_cell("pass")
    result = session.run_cell(
        "letter, colour, point = get('letter'), get('colour'), get('point')\n"
        "print(letter.text, letter.tags, colour.value, point.x, letter < letter, type(letter).__name__)\n"
        "print(Letter('a').tags, Colour(1).value, Point(4).x)\n"
        "SUBMIT([letter, colour, point])"
    )

    assert "planted" in planted.output, planted
    assert result.output == "real [] 2 1 False Letter\n[] 1 4\n"
    assert isinstance(result, Submitted)
    assert result.outputs == {"output": [Letter("real"), Colour.BLUE, Point(1)]}
