"""Values from the host: standard types arrive unchanged, small ones inline, all others are refused."""

from __future__ import annotations

import array
import datetime
import http
import io
import json
import math
import pickle
import re
import threading
import types
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import pydantic
import pytest
from hypothesis import given
from value_samples import (
    Level,
    Plain,
    Point,
    same,
    to_host,
    to_sandbox,
    trees,
)

from sandbox_runtime.errors import ValueCrossingError
from sandbox_runtime.guest.values.codec import INLINE_CHARS, receive
from sandbox_runtime.values.encoder import encode, encode_inline


class TestToSandbox:
    """Host to sandbox: every standard type keeps its type."""

    @given(trees)
    def test_values_arrive_as_they_are(self, value):
        """Any nesting of standard types arrives equal in type and value."""
        assert same(to_sandbox(value), value)

    @pytest.mark.parametrize(
        "value",
        [
            10**10_000,
            -(10**10_000),
            -0.0,
            math.inf,
            "\ud800",
            "🙂" * 100_000,
            bytearray(b"abc"),
            range(3),
            slice(1, 2),
            ...,
            deque([1, 2], maxlen=2),
            Counter("abba"),
            OrderedDict(b=1, a=2),
            defaultdict(list, a=[1]),
            array.array("d", [1.5]),
            Decimal("NaN"),
            datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            re.compile("a+", re.IGNORECASE),
            ValueError("bad", 3),
            int,
            len,
            math.sin,
            http.HTTPStatus.NOT_FOUND,
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_rare_standard_values(self, value):
        """Every standard-library value that can be pickled arrives with its type."""
        arrived = to_sandbox(value)

        assert type(arrived) is type(value)
        assert arrived == value or repr(arrived) == repr(value)

    def test_text_and_bytes_travel_raw(self):
        """Text and bytes, the two large types, are never pickled, and bytes are not even copied."""
        data = b"x" * 100

        assert encode("naïve", "x") == ("text", ["naïve".encode()])
        assert encode(data, "x")[1][0] is data

    def test_small_buffers_travel_in_the_pickle(self):
        """However many there are: the header of a frame has no room for their lengths."""
        _, parts = encode([pickle.PickleBuffer(bytes(9)) for _ in range(30_000)], "x")

        assert len(parts) == 1

    def test_no_more_large_buffers_than_a_header_can_list(self):
        """Buffers beyond the first 1,000 are stored in the pickle itself."""
        buffer = bytes(70_000)
        _, parts = encode([pickle.PickleBuffer(buffer) for _ in range(1_010)], "x")

        assert len(parts) == 1_001

    def test_buffers_travel_beside_the_pickle(self):
        """Large binary parts of a value are not copied into it."""
        buffer = bytearray(100_000)

        kind, parts = encode([pickle.PickleBuffer(buffer)], "x")

        assert kind == "pickle"
        assert [memoryview(part).nbytes for part in parts[1:]] == [100_000]
        assert memoryview(parts[0]).nbytes < 100

    @pytest.mark.parametrize("kind", [PurePosixPath, PureWindowsPath, Path, PurePath])
    def test_paths_become_pure_posix_paths(self, kind):
        """In the sandbox a path is only a name, whatever system it comes from."""
        assert to_sandbox(kind("a/b")) == PurePosixPath("a/b")

    def test_shared_parts_stay_shared(self):
        """Two references to one object arrive as two references to one object."""
        part = [1]

        first, second = to_sandbox([part, part])

        assert first is second

    def test_cycles(self):
        """A value may contain itself, also through a record."""
        rows: list[Any] = []
        rows.append({"rows": rows})
        point = Point(1, None)
        point.y = [point]

        arrived = to_sandbox(rows)
        record = to_sandbox(point)

        assert arrived[0]["rows"] is arrived
        assert record.y[0] is record


class TestInline:
    """Small results of tools travel as JSON text in the message itself."""

    @pytest.mark.parametrize(
        "value", [None, True, 3, -(2**63), 10**4000, 1.5, math.inf, "naïve \ud800", ""]
    )
    def test_small_plain_values(self, value):
        """A small plain value arrives unchanged."""
        inline = encode_inline(value)

        assert inline is not None
        assert same(receive("json", [inline.encode()]), value)

    def test_nan(self):
        """NaN is not JSON, but both ends are Python and accept it."""
        assert encode_inline(math.nan) == "NaN"

    @pytest.mark.parametrize(
        "value",
        ["x" * (INLINE_CHARS + 1), b"", [], Level.HIGH, 10**5000],
        ids=["text", "bytes", "list", "enum", "int"],
    )
    def test_other_values_are_not_inline(self, value):
        """Large values, types other than plain ones, and integers too long for JSON take the usual path."""
        assert encode_inline(value) is None


class TestRefusedByHost:
    """Values that must not or cannot enter the sandbox are refused, and the error names the place."""

    @pytest.mark.parametrize(
        ("value", "place"),
        [
            (Plain(), "rows is of type value_samples.Plain,"),
            ([1, Plain()], "rows[1] is of type"),
            ([0, 1, 2, {"when": Plain()}], "rows[3]['when'] is of type"),
            ({"a": (1, {2: Plain()})}, "rows['a'][1][2] is of type"),
            (Point(1, [Plain()]), "rows.y[0] is of type"),
            ({frozenset([len, to_host]): 1}, "rows key <frozenset>"),
            (threading.Lock(), "rows is of type _thread.lock,"),
            ([io.BytesIO(), Plain()], "rows[1] is of type"),
            (lambda: 1, "rows is of type function,"),
            (to_host, "rows is of type function,"),
            (Plain, "rows is of type type,"),
            (defaultdict(lambda: 1), "rows is of type collections.defaultdict,"),
            ([json], "rows[0] is of type module,"),
        ],
        ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
    )
    def test_the_place_is_named(self, value, place):
        """The message starts with the place and the type, and ends with what to do."""
        with pytest.raises(ValueCrossingError) as caught:
            encode(value, "rows")

        assert str(caught.value).startswith(place)
        assert str(caught.value).endswith("or give the sandbox a tool that works on it.")

    def test_a_generator_is_refused_with_the_alternatives(self):
        """The message names a list, and `TextStream` for a long text."""
        with pytest.raises(
            ValueCrossingError, match=r"rows is of type generator, .* TextStream\(pieces\)"
        ):
            encode((n for n in [1]), "rows")

    def test_it_is_a_type_error_too(self):
        """Callers that know nothing of our errors can catch the standard one."""
        with pytest.raises(TypeError):
            encode(Plain(), "x")

    def test_open_files_are_refused(self, tmp_path):
        """Resources of the host never cross."""
        with (tmp_path / "f").open("w") as file, pytest.raises(ValueCrossingError, match=r"x\[0\]"):
            encode([file], "x")

    def test_a_value_that_is_too_deep(self):
        """Python's pickler exceeds its recursion limit; the error blames the value, not our code."""
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]

        with pytest.raises(ValueCrossingError, match="recursion"):
            encode(value, "x")

    def test_a_record_without_one_of_its_fields(self):
        """A half-initialized object is refused like any other value that cannot be read."""
        point = Point(1, 2)
        del point.y

        with pytest.raises(ValueCrossingError, match=r"^x\[0\] is of type value_samples\.Point"):
            encode([point], "x")

    def test_a_value_whose_own_methods_fail(self):
        """Whatever a value's reducer raises, the error names the value."""

        class Evil(dict):
            def __reduce_ex__(self, protocol):
                raise OSError("evil")

        with pytest.raises(ValueCrossingError, match=r"^x\['a'\] is of type .*Evil"):
            encode({"a": Evil()}, "x")

    def test_a_subclass_is_not_its_base(self):
        """A subclass is refused rather than reduced to its base, because what it adds would be lost."""

        class Names(list):
            pass

        with pytest.raises(ValueCrossingError, match="exists on the host only"):
            encode(Names(), "x")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [("a", 1)]),
        (OrderedDict(a=1).values(), [1]),
        (memoryview(b"abc")[1:], b"bc"),
        (pydantic.HttpUrl("http://a.b/"), "http://a.b/"),
        ([pydantic.AnyUrl("ftp://a.b")], ["ftp://a.b/"]),
    ],
)
def test_views_and_addresses_are_plain_data(value, plain):
    """They cannot be pickled, or have a class that the sandbox lacks, but their content is clear."""
    assert to_sandbox(value) == plain


def test_a_secret_stays_on_the_host():
    """Pydantic's secrets are no text: they are refused, without their content."""
    with pytest.raises(ValueCrossingError, match="SecretStr") as caught:
        encode(pydantic.SecretStr("xyzzy"), "v")
    assert "xyzzy" not in str(caught.value)
