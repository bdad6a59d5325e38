"""Every kind of callable as a tool: the LM sees its real call, and calls reach it as they were written."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from typing import Annotated, Any, Literal, NewType, TypedDict, TypeVar

import dspy
import numpy as np
import pandas as pd
import pydantic
import pytest
from pydantic import Field

from dspy_rlm.prompts.tool_docs import document, tool_call
from dspy_rlm.testing import asks_for, fields, route
from dspy_rlm.tools.sources import normalize_tools


class Speed(enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Part(pydantic.BaseModel):
    number: str
    amount: int = 1


@dataclasses.dataclass
class Point:
    """A point in the plane."""

    x: int
    y: int = 2


class Shop:
    """A shop."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self, query: str, *, limit: int = 3) -> list[str]:
        """Finds goods."""
        return [f"{self.name} {query}"] * limit

    def __call__(self, query: str) -> str:
        """Asks the shop."""
        return f"{self.name} was asked {query}"


class Lookup(dspy.Module):
    """Looks a word up."""

    def forward(self, word: str, times: int = 2):
        return dspy.Prediction(answer=word * times, count=times)


class LaterLookup(dspy.Module):
    """Looks a word up, asynchronously only."""

    async def aforward(self, word: str):
        return word + "!"


def star(*args, **kw):
    return [args, kw]


def mixed(first, *rest: int, key=1, **more: int):
    return [first, rest, key, more]


def by_position(a, b=2, /, c=3, *, d=4):
    return [a, b, c, d]


def order(
    part: Part | None = None,
    speed: Speed = Speed.FAST,
    mode: Literal["air", "sea"] = "sea",
    parts: list[Part] = [],  # noqa: B006 - as users write it
) -> str:
    """Orders parts."""
    numbers = [one.number for one in parts]
    return f"{part.number if part else None} {speed.name} {mode} {numbers}"


def described(
    query: Annotated[str, Field(description="Words to look for.")],
    limit: Annotated[int, "At most so many."] = 5,
    pages: int = Field(7, description="Pages to read.", ge=1),
) -> list:
    return [query, limit, pages]


def through(function):
    """A decorator that looks at nothing."""

    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


def first_in_capitals(function):
    """A decorator that reads its first argument by position."""

    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(args[0].upper(), *args[1:], **kwargs)

    return inner


@through
def decorated(x: int, y: str = "z") -> str:
    """Joins both."""
    return f"{x}{y}"


@first_in_capitals
def shout(text: str, times: int = 1) -> str:
    return text * times


@through
async def decorated_later(x: int) -> int:
    return x + 1


@functools.lru_cache
def doubled(x: int) -> int:
    return 2 * x


@functools.singledispatch
def kind_of(x):
    return "other"


kind_of.register(int, lambda x: "int")


class Kinds:
    @functools.singledispatchmethod
    def kind(self, x):
        return "other"

    @staticmethod
    def same(x: int) -> int:
        return x

    @classmethod
    def of_class(cls, x: int) -> str:
        return f"{cls.__name__}{x}"

    bound = functools.partialmethod(lambda self, a, b: [a, b], 1)


def restart(instance: str, self: int = 2, **more):
    return [instance, self, more]


def bounded(
    text: Annotated[str, pydantic.StringConstraints(max_length=3)] = "",
    numbers: list[Annotated[int, Field(ge=0)]] = [],  # noqa: B006
) -> str:
    return f"{text}{numbers}"


def lowered(
    text: Annotated[str, pydantic.BeforeValidator(lambda value: str(value).lower())],
) -> str:
    return text


class Facts(TypedDict):
    a: int


def of_facts(facts: Facts | None = None) -> int:
    return facts["a"] if facts else 0


class Opaque:
    """A class that only the host can have."""


def of_opaque(x: int, opaque: Opaque = Opaque()) -> str:  # noqa: B008
    return f"{x} {type(opaque).__name__}"


def of_array(numbers: np.ndarray) -> list:
    return [type(numbers).__name__, numbers.sum().item()]


