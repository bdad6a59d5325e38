"""Descriptions of inputs in the prompt, before any code reads them."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import dspy
import pydantic
import pytest

from dspy_rlm.prompts.class_lines import class_lines
from dspy_rlm.prompts.variables import describe
from dspy_rlm.values.conversion import type_rules
from dspy_rlm.values.measures import MAX_COUNTED_PARTS
from dspy_rlm.values.previews import preview
from sandbox_runtime.helpers import annotation_text


class Row(pydantic.BaseModel):
    when: datetime.date
    amount: float | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int


@dataclasses.dataclass
class Text:
    text: str


class Pair(NamedTuple):
    left: str
    right: int


FIELD = dspy.Signature("v -> a").input_fields["v"]


class TestDescribe:
    def test_a_text_is_told_by_its_ends(self):
        """A text is described by its exact size, its beginning and its end."""
        description = describe("logs", "a" * 1000 + "z" * 1_000_000, FIELD, type_rules())

        assert description.render() == (
            "Variable: `logs` (access it in your code)\nType: str\nSize: 1,001,000 characters\n"
            f"Preview:\n```\n{'a' * 500}\n[... 1,000,000 characters not shown ...]\n{'z' * 500}\n```"
        )

    def test_description_and_constraints_of_the_field_are_told(self):
        """A field's description and constraints are in the description of its variable."""
        field = dspy.InputField(desc="one per line", min_length=3)
        text = describe("v", "abc", field, type_rules()).render()

        assert "Description: one per line" in text
        assert "Constraints: minimum length: 3" in text

    @pytest.mark.parametrize(
        ("value", "line"),
        [
            ({"a.py": "xy", "b.py": "z"}, ["dict[str, str]", "2 items, 3 characters of text"]),
            ([1, 2, 3], ["list[int]", "3 items"]),
            (b"\x00\xff", ["bytes", "2 bytes", "b'\\x00\\xff'"]),
            (7, ["int", "7"]),
            (None, ["NoneType", "None"]),
            (
                [Row(when=datetime.date(2026, 1, 2))],
                ["list[Row]", "Row(when: datetime.date, amount: "],
            ),
            ({"k": Point(1, 2)}, ["dict[str, Point]", "Point(x: int, y: int)"]),
            (Pair("a", 1), ["Pair", "Pair(left: str, right: int)"]),
        ],
    )
    def test_other_values_are_told_by_type_and_size(self, value, line):
        """Other values are described by element types, sizes, and the fields of records."""
        text = describe("v", value, FIELD, type_rules()).render()

        for part in line:
            assert part in text

    @pytest.mark.parametrize(
        ("value", "type_line", "size"),
        [
            (
                {"a.py": "x" * 10, "lib": {"b.py": "y" * 5, "more": ["z", ("zz", 1)]}},
                "dict[str, str | dict]",
                "2 items, 18 characters of text",
            ),
            ([1, 2, None], "list[int | None]", "3 items"),
            ([1, "a", 2.0, None, b"", []], "list", "6 items, 1 character of text"),
            ({1: "a", "b": 2}, "dict[int | str, str | int]", "2 items, 1 character of text"),
            ({}, "dict", "0 items"),
            ([Row(when=datetime.date(2026, 1, 2)), Point(1, 2)], "list[Row | Point]", "2 items"),
            ([Text("abc"), Text("de")], "list[Text]", "2 items, 5 characters of text"),
            (Text("x" * 5000), "Text", "5,000 characters of text"),
            ([dspy.Image("https://example.com/a.png")], "list[Image]", "1 item"),
        ],
    )
    def test_mixed_containers_are_told_by_all_types_and_all_texts(self, value, type_line, size):
        """A type is that of all elements, and a size has the texts at every depth: one element is no sample."""
        lines = describe("v", value, FIELD, type_rules()).render().split("\n")

        assert f"Type: {type_line}" in lines
        assert f"Size: {size}" in lines

    def test_the_records_of_a_mixed_container_are_all_told(self):
        """Each class of records among the elements has its line of fields."""
        rows = [Row(when=datetime.date(2026, 1, 2)), Point(1, 2)]

        fields = describe("rows", rows, FIELD, type_rules()).fields

        assert "Row(when: datetime.date" in fields
        assert "Point(x: int, y: int)" in fields

    def test_counting_stops_in_a_value_of_very_many_parts(self):
        """The text of a huge value is counted up to a bound, and its size says that there is more."""
        size = describe("v", [[["ab"]]] * MAX_COUNTED_PARTS, FIELD, type_rules()).size

        assert size.startswith(f"{MAX_COUNTED_PARTS:,} items, more than ")

    def test_a_long_list_of_texts_is_counted_in_full(self):
        """Counting a flat container is fast, so its size is exact."""
        size = describe("v", ["ab"] * MAX_COUNTED_PARTS, FIELD, type_rules()).size

        assert size == f"{MAX_COUNTED_PARTS:,} items, {2 * MAX_COUNTED_PARTS:,} characters of text"

    def test_the_gap_in_a_text_inside_a_container_is_visible(self):
        """A text that is cut within a value says how much is missing, so it does not read like one sentence."""
        text = preview(["Order 17 " + "x" * 500 + " on 2025-12-25"])

        assert text.startswith("['Order 17 x")
        assert "x [... 363 characters ...] x" in text
        assert text.endswith("x on 2025-12-25']")

    def test_a_large_container_costs_no_more_than_a_small_one(self):
        """Only the first elements of a container are read."""

        class Untouchable:
            def __repr__(self) -> str:
                raise AssertionError("this element is not to be shown")

        rows: list[object] = [*range(10), *(Untouchable() for _ in range(100_000))]

        assert len(describe("rows", rows, FIELD, type_rules()).preview) < 200

    def test_previews_are_bounded(self):
        """Previews of large and deep values stay within the bound."""
        assert len(preview({f"k{n}": "x" * 10_000 for n in range(100)})) <= 1060
        assert len(preview([[["x" * 500] * 50] * 50] * 50)) <= 1060


