"""Values from the sandbox: plain data in the nearest standard type, or an error that names the place."""

from __future__ import annotations

import array
import collections
import io
import ipaddress
import itertools
import types
from collections import Counter, OrderedDict, deque
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from value_samples import (
    Color,
    Level,
    Pair,
    Point,
    Slotted,
    same,
    to_host,
    to_sandbox,
    trees,
)

from sandbox_runtime.guest.values import codec
from sandbox_runtime.guest.values.codec import INLINE_CHARS, MAX_DEPTH


class TestToHost:
    """Sandbox to host: tagged JSON and raw bytes, never a pickle."""

    @given(trees)
    def test_values_come_back_as_they_are(self, value):
        """Any nesting of standard types comes back equal in type and value."""
        assert same(to_host(value), value)

    @given(trees)
    def test_there_and_back(self, value):
        """A value survives the round trip into the sandbox and back."""
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
        """An instance of a subclass becomes one of its base type, and a record a dict of its fields."""
        assert same(to_host(value), expected)

    @pytest.mark.parametrize(
        "items",
        [
            lambda: (n for n in [1, 2]),
            lambda: map(int, "12"),
            lambda: filter(None, [0, 1, 2]),
            lambda: reversed([2, 1]),
            lambda: iter([1, 2]),
            lambda: itertools.chain([1], [2]),
            lambda: itertools.islice(itertools.count(1), 2),
            lambda: iter({1: 0, 2: 0}),
        ],
    )
    def test_an_iterator_is_sent_as_its_items(self, items):
        """Values that a comprehension without brackets, `map` or `itertools` would return one by one leave as a list."""
        assert to_host(items()) == [1, 2]
        assert to_host({"rows": [items()]}) == {"rows": [[1, 2]]}
        assert to_host(zip(items(), "ab")) == [(1, "a"), (2, "b")]  # noqa: B905 - itself the subject

    def test_an_error_of_an_iterator(self):
        """An exception of a generator is raised, and a file is no list of its lines."""
        with pytest.raises(ZeroDivisionError):
            to_host(1 // n for n in [0])
        with pytest.raises(codec.CannotSend, match="is of type StringIO"):
            to_host(io.StringIO("a\nb"))

    def test_methods_of_subclasses_are_not_called(self):
        """The content of a text or number is read without calling methods that its class overrides."""

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
    def test_values_that_cannot_leave_are_named_with_their_place(self, value, message):
        """The message is for the LM: the place, the type, and what to do."""
        with pytest.raises(codec.CannotSend) as caught:
            codec.send(value, "SUBMIT")

        assert str(caught.value).startswith(message)

    def test_cycles_are_refused(self):
        """A value that contains itself would be endless as data."""
        rows: list[Any] = []
        rows.append(rows)

        with pytest.raises(codec.CannotSend, match="deeper than 100 levels, or contains itself"):
            codec.send(rows, "SUBMIT")

    def test_a_long_path_is_truncated(self):
        """The path of a deeply nested element is shortened in the message."""
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
    def test_both_sides_have_one_depth_limit(self, wrap):
        """The deepest value that the sandbox sends is not too deep for the host."""
        value: Any = 1
        for _ in range(MAX_DEPTH):
            value = wrap(value)

        assert same(to_host(value), value)

    def test_shared_parts_are_sent_twice(self):
        """A shared part is not a cycle: it is sent once for each reference."""
        part = [1]

        assert to_host([part, part]) == [[1], [1]]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
        (types.MappingProxyType({1: 2}), {1: 2}),
        (types.SimpleNamespace(a=[1], b=None), {"a": [1], "b": None}),
        (array.array("q", [2**62, -1]), [2**62, -1]),
        (ipaddress.ip_address("1.2.3.4"), "1.2.3.4"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    ],
)
def test_containers_and_addresses_of_the_standard_library(value, plain):
    """They leave as the plain data that they hold; no turn is lost to their class."""
    assert to_host(value) == plain
