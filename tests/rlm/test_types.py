"""DSPy's types, records and tables as inputs and outputs of an RLM, through a real sandbox."""

from __future__ import annotations

import asyncio
import base64
import collections
import dataclasses
import datetime
import enum
import json
from collections.abc import Iterable
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import dspy
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from dspy import AdapterParseError
from dspy.primitives.local_interpreter import LocalInterpreter
from submitting import parse_outputs
from typing_extensions import TypeAliasType, TypedDict

from dspy_rlm import InputError
from dspy_rlm.prompts.variables import describe
from dspy_rlm.signatures.inputs import check_inputs
from dspy_rlm.signatures.outputs import ReplyError, typed_outputs
from dspy_rlm.tools.user_tools import host_function
from dspy_rlm.values.bounded_parsing import careful
from dspy_rlm.values.conversion import to_plain, type_rules
from sandbox_runtime import HandleType, ValueType
from sandbox_runtime.host_costs import MAX_FLAG_COMBINATIONS
from tests.measuring import Cost

PIXEL = base64.b64encode(b"\x89PNG" * 30).decode()
T = TypeVar("T")
FIELD = dspy.Signature("v -> a").input_fields["v"]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Address(pydantic.BaseModel):
    city: str


class Person(pydantic.BaseModel):
    name: str
    mood: Mood = Mood.GOOD
    address: Address | None = None


class Span(NamedTuple):
    start: int
    end: int


class Movie(TypedDict):
    title: str


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


MONEY = ValueType(Money, lambda money: money.cents, Money)


class Frame(dspy.SandboxSerializable):
    """A type of the kind DSPy asks for."""

    def __init__(self, rows: list[str]) -> None:
        self.rows = rows

    def sandbox_setup(self) -> str:
        return "import csv, io"

    def to_sandbox(self) -> bytes:
        return "\n".join(self.rows).encode()

    def sandbox_assignment(self, var_name: str, data_expr: str) -> str:
        return f"{var_name} = list(csv.reader(io.StringIO({data_expr})))"

    def rlm_preview(self, max_chars: int = 500) -> str:
        return f"Frame of {len(self.rows)} rows"


class Packed(Frame):
    """A type whose data is not text."""

    def to_sandbox(self) -> bytes:
        return b"\xff\xfe"

    def sandbox_assignment(self, var_name: str, data_expr: str) -> str:
        return f"{var_name} = len({data_expr})"


def signature(inputs: dict[str, Any], outputs: dict[str, Any]) -> type[dspy.Signature]:
    """A signature that takes any type, as a class with this `model_config` does."""
    members: dict[str, Any] = {name: dspy.InputField() for name in inputs}
    members |= {name: dspy.OutputField() for name in outputs}
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    members |= {"__annotations__": {**inputs, **outputs}, "model_config": config}
    return type(dspy.Signature)("Task", (dspy.Signature,), {**members, "__module__": __name__})


def outputs_of(annotation):
    return signature({"q": str}, {"a": annotation}).output_fields