def locally() -> type:
    class Inner(pydantic.BaseModel):
        n: int

    return Inner


class Level(enum.Enum):
    LOW = 1
    HIGH = "h"


class Order(pydantic.BaseModel):
    code: str = pydantic.Field(pattern="^A", description="of the shop")
    total: float = pydantic.Field(ge=0, lt=10)
    level: Level = Level.LOW
    mail: str | None = None
    rows: list[Row] = pydantic.Field(default_factory=list, max_length=3)
    at: datetime.datetime = pydantic.Field(default_factory=datetime.datetime.now)


@dataclasses.dataclass
class Part:
    name: str = dataclasses.field(metadata={"desc": "as printed"})
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    count: int = 3


class Span(NamedTuple):
    first: int
    last: int = 9


class Loose(TypedDict, total=False):
    a: int


class TestClassLines:
    @pytest.mark.parametrize(
        ("cls", "line"),
        [
            (
                Order,
                "Order(code: str (matches '^A'; of the shop), total: float (>= 0; < 10), level: Level = Level.LOW, "
                "mail: str | None = None, rows: list[Row] = [] (at most 3 long), at: datetime.datetime = ...)",
            ),
            (Part, "Part(name: str (as printed), sizes: dict[str, int] = {}, count: int = 3)"),
            (Span, "Span(first: int, last: int = 9)"),
            (Loose, "Loose(a: int (optional))"),
            (Level, "enum Level(LOW=1, HIGH='h')"),
        ],
    )
    def test_a_class_is_its_call(self, cls, line):
        """Plain names, defaults and constraints: the line says what a JSON schema would."""
        assert class_lines([list[cls]], type_rules())[0] == line

    def test_a_long_description_is_abridged(self):
        """A document in a description is not repeated in the prompt."""
        field = pydantic.Field(description="x" * 10_000)
        cls = pydantic.create_model("Long", a=(str, field))

        assert len(class_lines([cls], type_rules())[0]) < 200


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (list[int], "list[int]"),
        (datetime.date, "datetime.date"),
        (Row, "Row"),
        (int | None, "int | None"),
        (Literal["a", 1], "Literal['a', 1]"),
        (None, "None"),
        (Any, "Any"),
        (dict[str, datetime.date], "dict[str, datetime.date]"),
        (list[Row], "list[Row]"),
        (Optional[Row], "Row | None"),  # noqa: UP045
        (dict[str, list[Row] | None], "dict[str, list[Row] | None]"),
        (Callable[[int], str], "Callable[[int], str]"),
        (Sequence[Row], "Sequence[Row]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Annotated[list[Annotated[Row, 1]], 2], "list[Row]"),
        (Literal["a", Level.LOW], "Literal['a', Level.LOW]"),
        (locally(), "Inner"),
        (list[locally()], "list[Inner]"),
    ],
)
def test_types_are_written_as_one_writes_them(annotation, text):
    """Types have short names for the user's classes, full ones for the standard library's."""
    assert annotation_text(annotation) == text
