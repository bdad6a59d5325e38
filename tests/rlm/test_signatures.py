"""Signatures that cells write: what is understood, and what no text can reach."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import typing
from typing import Literal

import dspy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_rlm.signatures import signature_of


class Person(pydantic.BaseModel):
    name: str


def types(source, given=(), known=None):
    signature = signature_of(source, dict.fromkeys(given, ""), known or {"Person": Person})
    return {name: field.annotation for name, field in signature.fields.items()}


class TestText:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("int", int),
            ("list[str] | None", list[str] | None),
            ("datetime.date", datetime.date),
            ("date", datetime.date),
            ("datetime", datetime.datetime),
            ("datetime.datetime", datetime.datetime),
            ("Decimal", decimal.Decimal),
            ("dict[str, list[Person]]", dict[str, list[Person]]),
            ("Literal['a -> b', 2, None]", Literal["a -> b", 2, None]),
            ("typing.Optional[float]", float | None),
            ("tuple[int, ...]", tuple[int, ...]),
            ("List[Person]", list[Person]),
            ("'list[int]'", list[int]),
            ("dspy.Image", dspy.Image),
            ("Any", typing.Any),
        ],
    )
    def test_types_are_those_that_one_writes(self, written, meant):
        """Builtins, standard modules, typing, DSPy's media, the run's own classes."""
        found = types(f"text -> out: {written}")["out"]

        assert found == meant or typing.get_args(found) == typing.get_args(meant)

    @pytest.mark.parametrize(
        "written",
        [
            "os.environ['HOME']",
            "Literal[os.environ['HOME']]",
            "antigravity",
            "__import__('os')",
            "().__class__.__bases__[0]",
            "dspy.LM",
            "datetime.sys",
            "[int]",
            "lambda: 1",
            "(x := int)",
            "list[int](3)",
        ],
    )
    def test_nothing_else_is_reached(self, written):
        """No module is imported, no attribute read, nothing called."""
        with pytest.raises(ValueError, match=r"not known|no type|no signature|holds texts"):
            types(f"text -> out: {written}")

    @given(st.text(max_size=60))
    def test_any_text_is_a_signature_or_a_value_error(self, text):
        """What a cell sends cannot break the host."""
        with contextlib.suppress(ValueError):
            types(text)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "signature",
                            "fields",
                            "classes",
                            "class",
                            "kind",
                            "members",
                            "type",
                            "A",
                            "enum",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
        )
    )
    def test_any_data_is_a_signature_or_a_value_error(self, source):
        """Also where it looks like one that our own code in the sandbox has made."""
        with contextlib.suppress(ValueError):
            types(source)


class TestClasses:
    def test_classes_are_made_of_their_fields(self):
        """With types, defaults, descriptions and bounds; none of their code."""
        schema = {
            "kind": "record",
            "fields": {
                "n": {"type": "int", "constraints": {"ge": 1}, "desc": "a count"},
                "tags": {"type": "list[str]", "optional": True, "default": []},
            },
        }
        made = types({"signature": "t -> box: Box", "classes": {"Box": schema}})["box"]

        assert made(n=1).tags == []
        assert made.model_fields["n"].description == "a count"
        with pytest.raises(pydantic.ValidationError):
            made(n=0)

    def test_the_runs_own_class_comes_first_for_what_came_from_it(self):
        """A record class that the host has sent is that class again."""
        own = {"kind": "record", "host": True, "fields": {}}
        other = {"kind": "record", "fields": {"name": "int"}}

        assert types({"signature": "t -> p: Person", "classes": {"Person": own}})["p"] is Person
        assert (
            types({"signature": "t -> p: Person", "classes": {"Person": other}})["p"] is not Person
        )

    def test_inputs_are_those_that_are_given(self):
        """Where only outputs are written down."""
        signature = signature_of({"fields": {"n": {"type": "int"}}}, {"text": "x"}, {})

        assert list(signature.input_fields) == ["text"]
        assert list(signature.output_fields) == ["n"]