class TestOutputs:
    """Outputs can be of any type that Pydantic validates or a rule creates."""

    @pytest.mark.parametrize(
        ("annotation", "code", "expected"),
        [
            (Person, "Person(name='Ada', address=Address(city='London'))", None),
            (Person, "{'name': 'Ada', 'address': {'city': 'London'}}", None),
            (list[Person], "[Person('Ada', Mood.BAD)]", [Person(name="Ada", mood=Mood.BAD)]),
            (Mood, "Mood.BAD", Mood.BAD),
            (Mood, "'bad'", Mood.BAD),
            (list[Mood], "[Mood.BAD, 'good']", [Mood.BAD, Mood.GOOD]),
            (Span, "Span(1, end=2)", Span(1, 2)),
            (list[Span], "[(1, 2)]", [Span(1, 2)]),
            (Movie, "Movie(title='Alien')", {"title": "Alien"}),
            (set[int], "{1, 2}", {1, 2}),
            (dict[datetime.date, tuple[int, ...]], "{__import__('datetime').date(2024, 1, 2): (1,)}",
             {datetime.date(2024, 1, 2): (1,)}),
            (Money | None, "5", 5),
            (dict[str, Money], "{'k': 5}", {"k": 5}),
        ],
    )  # fmt: skip
    def test_a_cell_submits_it(self, play, annotation, code, expected):
        """The classes of the outputs are there by name; what comes out is of the declared type."""
        ada = Person(name="Ada", address=Address(city="London"))
        task = signature({"q": str}, {"a": annotation})
        rlm, _ = play(task, f"SUBMIT({code})", types=[MONEY])

        answer = rlm(q="?").a

        if annotation in (Money | None, dict[str, Money]):
            answer = answer.cents if annotation == Money | None else {"k": answer["k"].cents}
        assert answer == (ada if expected is None else expected)
        assert type(answer) is type(ada if expected is None else expected)

    @pytest.mark.parametrize(
        ("annotation", "value", "expected"),
        [
            (str, Mood.BAD, "bad"),
            (Literal["good", "bad"], Mood.BAD, "bad"),
            (list[str], [Mood.BAD], ["bad"]),
            (list[dict[str, Any]], [Address(city="Rome")], [{"city": "Rome"}]),
            (Any, Address(city="Rome"), Address(city="Rome")),
        ],
    )
    def test_records_where_plain_data_is_declared(self, annotation, value, expected):
        """Records become plain data where plain data is declared."""
        assert parse_outputs(outputs_of(annotation), {"a": value}) == {"a": expected}

    @pytest.mark.parametrize("package", [pd.DataFrame, pl.DataFrame, pa.Table])
    def test_tables(self, play, package):
        """A table, also without rows, and a list of dicts become the declared table type."""
        table = pd.DataFrame({"x": [1, 2], "s": ["a", None]})
        tables = {pd.DataFrame: table, pl.DataFrame: pl.DataFrame({"x": [1, 2], "s": ["a", None]})}
        tables[pa.Table] = pa.table({"x": [1, 2], "s": ["a", None]})
        task = signature({"t": package}, {"all": package, "none": package, "rows": package})
        rlm, _ = play(task, "SUBMIT(t, t.filter(x=3), [{'x': r.x, 's': r.s} for r in t.rows()])")

        result = rlm(t=tables[package])

        rows = [("x", 2), ("s", 2)]
        for name in ("all", "rows"):
            assert type(result[name]) is package
            assert [(c, len(result[name][c])) for c in ("x", "s")] == rows
        empty = result["none"]
        assert list(empty.schema.names if package is pa.Table else empty.columns) == ["x", "s"]
        assert len(empty) == 0

    def test_arrays(self):
        """Lists become arrays, even inside other types."""
        parsed = parse_outputs(outputs_of(dict[str, np.ndarray]), {"a": {"m": [[1, 2], [3, 4]]}})

        assert parsed["a"]["m"].shape == (2, 2)

    def test_what_cannot_become_a_table(self):
        """A value that cannot become a table gives the LM an error with the reason."""
        with pytest.raises(ReplyError, match=r"a: expected DataFrame: .*cannot become a DataFrame"):
            parse_outputs(outputs_of(pd.DataFrame), {"a": 5})

    def test_plain_data_stays_itself(self):
        """Plain data is returned as the same object."""
        value = [1, {"a": (2, [3])}, {4}]

        assert to_plain(value) is value


