"""Signatures that cells write: what is understood, and what no text can reach."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import time
import typing
from typing import Literal

import dspy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_rlm.signatures.cell_types import class_kinds
from dspy_rlm.signatures.outputs import typed_outputs
from dspy_rlm.signatures.parser import signature_of
from tests.measuring import Cost


class Person(pydantic.BaseModel):
    name: str


def types(source, inputs=(), names=None):
    signature = signature_of(source, dict.fromkeys(inputs, ""), names or {"Person": Person})
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
        """A text may name builtins, standard modules, typing, DSPy's media and the run's own classes."""
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
        """Parsing a signature imports no module, reads no attribute and calls nothing."""
        with pytest.raises(ValueError, match=r"not known|not a type|not a signature|holds texts"):
            types(f"text -> out: {written}")

    @given(st.text(max_size=60))
    def test_any_text_is_a_signature_or_a_value_error(self, text):
        """Any text of a cell is a signature or a ValueError, never another exception."""
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
                            "alias",
                            "constraints",
                            "pattern",
                        ]
                    ),
                    inner,
                    max_size=4,
                )
            ),
        )
    )
    def test_any_data_is_a_signature_or_a_value_error(self, source):
        """Any data is a signature or a ValueError, even if it resembles one of our own guest code."""
        with contextlib.suppress(ValueError):
            types(source)


class TestClasses:
    def test_classes_are_made_of_their_fields(self):
        """Classes are rebuilt from their fields' types, defaults, descriptions and bounds, without their code."""
        schema = {
            "kind": "record",
            "fields": {
                "n": {"type": "int", "constraints": {"ge": 1}, "desc": "a count"},
                "tags": {"type": "list[str]", "optional": True, "default": []},
            },
        }
        box = types({"signature": "t -> box: Box", "classes": {"Box": schema}})["box"]

        assert box(n=1).tags == []
        assert box.model_fields["n"].description == "a count"
        with pytest.raises(pydantic.ValidationError):
            box(n=0)

    def test_the_runs_own_class_comes_first_for_what_came_from_it(self):
        """A record class that the host has sent is that class again."""
        own = {"kind": "record", "host": True, "fields": {}}
        other = {"kind": "record", "fields": {"name": "int"}}

        assert types({"signature": "t -> p: Person", "classes": {"Person": own}})["p"] is Person
        assert (
            types({"signature": "t -> p: Person", "classes": {"Person": other}})["p"] is not Person
        )

    def test_inputs_are_those_that_are_given(self):
        """If only outputs are declared, the inputs are the passed ones."""
        signature = signature_of({"fields": {"n": {"type": "int"}}}, {"text": "x"}, {})

        assert list(signature.input_fields) == ["text"]
        assert list(signature.output_fields) == ["n"]


class TestAliases:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("Cat", Literal["a", "b"]),
            ("list[Cat]", list[Literal["a", "b"]]),
            ("Cats", list[Literal["a", "b"]]),
            ("Literal[Cat, 'c']", Literal["a", "b", "c"]),
            ("Literal[tuple(Cat)]", Literal["a", "b"]),
            ("dt.date", datetime.date),
            ("Annotated[int, 'x']", int),
        ],
    )
    def test_an_alias_is_its_type(self, written, meant):
        """The name of an alias is its type, within other types, literals and aliases too."""
        aliases = {"Cat": "Literal['a', 'b']", "Cats": "list[Cat]", "dt.date": "datetime.date"}
        classes = {name: {"kind": "alias", "type": text} for name, text in aliases.items()}

        assert types({"signature": f"t -> out: {written}", "classes": classes})["out"] == meant

    def test_an_alias_within_itself_is_any_value(self):
        """A recursive alias ends at its second level."""
        classes = {"Json": {"kind": "alias", "type": "dict[str, Json] | str"}}
        found = types({"signature": "t -> out: Json", "classes": classes})["out"]

        assert found == dict[str, typing.Any] | str

    def test_a_typed_dict_has_required_and_optional_keys(self):
        """A typed dict of a cell is one on each version of Python."""
        fields = {"name": "str", "count": {"type": "int", "optional": True}}
        classes = {"Item": {"kind": "typed", "fields": fields}}
        item = types({"signature": "t -> out: Item", "classes": classes})["out"]
        adapter = pydantic.TypeAdapter(item)

        assert adapter.validate_python({"name": "x", "count": "1"}) == {"name": "x", "count": 1}
        assert adapter.validate_python({"name": "x"}) == {"name": "x"}
        with pytest.raises(pydantic.ValidationError):
            adapter.validate_python({"count": 1})

    @pytest.mark.parametrize(("modules", "is_named"), [((), False), (("pydantic",), True)])
    def test_pydantic_is_named_where_cells_can_import_it(self, modules, is_named):
        """The error of an unknown type names the kinds of classes that this sandbox has."""
        with pytest.raises(ValueError, match="a dataclass, an Enum, a TypedDict") as caught:
            signature_of("t -> out: Invoice", {}, {}, class_kinds(modules))

        assert ("Pydantic" in str(caught.value)) is is_named


