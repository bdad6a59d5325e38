"""Hostile values from the sandbox: the host gets plain data at a bounded cost, or an error."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from value_samples import (
    Cat,
    Color,
    Pair,
    Plain,
    Point,
    to_host,
)

from sandbox_runtime.errors import SandboxError, ValueCrossingError
from sandbox_runtime.guest.values import codec
from sandbox_runtime.values.decoder import is_shallow
from sandbox_runtime.values.encoder import ValueCodec, decode
from sandbox_runtime.values.type_rules import HandleType

CLASSES = [Point, Pair, Color, Cat]


def class_name(kind):
    """Returns the name under which a value refers to a class of its session."""
    return f"{kind.__module__}.{kind.__name__}"


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
    """For any bytes from the sandbox, the host gets a value or a ValueCrossingError."""

    @pytest.mark.parametrize("data", hostile, ids=lambda data: data[:40].decode("latin-1"))
    def test_wrong_data_is_refused(self, data):
        """Bad tags, wrong indexes, deep nesting and texts that build huge numbers are refused."""
        with pytest.raises(ValueCrossingError, match="cannot be read"):
            decode([data])

    def test_no_parts(self):
        """A value consists of at least one part."""
        with pytest.raises(ValueCrossingError, match="it has no parts"):
            decode([])

    def test_text_that_is_not_utf_8(self):
        """Raw bytes that claim to be text are refused if they are not UTF-8."""
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
                        "as": inner | st.sampled_from([class_name(kind) for kind in CLASSES]),
                        "zone": inner | st.sampled_from(["UTC", "..", "/etc", "Europe"]),
                    },
                )
            ),
        ),
        st.lists(st.binary(max_size=5), max_size=2),
    )
    def test_any_tree_of_tags(self, tree, extras):
        """No combination of tags raises anything else, even in a session with classes and handles."""
        value_codec = ValueCodec([HandleType(Plain)])
        value_codec.encode([Point(1, 2), Pair(1, "a"), Color.RED, Cat(name="Tom"), Plain()], "v")

        with contextlib.suppress(ValueCrossingError):
            value_codec.decode([json.dumps(tree).encode(), *extras])

    @given(st.binary())
    def test_noise(self, noise):
        """Bytes that are not JSON raise only our own errors."""
        with contextlib.suppress(SandboxError):
            decode([noise])

    def test_only_plain_values_are_built(self):
        """No tag names a class: only these standard types can come out."""
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


def outcome(decode_it):
    """Returns a value, or that there is none."""
    try:
        return repr(decode_it())
    except ValueCrossingError:
        return "refused"


class TestArgumentsOfCalls:
    """The fast way for small arguments has the results of the usual one."""

    @pytest.mark.parametrize("data", hostile, ids=lambda data: repr(data[:20]))
    def test_hostile_ones(self, data):
        """Whatever the usual way refuses is refused."""
        text, most = data.decode("utf-8", "replace"), 2**30

        found = outcome(lambda: ValueCodec().decode_call(text, [], most))

        assert found == outcome(lambda: ValueCodec().decode([text.encode()], most))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.text() | st.just("$") | st.just("of"), inner, max_size=4)
            ),
        )
    )
    def test_any_json(self, value):
        """Plain values, and those that look like tags."""
        text, most = json.dumps(value), 2**30

        found = outcome(lambda: ValueCodec().decode_call(text, [], most))

        assert found == outcome(lambda: ValueCodec().decode([text.encode()], most))

    @pytest.mark.parametrize("count", [399, 400, 401])
    def test_deep_ones(self, count):
        """Nesting is bounded at the same depth."""
        text = "[" * count + "]" * count

        found = outcome(lambda: ValueCodec().decode_call(text, [], 2**30))

        assert found == outcome(lambda: ValueCodec().decode([text.encode()], 2**30))

    def test_more_than_may_be_used(self):
        """The memory of a value is bounded for small ones as well."""
        with pytest.raises(ValueCrossingError, match="cannot be read"):
            ValueCodec().decode_call(f'["{"x" * 200}"]', [], 100)


class TestCost:
    """The cost of reading a value is bounded before it is read."""

    def test_a_part_with_many_references(self):
        """A part becomes one object, however many references it has."""
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
    @pytest.mark.sampled(2)
    def test_many_small_items(self, item):
        """Small items are counted before they are built; the refusal says what to do."""
        data = f"[{','.join([item] * 400_000)}]".encode()

        with pytest.raises(ValueCrossingError, match=r"more than 1,000,000 bytes.*frame_bytes"):
            ValueCodec().decode([data], memory_bytes=1_000_000)
        assert len(ValueCodec().decode([data], memory_bytes=200_000_000)) == 400_000

    def test_rows_of_a_table(self):
        """The dict of each row counts, not only its cells."""
        data = b'{"$":"table","of":[["a"],[[' + b"1," * 400_000 + b"1]]]}"

        with pytest.raises(ValueCrossingError, match="more than 40,000,000 bytes"):
            ValueCodec().decode([data], memory_bytes=40_000_000)
        assert len(ValueCodec().decode([data])) == 400_001

    def test_text_with_a_wide_character(self):
        """One wide character makes a text take four bytes for every character."""
        data = [b'{"$":"str","at":0}', b"x" * 1000 + "\N{SLIGHTLY SMILING FACE}".encode()]

        with pytest.raises(ValueCrossingError, match="more than 4,000 bytes"):
            ValueCodec().decode(data, memory_bytes=4_000)
        assert len(ValueCodec().decode(data, memory_bytes=5_000)) == 1001

    @pytest.mark.parametrize("exponent", [4201, -4201, 999_999_999, -999_999_999])
    def test_a_decimal_with_a_huge_exponent(self, exponent):
        """It would explode as an integer or ratio, so both sides refuse it and say what to do."""
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
        """Other decimals cross unchanged, and converted to an integer they are still printable."""
        received = to_host(number)

        assert str(received) == str(number)
        if received.is_finite():
            str(int(received))

    @pytest.mark.parametrize(
        "content", [[1, 2], [1, 2, 3, 4], [1.5, 0, 0], ["1", 0, 0], [True, 0, 0], {}, "123"]
    )
    def test_a_duration(self, content):
        """A duration has exactly three integers."""
        with pytest.raises(ValueCrossingError):
            decode([json.dumps({"$": "timedelta", "of": content}).encode()])

    def test_unknown_time_zones(self):
        """Unknown time zones are not searched for on disk: the value keeps its offset."""
        moment = {"$": "datetime", "of": "2024-01-01T00:00:00+02:00", "zone": "Area/Nowhere"}

        (read,) = decode([json.dumps([moment]).encode()])

        assert read.utcoffset() == datetime.timedelta(hours=2)


def depth_of(value):
    """Returns how deep lists and dicts are nested."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