class TestMedia:
    """Images, audio and files stay on the host; cells pass them on."""

    def test_tools_and_outputs_get_the_same_object(self, play):
        """The identical object passes through a list, a host tool that declares it, and SUBMIT."""
        image = dspy.Image(f"data:image/png;base64,{PIXEL}")
        got = []

        def look(image: dspy.Image, others: list[dspy.Image]) -> str:
            got.extend([image, *others])
            return "a cat"

        task = signature({"images": list[dspy.Image]}, {"best": dspy.Image, "text": str})
        rlm, _ = play(task, "SUBMIT(images[0], look(images[0], others=images))", tools=[look])

        result = rlm(images=[image])

        assert result.best is image
        assert [one is image for one in got] == [True, True]
        assert result.text == "a cat"

    @pytest.mark.parametrize(
        ("value", "preview"),
        [
            (dspy.Image(f"data:image/png;base64,{PIXEL}"), "<Image handle: png, 120 bytes>"),
            (dspy.Image("https://x.org/a.png"), "<Image handle: https://x.org/a.png>"),
            (dspy.Audio(data=PIXEL, audio_format="wav"), "<Audio handle: wav, 120 bytes>"),
            (
                dspy.File(file_data=f"data:text/plain;base64,{PIXEL}", filename="a.txt"),
                "<File handle: a.txt, plain, 120 bytes>",
            ),
            (dspy.File(file_id="file-1"), "<File handle: file-1>"),
        ],
    )
    def test_the_prompt_says_what_they_are(self, value, preview):
        """The prompt has the type of a media value, its preview, and its uses."""
        text = describe("v", value, FIELD, type_rules()).render()

        assert preview in text
        assert "(a handle: the value stays outside; pass it to a tool" in text

    def test_a_history(self, play):
        """A history is a record of its messages, and comes back as a history."""
        history = dspy.History(messages=[{"question": "Who?", "answer": "Ada"}])
        task = signature({"history": dspy.History}, {"last": str, "history_out": dspy.History})
        rlm, _ = play(task, "SUBMIT(history.messages[-1]['answer'], history)")

        result = rlm(history=history)

        assert result.last == "Ada"
        assert result.history_out == history

    def test_examples(self, play):
        """A training example is a dict of its fields."""
        task = signature({"examples": list[Any]}, {"a": str})
        rlm, _ = play(task, "SUBMIT(examples[0]['q'])")

        assert rlm(examples=[dspy.Example(q="?").with_inputs("q")]).a == "?"


class TestSandboxSerializable:
    """DSPy's types that bring code of their own."""

    @pytest.mark.parametrize("interpreter_factory", [None, LocalInterpreter])
    def test_setup_and_assignment(self, play, interpreter_factory):
        """Both run before the first cell, in our sandbox and in another interpreter."""
        task = signature({"frame": Frame, "packed": Packed}, {"a": list, "size": int})
        options = (
            {} if interpreter_factory is None else {"interpreter_factory": interpreter_factory}
        )
        rlm, _ = play(task, "SUBMIT(frame, packed)", **options)

        result = rlm(frame=Frame(["a,b", "1,2"]), packed=Packed([]))

        assert result.a == [["a", "b"], ["1", "2"]]
        assert result.size == 2

    def test_the_preview(self):
        """The prompt has its own preview, and what its setup has imported."""
        text = describe("v", Frame(["a"]), FIELD, type_rules()).render()

        assert "Type: Frame" in text
        assert "Frame of 1 rows" in text
        assert "Already run in the REPL:\nimport csv, io" in text

    def test_code_that_fails(self, play):
        """A failing setup or assignment ends the run before any LM call."""

        class Broken(Frame):
            def sandbox_setup(self) -> str:
                return "import a_package_that_is_missing"

        rlm, server = play(signature({"frame": Broken}, {"a": str}), "SUBMIT('x')")

        with pytest.raises(InputError, match="frame: ModuleNotFoundError"):
            rlm(frame=Broken([]))
        assert not server.requests