class TestSize:
    """A signature is built on the host before any charge, so its parts are bounded."""

    @pytest.mark.parametrize(
        "source",
        [
            {
                "signature": "t -> b: C0",
                "classes": {
                    f"C{n}": {
                        "kind": "record",
                        "fields": {
                            f"f{k}": f"C{n + 1}" if not k and n < 98 else "int" for k in range(300)
                        },
                    }
                    for n in range(99)
                },
            },
            {
                "signature": "t -> b: E",
                "classes": {
                    "E": {"kind": "enum", "members": {f"m{n}": n for n in range(8_000)}},
                },
            },
            f"t -> b: Literal[{', '.join(map(str, range(10_000)))}]",
            f"t -> b: {' | '.join(['int'] * 2_500)}",
            {
                "signature": "t -> b: A0",
                "classes": {
                    f"A{n}": {"kind": "alias", "type": f"tuple[A{n + 1}, A{n + 1}]"}
                    for n in range(500)
                },
            },
            {
                "signature": f"t -> b: tuple[{', '.join(['A'] * 1_900)}]",
                "classes": {"A": {"kind": "alias", "type": f"Literal['{'x' * 50_000}']"}},
            },
            {"fields": {"b": {"type": "str", "desc": "x" * 5_000_000}}},
            {"signature": "t -> b", "instructions": "x" * 5_000_000},
            {
                "signature": "t -> b",
                "classes": {"C": {"kind": "record", "fields": {"x" * 200_000: "int"}}},
            },
            {"signature": "t -> b", "classes": {"C": {"default": [0] * 100_000}}},
            "t " + "-> " * 10_000 + "b",
        ],
        ids=[
            "classes",
            "enum",
            "literal",
            "union",
            "aliases",
            "long alias",
            "text",
            "instructions",
            "name",
            "default",
            "arrows",
        ],
    )
    def test_one_that_is_too_large_is_refused(self, source):
        """A signature that is too large is refused early, with what to do instead."""
        began = time.process_time()
        with pytest.raises((ValueError, RecursionError)) as caught:
            signature_of(source, {"t": ""}, {})

        assert len(str(caught.value)) < 1_000
        assert time.process_time() - began < 2

    @pytest.mark.parametrize("count", [100, 101])
    def test_an_enum_has_few_members_without_a_hash(self, count):
        """An enum with unhashable values has few members: Python compares each with all others."""
        members = {f"m{n}": [n] for n in range(count)}
        source = {"signature": "t -> b: E", "classes": {"E": {"kind": "enum", "members": members}}}
        if count <= 100:
            assert len(types(source)["b"]) == count
        else:
            with pytest.raises(ValueError, match="more than 100 members"):
                types(source)

    def test_one_of_usual_size_is_made(self):
        """Signatures of a usual size are built: a thousand labels, tuples as members, long instructions."""
        labels = ", ".join(repr(f"label {n}") for n in range(1_000))
        assert len(typing.get_args(types(f"t -> b: Literal[{labels}]")["b"])) == 1_000
        members = {f"m{n}": (n, n) for n in range(500)}
        source = {
            "signature": "t -> b: E",
            "instructions": "x" * 200_000,
            "classes": {"E": {"kind": "enum", "members": members}},
        }
        assert len(types(source)["b"]) == 500