def of_frame(frame: pd.DataFrame, more: pd.DataFrame | None = None) -> list:
    return [type(frame).__name__, len(frame), more is None]


def of_set(items: set[int]) -> list:
    return sorted(items)


Name = NewType("Name", str)
T = TypeVar("T")


def generic(name: Name, item: T, items: list[T]) -> T:
    return item


def tool(source, name=None) -> dspy.Tool:
    """The tool that an RLM makes of this."""
    tools = normalize_tools([source] if name is None else {name: source})
    return next(iter(tools.values()))


class TestCalls:
    """Cells call tools by position or by name, and arguments arrive where they belong."""

    @pytest.mark.sampled(23)
    @pytest.mark.parametrize(
        ("source", "code", "expected"),
        [
            (star, "star(1, 2, a=3)", [(1, 2), {"a": 3}]),
            (star, "star(args=1, kw=2)", [(), {"args": 1, "kw": 2}]),
            (dspy.Tool(star), "star(1, a=[2])", [(1,), {"a": [2]}]),
            (mixed, "mixed(1, 2, 3, z=4)", [1, (2, 3), 1, {"z": 4}]),
            (mixed, "mixed(first=1, key=2)", [1, (), 2, {}]),
            (by_position, "by_position(1, c=5)", [1, 2, 5, 4]),
            (by_position, "by_position(1, 6, 5, d=8)", [1, 6, 5, 8]),
            (functools.partial(star, 1, k=2), "star(3)", [(1, 3), {"k": 2}]),
            (functools.partial(mixed, 1, key=9), "mixed(2, 3)", [1, (2, 3), 9, {}]),
            (functools.partial(by_position, 1, c=9), "by_position(7, d=8)", [1, 7, 9, 8]),
            (Shop("Ada").find, "find('tea', limit=1)", ["Ada tea"]),
            (functools.partial(Shop("Ada").find, limit=2), "find('tea')", ["Ada tea"] * 2),
            (Shop("Ada"), "Shop('tea')", "Ada was asked tea"),
            (dspy.Tool(Shop("Ada"), name="ask"), "ask(query='tea')", "Ada was asked tea"),
            (Point, "(lambda p: [p.x, p.y])(Point(1))", [1, 2]),
            (math.gcd, "gcd(12, 18)", 6),
            (math.hypot, "hypot(3, 4)", 5.0),
            (len, "len([1, 2, 3])", 3),
            (max, "max(1, 5, 3)", 5),
            (max, "max([], default=4)", 4),
            (Lookup(), "Lookup('hi').answer", "hihi"),
            (Lookup(), "Lookup(word='hi', times=1)['count']", 1),
            (dspy.Tool(Lookup(), name="look"), "look('hi', 1).answer", "hi"),
            (LaterLookup(), "LaterLookup('hi')", "hi!"),
            (LaterLookup(), "await LaterLookup.aio(word='hi')", "hi!"),
            (described, "described('q')", ["q", 5, 7]),
            (described, "described('q', pages=1)", ["q", 5, 1]),
            (decorated, "[decorated(1), decorated(x=2, y='k')]", ["1z", "2k"]),
            (shout, "[shout('a', 2), shout.batched(['b'])]", ["AA", ["B"]]),
            (decorated_later, "[decorated_later(1), await decorated_later.aio(x=2)]", [2, 3]),
            (doubled, "[doubled(2), doubled(x=3)]", [4, 6]),
            (kind_of, "[kind_of(1), kind_of('a')]", ["int", "other"]),
            (Kinds().kind, "kind('a')", "other"),
            (Kinds.same, "same(1)", 1),
            (Kinds.of_class, "of_class(1)", "Kinds1"),
            ({"bound": Kinds().bound}, "bound(2)", [1, 2]),
            (restart, "restart('a', more=1)", ["a", 2, {"more": 1}]),
            (restart, "restart(instance='b', self=3)", ["b", 3, {}]),
            (lowered, "lowered('ABC')", "abc"),
            (of_facts, "[of_facts({'a': 3}), of_facts()]", [3, 0]),
            (of_opaque, "of_opaque(1)", "1 Opaque"),
            (of_array, "of_array([1, 2])", ["ndarray", 3]),
            (of_frame, "of_frame([{'a': 1}])", ["DataFrame", 1, True]),
            (of_frame, "of_frame(more=[{'a': 1}], frame={'a': [1, 2]})", ["DataFrame", 2, False]),
            (of_set, "of_set([2, 1, 1])", [1, 2]),
            (generic, "generic('n', 5, [])", 5),
        ],
    )
    def test_arguments_arrive_as_written(self, play, source, code, expected):
        """The arguments that a cell passes reach the function as Python's own call would."""
        tools = source if isinstance(source, dict) else [source]
        rlm, _ = play("q -> a: bool", f"SUBMIT({code} == {expected!r})", tools=tools)

        assert rlm(q="").a is True

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("order({'number': 'a'})", "a FAST sea []"),
            ("order(Part(number='b'), Speed.SLOW)", "b SLOW sea []"),
            ("order(speed='slow', mode='air')", "None SLOW air []"),
            ("order(parts=[{'number': 'c'}, Part(number='d')])", "None FAST sea ['c', 'd']"),
            ("order(None)", "None FAST sea []"),
        ],
    )
    def test_plain_data_becomes_the_declared_type(self, play, code, expected):
        """Models, enums and options are created from what cells have: dicts, texts, records."""
        rlm, _ = play("q -> a", f"SUBMIT({code})", tools=[order])

        assert rlm(q="").a == expected

    def test_tables_come_back_as_their_type(self, play):
        """A table or an array that one tool returned is a table or an array for the next."""
        tools = {
            "frame": lambda: pd.DataFrame({"a": [1, 2]}),
            "array": lambda: np.arange(3),
            "of_frame": of_frame,
            "of_array": of_array,
        }
        rlm, _ = play("q -> a: list", "SUBMIT([of_frame(frame()), of_array(array())])", tools=tools)

        assert rlm(q="").a == [["DataFrame", 2, True], ["ndarray", 3]]

    def test_a_module_with_a_signature(self, play):
        """Inputs of a predictor go by position or name; its outputs are attributes and items in the cell."""
        shorten = dspy.Predict("text, limit: int -> summary, words: int")
        rlm, _ = play(
            "q -> a",
            "r = shorten('long', 3)\ns = shorten(text='long', limit=4)\n"
            "SUBMIT(f'{r.summary} {r[\"words\"] + 1} {s.summary} {sorted(dict(r))}')",
            extracted={"summary": "short", "words": 1},
            tools={"shorten": shorten},
        )
        assert tool_call(rlm.tools["shorten"]) == "shorten(text: str, limit: int)"
        assert "Returns an object with .summary, .words." in document(rlm.tools["shorten"])
        assert rlm(q="").a == "short 2 short ['summary', 'words']"

    def test_a_chain_of_thought_as_a_tool(self, play):
        """A module that holds one predictor has the call of that predictor."""
        inner = dspy.ChainOfThought("question -> answer")
        rlm, _ = play(
            "q -> a",
            "r = think('why?')\nSUBMIT(f'{r.answer} {sorted(r.keys())}')",
            extracted={"reasoning": "so", "answer": "42"},
            tools={"think": inner},
        )

        assert rlm(q="").a == "42 ['answer', 'reasoning']"

    def test_react_in_a_cell_calls_every_kind_of_tool(self, play):
        """A tool that `dspy.ReAct` in a cell calls may take `*args`, be a generator, or exit."""

        def numbers(*args: int):
            yield from (f"item {n}" for n in args)

        def leave() -> str:
            raise SystemExit(3)

        moves = iter([("numbers", '{"args": [1, 2]}'), ("leave", "{}"), ("finish", "{}")])

        def step(_given: Any) -> dict[str, str]:
            name, arguments = next(moves)
            return {"next_thought": "t", "next_tool_name": name, "next_tool_args": arguments}

        rlm, server = play(
            "q -> a",
            "import dspy\nSUBMIT(dspy.ReAct('q -> answer', tools=[numbers, leave])(q='x').answer)",
            sub=route(
                (asks_for("next_tool_name"), fields(step)),
                otherwise=fields(lambda _given: {"reasoning": "r", "answer": "ok"}),
            ),
            tools=[numbers, leave],
        )

        assert rlm(q="").a == "ok"
        assert "item 2" in server.requests_to("sub")[-1].prompt
        assert "leave() called sys.exit(3)" in server.requests_to("sub")[-1].prompt