class TestInputs:
    def test_refused_before_the_first_call(self, play):
        """A value that cannot cross is refused before the first LM call, with the element's position."""

        class Socket:
            pass

        rlm, server = play("rows -> a", "SUBMIT('x')")

        with pytest.raises(InputError, match=r"rows\[3\]\['when'\] is of type .*Socket"):
            rlm(rows=[0, 1, 2, {"when": Socket()}])
        assert not server.requests

    def test_a_handle_of_a_type_of_the_users_own(self, play):
        """A type of the user's own crosses as a handle if it has a rule."""

        class Socket:
            pass

        socket = Socket()
        rlm, _ = play(
            signature({"rows": list[Any]}, {"a": Any}),
            "SUBMIT(rows[0])",
            types=[HandleType(Socket)],
        )

        assert rlm(rows=[socket]).a is socket

    def test_another_interpreter_gets_plain_data(self, play):
        """Another interpreter gets plain data, by the user's rules and by those for DSPy's types."""
        task = signature({"price": Money, "example": dspy.Example}, {"a": int})
        rlm, server = play(
            task,
            "SUBMIT(price + example['n'])",
            types=[MONEY],
            interpreter_factory=LocalInterpreter,
        )

        assert rlm(price=Money(5), example=dspy.Example(n=2)).a == 7
        assert "Variable: `price` (access it in your code)\nType: int" in (
            server.requests[0].messages[-1].text
        )

    @pytest.mark.parametrize("value", [dspy.Image(f"data:image/png;base64,{PIXEL}"), Money(5)])
    def test_another_interpreter_has_no_handles(self, play, value):
        """A handle in an interpreter without handles is refused before any LM call."""
        rlm, server = play(
            signature({"v": Any}, {"a": str}),
            "SUBMIT('x')",
            types=[HandleType(Money)],
            interpreter_factory=LocalInterpreter,
        )

        with pytest.raises(InputError, match=r"v is of type .* only our own sandbox has handles"):
            rlm(v=value)
        assert not server.requests


class TestContract:
    def test_classes_are_told(self, play):
        """The root LM knows which classes it can use, and how they are made."""
        task = signature({"p": Person}, {"a": list[Span]})
        rlm, server = play(task, "SUBMIT([Span(1, 2)])")

        rlm(p=Person(name="Ada"))

        assert "- Classes you can use by name: `Person(name: str, mood: Mood = Mood.GOOD, " in str(
            server.requests[0]
        )


class TestTools:
    def test_arguments_of_declared_types(self, play):
        """Records, enum members and named tuples, made in the cell or given by the host."""
        got = []

        def note(person: Person, mood: Mood, span: Span, data: dict[str, Any], rest: Any) -> str:
            got.append((person, mood, span, data, rest))
            return "ok"

        task = signature({"p": Person}, {"a": str})
        rlm, _ = play(task, "SUBMIT(note(p, Mood.BAD, Span(1, 2), p, [p]))", tools=[note])
        ada = Person(name="Ada")

        assert rlm(p=ada).a == "ok"
        plain = {"name": "Ada", "mood": "good", "address": None}
        assert got == [(ada, Mood.BAD, Span(1, 2), plain, [ada])]

    def test_a_wrong_argument(self, play):
        """The cell gets an error that names the value and the reason."""

        def note(mood: Mood) -> str:
            return "ok"

        rlm, _ = play(
            signature({"p": Person}, {"a": str}),
            "try:\n    note(p)\nexcept ValueError as error:\n    SUBMIT(str(error))",
            tools=[note],
        )

        assert rlm(p=Person(name="Ada")).a.startswith("Arg mood is invalid")


