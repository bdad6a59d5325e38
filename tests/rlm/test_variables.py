"""Descriptions of inputs in the prompt, before any code reads them."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Literal, NamedTuple

import dspy
import pydantic
import pytest

from dspy_rlm.prompts.variables import describe
from dspy_rlm.values.conversion import type_rules
from dspy_rlm.values.previews import preview
from sandbox_runtime.helpers import annotation_text


class Row(pydantic.BaseModel):
    when: datetime.date
    amount: float | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int


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
            f"Preview:\n```\n{'a' * 500}...{'z' * 500}\n```"
        )

    def test_description_and_constraints_of_the_field_are_told(self):
        """A field's description and constraints are in the description of its variable."""
        field = dspy.InputField(desc="one per line", min_length=3)
        text = describe("v", "abc", field, type_rules()).render()

        assert "Description: one per line" in text
        assert "Constraints: minimum length: 3" in text

    @pytest.mark.parametrize(
        ("value", "told"),
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
    def test_other_values_are_told_by_type_and_size(self, value, told):
        """Other values are described by element types, sizes, and the fields of records."""
        text = describe("v", value, FIELD, type_rules()).render()

        for part in told:
            assert part in text

    def test_a_large_container_costs_no_more_than_a_small_one(self):
        """Only the first elements of a container are read."""

        class Untouchable:
            def __repr__(self) -> str:
                raise AssertionError("this element is not to be shown")

        rows: list[object] = [*range(10), *(Untouchable() for _ in range(100_000))]

        assert len(describe("rows", rows, FIELD, type_rules()).preview) < 200

    def test_previews_are_bounded(self):
        """Previews of large and deep values stay within the bound."""
        assert len(preview({f"k{n}": "x" * 10_000 for n in range(100)})) <= 1003
        assert len(preview([[["x" * 500] * 50] * 50] * 50)) <= 1003


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
    ],
)
def test_types_are_written_as_one_writes_them(annotation, text):
    """Types have short names for the user's classes, full ones for the standard library's."""
    assert annotation_text(annotation) == text