class TestTheShownCall:
    """The prompt and `help` show names, types and defaults, the same in every process."""

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            (star, "star(*args, **kw)"),
            (mixed, "mixed(first, *rest: int, key=1, **more: int)"),
            (by_position, "by_position(a, b=2, /, c=3, *, d=4)"),
            (
                order,
                "order(part: Part | None = None, speed: Speed = Speed.FAST, "
                "mode: Literal['air', 'sea'] = 'sea', parts: list[Part] = []) -> str",
            ),
            (described, "described(query: str, limit: int = 5, pages: int = 7) -> list"),
            (functools.partial(star, 1, k=2), "star(*args, **kw)"),
            (functools.partial(mixed, 1, key=9), "mixed(*rest: int, **more: int)"),
            (functools.partial(order, mode="air", parts=[]), None),
            (dspy.Tool(functools.partial(star, 1)), "star(*args, **kw)"),
            (Shop("Ada").find, "find(query: str, *, limit: int = 3) -> list[str]"),
            (Shop("Ada"), "Shop(query: str) -> str"),
            (Point, "Point(x: int, y: int = 2) -> Point"),
            (math.gcd, "gcd(*integers)"),
            (math.hypot, None),
            (Lookup(), "Lookup(word: str, times: int = 2)"),
            (dspy.Tool(Lookup()), "Lookup(word: str, times: int = 2)"),
            (LaterLookup(), "LaterLookup(word: str)"),
            (decorated, "decorated(x: int, y: str = 'z') -> str"),
            (kind_of, "kind_of(x)"),
            (Kinds().kind, "kind(x)"),
            (generic, "generic(name: Name, item: T, items: list[T]) -> T"),
            (of_frame, "of_frame(frame: DataFrame, more: DataFrame | None = None) -> list"),
            (of_opaque, "of_opaque(x: int, opaque: Opaque = ...) -> str"),
        ],
    )
    def test_names_types_and_defaults(self, source, expected):
        """Bound arguments are left out; classes have the names that cells know them by."""
        declaration = tool_call(tool(source))

        if expected is None:  # differs between versions of Python
            assert "hypot(" in declaration or declaration.startswith(
                "order(part: Part | None = None, speed: Sp"
            )
            assert "mode" not in declaration
        else:
            assert declaration == expected

    def test_defaults_that_differ_between_processes_are_not_shown(self):
        """A prompt has no addresses, no order of sets, and no long defaults: it would never be cached."""

        def f(
            a=object(),  # noqa: B008
            b={"y", "x"},  # noqa: B006
            c=len,
            d=int,
            e=Speed.SLOW,
            g="x" * 500,
            h=(1,),
            i={"k": Speed.FAST},  # noqa: B006
        ):
            return a

        assert tool_call(tool(f)) == (
            "f(a=..., b={'x', 'y'}, c=..., d=int, e=Speed.SLOW, g=..., h=(1,), i={'k': Speed.FAST})"
        )

    def test_annotations_that_cannot_be_evaluated(self, play):
        """A tool whose annotations name unknown classes is taken; the names are shown."""

        def f(x: Missing, y: int = 1) -> list[Nope]:  # noqa: F821
            return [x, y]

        rlm, _ = play("q -> a: list", "SUBMIT(f('v', y=2))", tools=[f])

        assert tool_call(rlm.tools["f"]) == "f(x: Missing, y: int = 1) -> list[Nope]"
        assert rlm(q="").a == ["v", 2]

    def test_documentation(self, play):
        """The descriptions of `Annotated` and `Field` are in the prompt and in `help`, with the docstring."""
        rlm, server = play("q -> a", "help(described)", "SUBMIT('')", tools=[described, order])
        result = rlm(q="")
        system = server.requests[0].request.system

        for text in (
            "query: Words to look for.",
            "limit: At most so many.",
            "pages: Pages to read.",
        ):
            assert text in system
            assert text in result.trajectory[0]["output"]
        assert "described(query: str, limit: int = 5" in result.trajectory[0]["output"]
        assert "Orders parts." in system

    def test_a_tool_without_documentation(self, play):
        """`help` then shows the call, and nothing of Python's own classes."""
        rlm, server = play("q -> a", "help(star)", "SUBMIT('')", tools=[functools.partial(star, 1)])
        result = rlm(q="")

        assert "star(*args, **kw)" in result.trajectory[0]["output"]
        assert "partial(func" not in server.requests[0].request.system
        assert "Call self as a function" not in server.requests[0].request.system

    def test_a_name_that_hides_pythons_own(self):
        """The documentation says where the hidden function is."""
        assert "hides Python's own open, which is builtins.open here." in document(
            tool(star, "open")
        )
        assert "hides" not in document(tool(len))

    def test_a_secret_that_is_bound_or_a_default(self, monkeypatch):
        """The prompt shows neither."""
        monkeypatch.setenv("SHOP_API_KEY", "sk-aaaabbbbccccdddd1234")

        def ask(query: str, key: str = "sk-aaaabbbbccccdddd1234") -> str:
            return query

        assert "sk-" not in tool_call(tool(ask))
        assert tool_call(tool(functools.partial(ask, key="sk-aaaabbbbccccdddd1234"))) == (
            "ask(query: str) -> str"
        )