class TestDescriptions:
    """Descriptions of values and their types in the prompt."""

    @pytest.mark.parametrize(
        ("value", "modules", "line"),
        [
            (
                pd.DataFrame({"x": [1]}),
                [],
                "Type: Table (pandas.DataFrame outside; there is no pandas here. It has len(t), t.columns, ",
            ),
            (pd.DataFrame({"x": [1]}), ["numpy", "pandas"], "Type: pandas.DataFrame\n"),
            (
                pd.DataFrame({"x": [1]}),
                None,
                "Type: pandas.DataFrame (where the interpreter has no ",
            ),
            (
                np.zeros(3),
                ["pandas"],
                "Type: Array (numpy.ndarray outside; there is no numpy here. It",
            ),
            (np.zeros(3), ["numpy"], "Type: numpy.ndarray\n"),
        ],
    )
    def test_a_table_is_told_as_it_arrives(self, value, modules, line):
        """The run knows its packages, so the LM need not find out whether a table is pandas or ours."""
        field = signature({"v": Any}, {"a": str}).input_fields["v"]

        assert line in describe("v", value, field, type_rules(), modules).render()

    @pytest.mark.parametrize(
        ("value", "annotation", "message"),
        [
            (
                [Person(name="Ada")],
                list[Person],
                [
                    "Type: list[Person]",
                    "Person(name: str, mood: Mood = Mood.GOOD, address: Address | None = None)",
                    "Address(city: str)",
                    "enum Mood(GOOD='good', BAD='bad')",
                ],
            ),
            ([{"title": "Alien"}], list[Movie], ["Movie(title: str)"]),
            (Mood.BAD, Any, ["Type: Mood", "enum Mood(GOOD='good', BAD='bad')"]),
            (
                pd.DataFrame({"x": [1], "s": ["a"]}),
                Any,
                ["Size: 1 rows x 2 columns", "columns x: int64, s: str", "0  1  a", "t.head(n)"],
            ),
            (
                pl.DataFrame({"x": [1]}),
                Any,
                ["polars.DataFrame", "1 rows x 1 columns", "columns x: Int64"],
            ),
            (
                pa.table({"x": [1]}),
                Any,
                ["pyarrow.Table", "1 rows x 1 columns", "columns x: int64", "[{'x': 1}]"],
            ),
            (np.zeros((2, 3)), Any, ["numpy.ndarray", "shape (2, 3), dtype float64", "a.tolist()"]),
            (Money(5), Any, ["Type: int", "```\n5\n```"]),
        ],
    )
    def test_what_is_told(self, value, annotation, message):
        """Descriptions have the types of fields and columns, shapes, and the first rows."""
        field = signature({"v": annotation}, {"a": str}).input_fields["v"]

        text = describe("v", value, field, type_rules([MONEY])).render()

        for part in message:
            assert part in text


def ragged(size):
    return [{f"k{n}": 1} for n in range(size)]


class TestLargeTables:
    """A table has all columns in all rows: its size is bounded by that of the value that it is made of."""

    @pytest.mark.parametrize("table", [pd.DataFrame, pl.DataFrame, pa.Table])
    @pytest.mark.parametrize(
        "value",
        [
            ragged(3_000),
            [[1] * 3_000, *[[]] * 3_000],
            {f"c{n}": {f"k{n}": 1} for n in range(3_000)},
            {"a": [1] * 3_000, **{f"c{n}": 1 for n in range(3_000)}},
        ],
        ids=["names", "lengths", "columns", "copies"],
    )
    def test_one_that_is_mostly_empty_is_refused(self, table, value):
        """The error says how large it would be, and what to do."""
        fields = signature({"q": str}, {"answer": table}).output_fields

        with Cost() as cost:
            values, problems = typed_outputs(fields, {"answer": value})

        assert values == {}
        assert "Give the rows the same columns" in problems[0]
        assert cost.peak_bytes < 20_000_000

    @pytest.mark.parametrize("table", [pd.DataFrame, pl.DataFrame, pa.Table])
    @pytest.mark.parametrize(
        "value",
        [[{"a": 1, f"k{n % 90}": 1} for n in range(5_000)], {"a": [1] * 90_000, "b": [2] * 90_000}],
        ids=["sparse", "columns"],
    )
    def test_honest_ones_pass(self, table, value):
        """Rows with many optional columns are a table."""
        fields = signature({"q": str}, {"answer": table}).output_fields

        values, problems = typed_outputs(fields, {"answer": value})

        assert problems == []
        assert type(values["answer"]) is table


def model_of(*fields: Any, **named: Any) -> Any:
    """Returns a Pydantic model with a field `a` of a type, or with fields by name."""
    parts = dict.fromkeys(["a"][: len(fields)], (*fields, ...)) | named
    return pydantic.create_model("Model", **parts)


def rows_of(numbers: list[int]) -> list[dict[str, int]]:
    return [{"a": n} for n in numbers]


def generic_data(flags: Any) -> Any:
    @dataclasses.dataclass
    class Box(Generic[T]):
        a: T

    return list[Box[flags]]