def patterned(*patterns):
    """Returns the output fields of a cell's signature, each with a pattern."""
    fields = {
        f"f{n}": {"type": "str", "constraints": {"pattern": p}} for n, p in enumerate(patterns)
    }
    return signature_of({"fields": fields}, {"t": ""}, {}).output_fields


class TestPatterns:
    """A cell's patterns are matched on the host, in memory and time that grow with pattern and text."""

    @pytest.mark.parametrize(
        "pattern",
        [r"(\w*)*" * 80 + "Z", r"\w" * 240, "(?x)a{#}\n1000}", "a{100}b{2}", r"(?:\w\pL\W){90}"],
        ids=["groups", "classes", "verbose", "repetitions", "product"],
    )
    def test_one_that_is_too_large_is_refused(self, pattern):
        """The size of a pattern counts its classes, groups and repetitions, before it is compiled."""
        with Cost() as cost, pytest.raises(ValueError, match="The pattern "):
            patterned(pattern)

        assert cost.cpu_seconds < 0.1
        assert cost.peak_bytes < 10_000_000

    def test_all_of_one_signature_are_bounded_together(self):
        """Many patterns, each of a size that is allowed, are refused as well."""
        with Cost() as cost, pytest.raises(ValueError, match="too large"):
            patterned(*(rf"\W{{20}}{n}" for n in range(90)))

        assert cost.cpu_seconds < 0.5

    @pytest.mark.parametrize(
        ("pattern", "count"), [(r"(?:\w*)*" * 60 + "Z", 2), (r"(?:a|b)*a(?:a|b){90}!", 5)]
    )
    @pytest.mark.parametrize("size", [12_000, 100_000])
    def test_matching_is_bounded(self, pattern, count, size):
        """All matches of a signature take at most 0.3 s, and nothing of them is kept."""
        fields = patterned(*(pattern + str(n) for n in range(count)))
        text = "aabab" * (size // 5)

        with Cost() as cost:
            values, problems = typed_outputs(fields, dict.fromkeys(fields, text))

        assert not values
        assert len(problems) == count
        assert cost.cpu_seconds < 0.6
        assert cost.peak_bytes < 20_000_000

    @pytest.mark.parametrize(
        ("pattern", "text"),
        [
            (r"^[A-Z]{2,3}-\d{4}(-[a-z]+)?$", "AB-1234-x"),
            (r"^(\d{3})-(\d{3})-(\d{4})$", "555-123-4567"),
            (r"^[\w.+-]+@[\w-]+\.[\w.]{2,}$", "ann@example.com"),
            (r"^\w{1,50}$", "name"),
            (r"needle", "hay " * 24_000 + "needle"),
        ],
    )
    def test_honest_ones_pass(self, pattern, text):
        """Patterns of codes, numbers and addresses match, and refuse other texts."""
        fields = patterned(pattern)

        assert typed_outputs(fields, {"f0": text}) == ({"f0": text}, [])
        assert "should match pattern" in str(typed_outputs(fields, {"f0": "?"})[1])

    def test_nothing_is_kept_of_earlier_signatures(self):
        """Compiled patterns take memory until the next signature with patterns, at the most."""

        def build(n):
            fields = patterned(r"(?:\w*)*" * 60 + f"Z{n}")
            typed_outputs(fields, {"f0": "a" * 1_000})

        for n in range(3):
            build(n)
        with Cost() as cost:
            for n in range(3, 20):
                build(n)

        assert cost.peak_bytes < 30_000_000

    def test_many_short_texts_are_quick(self):
        """A pattern of a class is compiled once for many rows."""
        row = {"kind": "record", "fields": {"n": {"constraints": {"pattern": r"^\w{1,30}$"}}}}
        source = {"signature": "t -> rows: list[Row]", "classes": {"Row": row}}
        fields = signature_of(source, {"t": ""}, {}).output_fields

        with Cost() as cost:
            typed_outputs(fields, {"rows": [{"n": "abc"}] * 5_000})

        assert cost.cpu_seconds < 1