class TestIsShallow:
    """JSON counts as shallow only if it is: the walk that it saves is what refuses deep values."""

    @given(
        st.recursive(
            st.sampled_from([1, None, "", "]", "[[", "}{", '"', "\\", "é"]),
            lambda inside: (
                st.lists(inside, max_size=3) | st.dictionaries(st.text("[]{}a"), inside, max_size=3)
            ),
            max_leaves=20,
        ),
        st.integers(0, 30),
    )
    def test_it_is_never_wrong(self, value, levels):
        """Whatever brackets are in its texts and keys."""
        for _ in range(levels):
            value = [value]
        text = json.dumps(value, ensure_ascii=False).encode()

        if is_shallow(text):
            assert depth_of(value) <= 12

    def test_brackets_in_texts_hide_nothing(self):
        """Texts that seem to close what was opened, and to open what is closed."""
        deep = b'["]",' * 300 + b"1" + b',"["]' * 300

        assert not is_shallow(deep)
        assert depth_of(json.loads(deep)) == 300

    @pytest.mark.parametrize("levels", [0, 1, 12])
    def test_numbers_are_recognised(self, levels):
        """The data that it is meant for: large, flat, few texts."""
        value = {"pairs": [[n, 2 * n] for n in range(9)]} if levels > 1 else 1
        for _ in range(levels - 3):
            value = [value]

        assert is_shallow(json.dumps(value).encode())