def field_beside_parameter(flags: Any) -> Any:
    box: Any = dataclasses.make_dataclass("Box", [("b", T), ("a", flags)], bases=(Generic[T],))
    return list[box[int]]


def tool_of(function: Any, rows: Any) -> Any:
    """Returns the host function of a tool with an argument `rows` of a type."""
    function.__annotations__ = {"rows": rows}
    return host_function(dspy.Tool(function))


def pydantic_data(flags: Any) -> Any:
    fields = [("a", flags, pydantic.Field(alias="b"))]
    return list[pydantic.dataclasses.dataclass(dataclasses.make_dataclass("Data", fields))]


def open_model(flags: Any) -> Any:
    names = {
        "__annotations__": {"__pydantic_extra__": dict[str, flags]},
        "model_config": {"extra": "allow"},
        "__module__": __name__,
    }
    return type("Open", (pydantic.BaseModel,), names)


def alias_of_list(flags: Any) -> Any:
    alias = TypeAliasType("alias", list[T], type_params=(T,))  # type: ignore[misc,valid-type]
    return alias[flags]


# Types with flags inside, each with a function that makes the plain data of one from numbers.
ROUTES: dict[str, Any] = {
    "list": lambda f: (list[f], list),
    "models": lambda f: (list[model_of(f)], rows_of),
    "list in a model": lambda f: (model_of(list[f]), lambda ns: {"a": ns}),
    "root": lambda f: (pydantic.RootModel[list[f]], list),
    "roots": lambda f: (list[pydantic.RootModel[f]], list),
    "generic dataclass": lambda f: (generic_data(f), rows_of),
    "field beside a parameter": lambda f: (
        field_beside_parameter(f),
        lambda ns: [{"a": n, "b": 1} for n in ns],
    ),
    "generic alias": lambda f: (alias_of_list(f), list),
    "new type": lambda f: (list[NewType("new", f)], list),  # type: ignore[valid-newtype]
    "literal": lambda f: (list[model_of(Literal["none"] | f)], rows_of),
    "enum of texts": lambda f: (list[model_of(Mood | f)], rows_of),
    "JSON": lambda f: (model_of(pydantic.Json[list[f]]), lambda ns: {"a": str(ns)}),
    "alias of a dataclass": lambda f: (pydantic_data(f), lambda ns: [{"b": n} for n in ns]),
    "alias of a typed dict": lambda f: (
        list[TypedDict("Dict", {"a": Annotated[f, pydantic.Field(alias="b")]})],  # type: ignore[operator]
        lambda ns: [{"b": n} for n in ns],
    ),
    "optional": lambda f: (list[model_of(f | None)], rows_of),
    "tuple": lambda f: (model_of(tuple[f, ...]), lambda ns: {"a": ns}),
    "deque": lambda f: (model_of(collections.deque[f]), lambda ns: {"a": ns}),
    "keys": lambda f: (model_of(dict[f, str]), lambda ns: {"a": dict.fromkeys(ns, "")}),
    "set": lambda f: (model_of(set[f]), lambda ns: {"a": ns}),
    "extra fields": lambda f: (open_model(f), lambda ns: {str(n): n for n in ns}),
}