class TestWrongCalls:
    """The error of a wrong call says what the right one is."""

    @pytest.mark.parametrize(
        ("source", "code", "expected"),
        [
            (order, "order(size=3)", "order(part: Part | None = None, speed: Speed = Speed.FAST"),
            (
                order,
                "order(speed='no')",
                "Arg speed is invalid: 'no' is not one of ['fast', 'slow']",
            ),
            (
                order,
                "order(speed='no')",
                "The call is order(part: Part | None = None, speed: Speed",
            ),
            (order, "order(part=5)", "Arg part is invalid: "),
            (order, "order(part=5)", "The call is order(part: "),
            (bounded, "bounded('abcd')", "Arg text is invalid: 'abcd' is too long"),
            (bounded, "bounded(b'abcd')", "expected str: String should have at most 3 characters"),
            (bounded, "bounded('a', [0], 1)", "bounded(text: str = '', numbers: list[int] = [])"),
            (bounded, "bounded(numbers=[1, -1])", "-1 is less than the minimum of 0"),
            (of_array, "of_array('x', 1)", "of_array(numbers: ndarray) -> list: too many"),
            (of_frame, "of_frame(5)", "Arg frame is invalid: "),
            (by_position, "by_position(a=1)", "by_position(a, b=2, /, c=3, *, d=4): "),
            (mixed, "mixed(1, 'x')", "Arg rest is invalid: "),
            (
                Lookup(),
                "Lookup()",
                "Lookup(word: str, times: int = 2): missing a required argument",
            ),
            (LaterLookup(), "LaterLookup(3)", "The call is LaterLookup(word: str)."),
            (
                Shop("Ada").find,
                "find('q', 3)",
                "find(query: str, *, limit: int = 3) -> list[str]: ",
            ),
        ],
    )
    def test_the_right_call_is_in_the_error(self, play, source, code, expected):
        """Names, types and defaults are in the message, whatever is wrong."""
        rlm, _ = play(
            "q -> a", f"try: {code}\nexcept Exception as e: SUBMIT(str(e))", tools=[source]
        )

        assert expected in rlm(q="").a

    def test_an_error_of_the_tool_itself_is_left_alone(self, play):
        """A `ValueError` that a tool raises has only its own text."""

        def strict(x: int) -> int:
            raise ValueError(f"no {x}")

        rlm, _ = play(
            "q -> a", "try: strict(1)\nexcept ValueError as e: SUBMIT(str(e))", tools=[strict]
        )

        assert rlm(q="").a == "no 1"