class TestFlags:
    """A class of flags keeps each combination that was ever made, so their number is bounded."""

    def test_bits_that_are_no_flags_are_refused(self):
        """`IntFlag(n)` accepts any integer, and keeps it for ever."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        fields = signature({"q": str}, {"answer": list[access]}).output_fields

        values, problems = typed_outputs(fields, {"answer": list(range(10**6, 10**6 + 20_000))})

        assert values == {}
        assert "list[access]" in problems[0]
        assert len(access._value2member_map_) == 3
        assert typed_outputs(fields, {"answer": [3, 1]})[0]["answer"] == [
            access.R | access.W,
            access.R,
        ]

    def test_combinations_are_bounded(self):
        """A class of many flags refuses further combinations, and still knows the earlier ones."""
        wide = enum.Flag("wide", [f"F{n}" for n in range(30)])
        fields = signature({"q": str}, {"answer": list[wide]}).output_fields

        typed_outputs(fields, {"answer": list(range(20_000))})

        assert len(wide._value2member_map_) <= MAX_FLAG_COMBINATIONS + 30
        assert typed_outputs(fields, {"answer": [3]})[1] == []

    @pytest.mark.parametrize(
        "shape", ["model", "dataclass", "typed dict", "key", "nested", "alias"]
    )
    def test_flags_inside_of_records_are_checked(self, shape):
        """Pydantic makes the flags of a field itself."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        cls, wrap = flag_holders(access)[shape]
        fields = signature({"q": str}, {"answer": list[cls]}).output_fields

        values, problems = typed_outputs(
            fields, {"answer": [wrap(n) for n in range(10**6, 10**6 + 5_000)]}
        )

        assert values == {}
        assert problems
        assert len(access._value2member_map_) == 3
        good, problems = typed_outputs(fields, {"answer": [wrap(3)]})
        assert problems == []
        assert repr(access.R | access.W) in repr(good)

    @pytest.mark.parametrize("shape", ["models", "root", "literal", "JSON", "extra fields"])
    def test_flags_in_a_reply_are_checked(self, shape):
        """A sub-LM is no more to be trusted than a cell."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        task = signature({"q": str}, {"answer": ROUTES[shape](access)[0], "count": int})
        rows = json.dumps(ROUTES[shape](access)[1](list(range(10**6, 10**6 + 2_000))))

        for adapter, reply in (
            (dspy.JSONAdapter(), f'{{"answer": {rows}, "count": 1}}'),
            (dspy.ChatAdapter(), f"[[ ## answer ## ]]\n{rows}\n\n[[ ## count ## ]]\n1"),
        ):
            with pytest.raises(AdapterParseError, match="no flags of access"):
                careful(adapter).parse(task, reply)

        assert len(access._value2member_map_) == 3

    def test_numbers_of_another_type_are_no_flags(self):
        """A number of a union that also takes plain numbers is not checked."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        cls = pydantic.create_model("Row", size=(int, ...), either=(int | access, ...))
        fields = signature({"q": str}, {"answer": list[cls]}).output_fields

        values, problems = typed_outputs(fields, {"answer": [{"size": 10**9, "either": 10**9}]})

        assert problems == []
        assert (values["answer"][0].size, values["answer"][0].either) == (10**9, 10**9)

    @pytest.mark.parametrize("shape", sorted(ROUTES))
    def test_routes_of_the_conversion_are_bounded(self, shape):
        """The class keeps no more than is bounded, whatever makes its combinations."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        wide = enum.Flag("wide", [f"F{n}" for n in range(30)])

        for flags, numbers, most in (
            (access, range(10**6, 10**6 + 5_000), 3),
            (wide, range(1, 5_000), MAX_FLAG_COMBINATIONS + 30),
        ):
            cls, wrap = ROUTES[shape](flags)
            fields = signature({"q": str}, {"answer": cls}).output_fields
            refused, problems = typed_outputs(fields, {"answer": wrap(list(numbers))})

            assert refused == {}
            assert flags.__name__ in problems[0]
            assert len(flags._value2member_map_) <= most

        cls, wrap = ROUTES[shape](access)
        fields = signature({"q": str}, {"answer": cls}).output_fields
        honest, problems = typed_outputs(fields, {"answer": wrap([3, 5])})
        assert problems == []
        assert "R|W" in repr(honest)
        assert access(3) is access.R | access.W

    def test_lazy_parts_are_bounded(self):
        """Pydantic converts the items of an iterable when they are read, after the conversion."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        cls = pydantic.create_model("Lazy", rows=(Iterable[access], ...))
        fields = signature({"q": str}, {"answer": cls}).output_fields

        hostile = typed_outputs(fields, {"answer": {"rows": [10**6, 10**6 + 1]}})[0]["answer"]
        with pytest.raises(pydantic.ValidationError):
            list(hostile.rows)

        assert len(access._value2member_map_) == 3
        honest = typed_outputs(fields, {"answer": {"rows": [3]}})[0]["answer"]
        assert list(honest.rows) == [access.R | access.W]

    @pytest.mark.parametrize("first", [True, False])
    def test_refused_numbers_may_be_of_another_type(self, first):
        """A union takes them as numbers, and an error elsewhere is told as it is."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        either = access | int if first else int | access
        cls = pydantic.create_model("Row", either=(either, ...), name=(str, ...))
        fields = signature({"q": str}, {"answer": list[cls]}).output_fields

        good, _ = typed_outputs(fields, {"answer": [{"either": 10**9, "name": "x"}]})
        _, problems = typed_outputs(fields, {"answer": [{"either": 10**9, "name": 5}]})

        assert type(good["answer"][0].either) is int
        assert "name" in problems[0]
        assert "no flags" not in problems[0]
        assert len(access._value2member_map_) == 3

    def test_own_code_makes_what_it_likes(self):
        """Only conversions are bounded: the user's code may use any bits, before, after and in a tool."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        early = access(2**20)
        made = []

        def take(rows: Any) -> int:
            """Takes rows."""
            made.append(access(2**30 + len(made)))
            return len(rows)

        async def take_later(rows: Any) -> int:
            """Takes rows."""
            return take(rows)

        call, later = tool_of(take, list[access]), tool_of(take_later, list[access])

        assert call(rows=[1, 2]) == 2
        assert asyncio.run(later(rows=[1])) == 1
        assert access(2**20) is early
        assert access(2**21).value == 2**21
        assert [flag.value for flag in made] == [2**30, 2**30 + 1]

    @pytest.mark.parametrize("number", [20, 5_000])
    def test_arguments_of_tools_are_bounded(self, number):
        """Few plain arguments are converted by DSPy, and many by us."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        rows = model_of(pydantic.Json[list[access]])

        def take(rows: Any) -> int:
            """Takes rows."""
            return len(rows.a)

        async def take_later(rows: Any) -> int:
            """Takes rows."""
            return len(rows.a)

        hostile = {"a": str(list(range(10**6, 10**6 + number)))}
        call, later = tool_of(take, rows), tool_of(take_later, rows)
        with pytest.raises(ValueError, match="Arg rows is invalid"):
            call(rows=hostile)
        with pytest.raises(ValueError, match="Arg rows is invalid"):
            asyncio.run(later(rows=hostile))

        assert len(access._value2member_map_) == 3
        assert call(rows={"a": "[3, 5]"}) == 2

    def test_flags_of_inputs_are_bounded(self):
        """An input may be an answer of another run."""
        access = enum.IntFlag("access", ["R", "W", "X"])
        task = signature({"q": pydantic.RootModel[list[access]]}, {"answer": str})

        with pytest.raises(InputError, match="no flags of access"):
            check_inputs(task, {"q": list(range(10**6, 10**6 + 100))})

        assert len(access._value2member_map_) == 3
        assert check_inputs(task, {"q": [3]})["q"].root == [access.R | access.W]


def flag_holders(access: Any) -> dict[str, tuple[Any, Any]]:
    """Returns types with a flag inside, and functions that make the plain data of one."""
    model = pydantic.create_model("Model", access=(access, ...))
    alias = pydantic.create_model("Alias", access=(access, pydantic.Field(alias="a")))
    return {
        "model": (model, lambda n: {"access": n}),
        "dataclass": (
            dataclasses.make_dataclass("Data", [("access", access | None)]),
            lambda n: {"access": n},
        ),
        "typed dict": (
            TypedDict("Dict", {"access": access}),
            lambda n: {"access": n},
        ),
        "key": (dict[access, int], lambda n: {n: 1}),
        "nested": (
            pydantic.create_model("Outer", rows=(list[tuple[str, model]], ...)),
            lambda n: {"rows": [("x", {"access": n})]},
        ),
        "alias": (alias, lambda n: {"a": n}),
    }
