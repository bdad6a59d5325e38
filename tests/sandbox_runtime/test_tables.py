"""Tables and arrays: taken apart on the host, rebuilt in the sandbox, with its packages or without.

This process has all the packages, so it rebuilds the original types. The sandbox has none of them, so it gets a `Table`
or an `Array`.
"""

from __future__ import annotations

import datetime
import math
import tracemalloc
import zoneinfo
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime import Submitted, ValueCrossingError, open_session
from sandbox_runtime.guest.values import arrays, codec
from sandbox_runtime.guest.values.arrays import Array
from sandbox_runtime.guest.values.tables import Table, receive_array
from sandbox_runtime.values.builders import Rows
from sandbox_runtime.values.encoder import decode, encode

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
MOMENT = datetime.datetime(2024, 7, 1, 12, 30, 0, 250)
THERE = datetime.datetime(2024, 7, 1, 12, 30, tzinfo=BERLIN)
HOUR = datetime.timedelta(hours=1)


def to_sandbox(value):
    kind, parts = encode(value, "v")
    return codec.receive(kind, [bytes(part) for part in parts])


def to_host(value):
    text, extras = codec.send(value, "v")
    return decode([text.encode(), *map(bytes, extras)])


@pytest.fixture(scope="module")
def session():
    """A sandbox without packages."""
    with open_session() as opened:
        yield opened


def without_packages(session, value):
    """Returns the value as it comes back from a sandbox that has no packages."""
    session.assign("v", value)
    result = session.run_cell("SUBMIT(v)")
    assert isinstance(result, Submitted), result
    return result.outputs["output"]


# Columns, by the kind of their values.
CONTENT = {
    "whole": [1, 2],
    "half": [0.5, -math.inf],
    "yes": [True, False],
    "text": ["a", None],
    "moment": [MOMENT, None],
    "there": [THERE, None],
    "span": [HOUR, None],
    "exact": [Decimal("1.10"), None],
    "nested": [[1, 2], []],
    "raw": [b"a", None],
}
PANDAS = pd.DataFrame(
    {
        **{name: pd.Series(items) for name, items in CONTENT.items()},
        "there": pd.Series([THERE, None], dtype="datetime64[us, Europe/Berlin]"),
        "kind": pd.Categorical(["u", None]),
        "maybe": pd.array([1, None], dtype="Int64"),
        "perhaps": pd.array([True, None], dtype="boolean"),
        "float": pd.array([1.5, None], dtype="Float32"),
    }
)
POLARS = pl.DataFrame(
    {
        **CONTENT,
        "there": pl.Series([THERE, None], dtype=pl.Datetime("us", "Europe/Berlin")),
        "kind": pl.Series(["u", None], dtype=pl.Categorical),
        "maybe": [1, None],
        "perhaps": [True, None],
        "float": pl.Series([1.5, None], dtype=pl.Float32),
    }
)
ARROW = pa.table(
    {
        **CONTENT,
        "there": pa.array([THERE, None], type=pa.timestamp("ns", "Europe/Berlin")),
        "kind": pa.array(["u", None]).dictionary_encode(),
        "maybe": pa.array([1, None]),
        "perhaps": pa.array([True, None]),
        "float": pa.array([1.5, None], type=pa.float32()),
    }
)
EXPECTED = {
    **CONTENT,
    "kind": ["u", None],
    "maybe": [1, None],
    "perhaps": [True, None],
    "float": [1.5, None],
}


def columns(rows):
    return {name: [row[name] for row in rows] for name in rows.columns}


class TestTables:
    """Every kind of column keeps its values."""

    @pytest.mark.parametrize("table", [PANDAS, POLARS, ARROW], ids=["pandas", "polars", "arrow"])
    def test_without_the_package(self, session, table):
        """A `Table` has the plain value in every cell."""
        back = without_packages(session, table)

        assert columns(back) == EXPECTED
        assert [type(item) for item in columns(back)["there"]] == [datetime.datetime, type(None)]

    def test_pandas(self):
        """With pandas the result is the same frame, including the types of its columns."""
        arrived = to_sandbox(PANDAS)

        pd.testing.assert_frame_equal(arrived, PANDAS)

    def test_polars(self):
        """With Polars the result is a frame with the same values."""
        assert to_sandbox(POLARS).to_dicts() == POLARS.to_dicts()

    def test_arrow(self):
        """With Arrow the result is a table with the same values."""
        assert to_sandbox(ARROW).to_pylist() == ARROW.to_pylist()

    @pytest.mark.parametrize("table", [PANDAS, POLARS, ARROW], ids=["pandas", "polars", "arrow"])
    def test_back_to_the_host(self, table):
        """A frame leaves the sandbox as rows of plain values."""
        back = to_host(table)

        assert columns(back) == EXPECTED

    def test_an_index_becomes_columns(self, session):
        """An index becomes columns if it holds more than the row numbers."""
        index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"])
        frame = pd.DataFrame({"x": [1, 2]}, index=index)

        pd.testing.assert_frame_equal(to_sandbox(frame), frame)
        assert without_packages(session, frame)[0] == {"k": "a", "n": 1, "x": 1}
        assert without_packages(session, pd.Series([1], ["a"], name="x")) == [
            {"index": "a", "x": 1}
        ]

    def test_tables_without_rows(self, session):
        """A table without rows keeps its columns."""
        for table in (PANDAS[:0], POLARS.head(0), ARROW.slice(0, 0)):
            back = without_packages(session, table)
            assert back == []
            assert back.columns == tuple(EXPECTED)

    def test_slices_of_arrow(self, session):
        """Offsets and chunks of Arrow do not affect the values."""
        table = pa.concat_tables([ARROW.slice(1), ARROW.slice(0, 1)])

        back = columns(without_packages(session, table))

        assert back == {name: items[::-1] for name, items in EXPECTED.items()}

    def test_rows_are_used_like_a_list(self):
        """The rows of a table have a length, positions from both ends and slices, and can be read again."""
        table = Table({"a": [1, 2, 3], "b": ["x", "y", "z"]}, {"a": "int64", "b": "object"}, 3)
        rows = table.rows()

        assert (len(rows), rows[0].a, rows[-1].b, [row.b for row in rows[:2]]) == (
            3,
            1,
            "z",
            ["x", "y"],
        )
        assert [row.a for row in rows] == [row.a for row in rows] == [1, 2, 3]
        assert list(table) == list(rows)
        assert to_host(rows) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "z"}]
        with pytest.raises(IndexError):
            rows[3]

    def test_rows_can_be_passed_in_again(self):
        """Rows that a host tool received can be passed in again, as a list."""
        rows = Rows([{"a": 1}])

        assert to_sandbox(rows) == [{"a": 1}]

    @pytest.mark.parametrize(
        ("column", "texts"),
        [
            (pd.cut([1, 5, 9], 2), ["(0.992, 5.0]", "(0.992, 5.0]", "(5.0, 9.0]"]),
            (pd.arrays.IntervalArray.from_breaks([0, 1, 2]), ["(0, 1]", "(1, 2]"]),
            (pd.Series([pd.Interval(0, 1)], dtype=object), ["(0, 1]"]),
            (pd.period_range("2024-01", periods=2, freq="M"), ["2024-01", "2024-02"]),
            (pd.Series([pd.Period("2024-01"), pd.NaT], dtype=object), ["2024-01", None]),
            (pd.Series([pd.offsets.MonthEnd()], dtype=object), ["ME"]),
        ],
        ids=lambda value: "",
    )
    def test_intervals_and_periods_are_texts(self, session, column, texts):
        """As columns, as series, as scalars and as the index that `groupby` makes of them."""
        frame = pd.DataFrame({"c": column, "n": range(len(column))})
        session.assign({"t": frame, "by": frame.set_index("c"), "s": pd.Series(column)})

        code = "SUBMIT([list(t['c']), list(by['c']), list(s)])"
        assert session.run_cell(code).outputs["output"] == [texts] * 3
        assert [to_sandbox(item) for item in pd.Series(column)] == texts
        # With pandas, periods are periods again.
        assert [None if pd.isna(item) else str(item) for item in to_sandbox(frame)["c"]] == texts

    def test_a_structured_array_is_a_table(self, session):
        """As rows of a database or of a file of fixed columns come."""
        array = np.array([(1, "a"), (2, "b")], [("n", "i4"), ("s", "U3")])
        session.assign({"t": array, "r": pd.DataFrame({"n": [2**62]}).to_records(index=False)})

        rows = session.run_cell("SUBMIT([t, r])").outputs["output"]

        assert rows == [[{"n": 1, "s": "a"}, {"n": 2, "s": "b"}], [{"n": 2**62}]]

    @pytest.mark.parametrize(
        ("index", "items"),
        [
            (pd.MultiIndex.from_tuples([(1, "a")]), [(1, "a")]),
            (pd.to_timedelta(["1h"]), [HOUR]),
            (pd.CategoricalIndex(["a"]), ["a"]),
            (pd.period_range("2024", periods=1, freq="Y"), ["2024"]),
        ],
    )
    def test_any_index_of_pandas(self, session, index, items):
        """It arrives as an array of its elements."""
        session.assign("i", index)

        assert session.run_cell("SUBMIT(list(i))").outputs["output"] == items

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (
                pd.DataFrame({"t": pd.to_datetime([1], unit="ns")}),
                "v['t'][0] is of type pandas.Tim",
            ),
            (pl.DataFrame({"t": pl.Series([1], dtype=pl.Datetime("ns"))}), "v['t'] is of type"),
            (pl.DataFrame({"t": pl.Series([1], dtype=pl.Time)}), "v['t'] is of type"),
            (pa.table({"t": pa.array([1], type=pa.timestamp("ns"))}), "v['t'][0] is of type"),
            (
                np.array([1], "M8[ns]"),
                "v is of type numpy.ndarray, which cannot enter the sandbox. D",
            ),
            (
                pd.DataFrame([[1, 2]], columns=["a", "a"]),
                "v is of type pandas.DataFrame, which cann",
            ),
            (pl.LazyFrame({"a": [1]}), "v is of type polars.lazyframe.frame.LazyFrame, which"),
            (np.zeros(2, [("a", "i4", 3)]), "v is of type numpy.ndarray"),
            (np.zeros((2, 2), [("a", "i4")]), "v is of type numpy.ndarray"),
            (np.ma.masked_array([1], [True]), "v is of type numpy.ma.MaskedArray"),
            (np.longdouble(1), "v is of type numpy.longdouble"),
        ],
        ids=lambda value: "",
    )
    def test_refused(self, value, message):
        """A value that would change in transfer is refused, and the error names the place."""
        with pytest.raises(ValueCrossingError) as caught:
            encode(value, "v")

        assert str(caught.value).startswith(message)


class TestArrays:
    """Arrays of NumPy, series, and the numbers in them."""

    @pytest.mark.parametrize(
        "value",
        [
            np.arange(6).reshape(2, 3),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
            np.arange(10)[::3],
            np.array(3.5),
            np.zeros((0, 3)),
            np.array([[True], [False]]),
            np.array([1, 2], ">i2"),
            np.array([1.5, math.inf], "f2"),
            np.array([1 + 2j]),
            np.array(["a", "bc"]),
            np.array([b"a"]),
            np.array([1, None, "x"], object),
            np.array(["2024-01-01T01:02:03.000004", "NaT"], "M8[us]"),
            np.array([5, -5], "m8[us]"),
            np.array([2**64 - 1], "u8"),
        ],
        ids=lambda value: str(value.dtype),
    )
    def test_numpy(self, session, value):
        """The result is the same array with NumPy, and has the same elements without."""
        arrived = to_sandbox(value)

        np.testing.assert_array_equal(arrived, value)
        assert (arrived.dtype, arrived.shape) == (value.dtype, value.shape)
        assert without_packages(session, value) == value.tolist()
        assert to_host(value) == value.tolist()

    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            (np.int8(-3), -3),
            (np.bool_(True), True),
            (np.float64(0.1), 0.1),
            (np.str_("a"), "a"),
            (np.datetime64("2024-01-02T00:00:00"), datetime.datetime(2024, 1, 2)),
            (np.datetime64("NaT"), None),
            (pd.Timestamp("2024-01-02"), datetime.datetime(2024, 1, 2)),
            (pd.Timedelta("1h"), HOUR),
            (pd.NaT, None),
            (pd.NA, None),
            (pa.scalar(5), 5),
        ],
    )
    def test_scalars(self, value, plain):
        """Scalars become plain values."""
        arrived = to_sandbox([value])[0]

        assert arrived == plain
        assert isinstance(arrived, type(plain))

    @pytest.mark.parametrize(
        "value",
        [
            pd.Series([1, 2]),
            pd.Index([1, 2]),
            pl.Series([1, 2]),
            pa.array([0, 1, 2])[1:],
            pa.chunked_array([[1], [2]]),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_series(self, session, value):
        """A series becomes an array of one dimension."""
        assert list(to_host(to_sandbox(value))) == [1, 2]
        assert without_packages(session, value) == [1, 2]

    @given(
        st.lists(st.integers(1, 3), min_size=1, max_size=3),
        st.data(),
    )
    def test_indexing_is_that_of_numpy(self, shape, data):
        """Numbers and slices in any dimension have the results of NumPy."""
        real = np.arange(math.prod(shape)).reshape(shape)
        ours = Array(arrays.values(real.reshape(-1).tolist()), tuple(shape), "int64")
        at = tuple(data.draw(st.integers(-size, size - 1) | st.slices(size)) for size in shape)[
            : data.draw(st.integers(1, len(shape)))
        ]

        expected, got = real[at], ours[at]

        assert (got.tolist() if isinstance(got, Array) else got) == expected.tolist()
        assert getattr(got, "shape", ()) == expected.shape

    def test_reductions(self):
        """Reductions cover all elements and skip missing values."""
        array = Array(
            arrays.numbers("q", np.array([3, 0, 1, 3]).tobytes(), b"\0\1\0\0"), (4,), "Int64"
        )

        assert array.tolist() == [3, None, 1, 3]
        assert (array.sum(), array.min(), array.max(), array.mean()) == (7, 1, 3, 7 / 3)
        assert (array.unique(), array.ndim, array.size, len(array)) == ([3, None, 1], 1, 4, 4)
        assert repr(array) == "Array(shape=(4,), dtype=Int64, elements: 3, None, 1, 3)"
        assert Array([5], (), "int64").item() == 5

    @pytest.mark.parametrize("act", [len, lambda a: a[0], lambda a: Array([], (0,), "f").item()])
    def test_invalid_operations(self, act):
        """Operations that need a dimension, or exactly one element, raise clear errors."""
        with pytest.raises((TypeError, IndexError, ValueError), match="item"):
            act(Array([5], (), "int64"))


PETS = Table(
    {"name": ["Tom", "Rex", "Kim"], "age": arrays.values([3, None, 1])},
    {"name": "str", "age": "Int64"},
    3,
)


class TestTableInCells:
    """The operations of a table in cells."""

    def test_repr(self):
        """The repr has the shape, the columns with types, and the first rows."""
        assert repr(PETS) == (
            "Table: 3 rows x 2 columns\nname   age\nstr    Int64\n'Tom'  3\n'Rex'  None\n'Kim'  1"
        )
        long = Table({"x": arrays.values(list(range(99)))}, {"x": "int64"}, 99)
        assert repr(long).endswith("\n4\n... 94 more rows")

    def test_rows_and_columns(self):
        """Rows are records; columns are arrays."""
        row = PETS[-1]

        assert (row.name, row["age"], dict(row)) == ("Kim", 1, {"name": "Kim", "age": 1})
        assert [row.name for row in PETS] == PETS["name"].tolist() == ["Tom", "Rex", "Kim"]
        assert (PETS.shape, PETS.columns, "age" in PETS) == ((3, 2), ["name", "age"], True)
        assert PETS.to_dicts()[1] == {"name": "Rex", "age": None}

    def test_selections(self):
        """Every selection from a table is a table."""
        names = {
            "head": PETS.head(1),
            "tail": PETS.tail(1),
            "slice": PETS[::-1],
            "filter": PETS.filter(lambda row: row.age is None),
            "equal": PETS.filter(name="Kim"),
            "sorted": PETS.sort_by("age"),
            "falling": PETS.sort_by("age", descending=True),
        }

        assert {key: table["name"].tolist() for key, table in names.items()} == {
            "head": ["Tom"],
            "tail": ["Kim"],
            "slice": ["Kim", "Rex", "Tom"],
            "filter": ["Rex"],
            "equal": ["Kim"],
            "sorted": ["Kim", "Tom", "Rex"],
            "falling": ["Tom", "Kim", "Rex"],
        }
        assert PETS.select("age").columns == PETS[["age"]].columns == ["age"]
        assert {key: len(part) for key, part in PETS.group_by("age").items()} == {
            3: 1,
            None: 1,
            1: 1,
        }
        assert next(iter(PETS.group_by("age", "name"))) == (3, "Tom")
        assert PETS[:2] == PETS.head(2) != PETS

    @pytest.mark.parametrize(
        ("select", "names"),
        [
            (lambda t: t[t["age"] > 1], ["Tom"]),
            (lambda t: t[t.age <= 1], ["Kim"]),
            (lambda t: t[t["age"] != 3], ["Rex", "Kim"]),
            (lambda t: t[t["age"] == None], ["Rex"]),  # noqa: E711 - as models write it
            (lambda t: t[t["age"].isna()], ["Rex"]),
            (lambda t: t[t["age"].notna() & (t["name"] != "Tom")], ["Kim"]),
            (lambda t: t[~t["age"].isna() & (t["name"] != "Tom")], ["Kim"]),
            (lambda t: t[(t["age"] == 3) | (t["name"] == "Rex")], ["Tom", "Rex"]),
            (lambda t: t[(t["age"] >= 1) ^ (t["name"] > "M")], ["Rex", "Kim"]),
            (lambda t: t[t["name"].isin({"Kim", "Ann"})], ["Kim"]),
            (lambda t: t[t["name"].isin([["Kim"], "Tom"])], ["Tom"]),
            (lambda t: t[[True, False, True]], ["Tom", "Kim"]),
            (lambda t: t[[name[0] in "RK" for name in t["name"]]], ["Rex", "Kim"]),
            (lambda t: t[t["name"] == t["name"]], ["Tom", "Rex", "Kim"]),
            (lambda t: t[t["name"] < ["Z", "A", "Z"]], ["Tom", "Kim"]),
            (lambda t: t[t["age"] > 99], []),
        ],
    )
    def test_masks(self, select, names):
        """Comparisons of columns select rows as in pandas; a missing value is smaller and larger than nothing."""
        assert select(PETS)["name"].tolist() == names

    def test_masks_of_arrays(self):
        """A mask selects from an array, counts, and answers any and all."""
        grid = Array([5, 1, 9, 7], (2, 2), "int64")

        assert (grid > 4).tolist() == [[True, False], [True, True]]
        assert grid[grid > 4].tolist() == [5, 9, 7]
        assert ((grid > 4).sum(), (grid > 4).any(), (grid > 4).all()) == (3, True, False)
        assert PETS["name"][PETS["age"] == 3].tolist() == ["Tom"]

    @pytest.mark.parametrize(
        ("moments", "text", "later"),
        [
            ([datetime.date(2024, 1, 1), None, datetime.date(2024, 3, 1)], "2024-02-01", [2]),
            (
                [datetime.datetime(2024, 1, 1, 5), datetime.datetime(2024, 1, 2)],
                "2024-01-01",
                [0, 1],
            ),
            ([datetime.datetime(2024, 1, 1, 5, tzinfo=BERLIN)], "2024-01-01 04:59", [0]),
        ],
    )
    def test_dates_compare_with_texts(self, moments, text, later):
        """A column of dates or datetimes compares with an ISO text, in the zone of the column."""
        mask = Array(moments, (len(moments),), "datetime64[us]") > text

        assert [at for at, is_later in enumerate(mask) if is_later] == later

    @pytest.mark.parametrize(
        ("act", "message"),
        [
            (lambda t: bool(t["age"] > 1), r"use \.any\(\) or \.all\(\)"),
            (lambda t: t[[True]], "the mask has 1 elements, and there are 3 to select from"),
            (lambda t: t["age"] == [1, 2], "3 elements cannot be compared with 2"),
            (lambda t: t["age"] == t.head(1)["age"], r"of the shapes \(3,\) and \(1,\)"),
            (lambda t: ~t["age"], r"~ takes the result of a comparison"),
            (lambda t: t["name"].str, "an Array has no 'str'. It has: shape, .* plain Python"),
            (lambda t: t.itertuples(), r"a Table has no 'itertuples'.* rows\(\)"),
            (lambda t: t.to_dict("index"), "takes 'records' or 'list' here, not 'index'"),
            (lambda t: t.__setitem__("x", [1]), "a Table cannot be changed"),
        ],
    )
    def test_what_tables_cannot_do(self, act, message):
        """Errors say what to write instead."""
        with pytest.raises((ValueError, IndexError, TypeError, AttributeError), match=message):
            act(PETS)

    def test_what_a_user_of_pandas_looks_at_first(self):
        """Types, a summary of each column, and rows with their numbers are there under the names of pandas."""
        t = Table(
            {"n": [2, None, 4], "x": [float("nan"), 1.5, 0.5], "s": ["b", "a", "b"], "l": [[1], [], [2]]},
            {"n": "Int64", "x": "float64", "s": "str", "l": "object"},
            3,
        )  # fmt: skip

        assert t.dtypes == {"n": "Int64", "x": "float64", "s": "str", "l": "object"}
        assert [list(vars(row).values()) for row in t.describe()] == [
            ["n", "Int64", 2, 2, 3.0, 2, 4],
            ["x", "float64", 2, 2, 1.0, 0.5, 1.5],
            ["s", "str", 3, 2, None, "a", "b"],
            ["l", "object", 3, None, None, [], [2]],
        ]
        assert [(at, row.s) for at, row in t.iterrows()] == [(0, "b"), (1, "a"), (2, "b")]
        assert t.to_dict("list")["s"] == ["b", "a", "b"]
        assert t.to_dict("records") == t.to_dicts()
        assert (t.empty, t[t.s == "z"].empty, t[:0].describe()["count"].tolist()) == (
            False,
            True,
            [0] * 4,
        )

    @pytest.mark.parametrize(("rows", "shown"), [(6, 6), (60, 60), (61, 5)])
    def test_a_small_table_is_shown_whole(self, rows, shown):
        """A summary of six columns has six lines; of a large table the first rows are enough."""
        lines = repr(Table({"n": list(range(rows))}, {"n": "int64"}, rows)).splitlines()[3:]

        assert len(lines) == shown + (rows > shown)
        assert (lines[-1] == f"... {rows - shown} more rows") == (rows > shown)

    def test_a_column_skips_what_is_missing(self):
        """None and NaN count in no sum, no mean and no count, as in pandas."""
        for numbers in ([1.0, float("nan"), 3.0], [1, None, 3]):
            a = Array(numbers, (3,), "float64")
            assert (a.sum(), a.mean(), a.min(), a.max(), a.count(), a.nunique()) == (
                4,
                2,
                1,
                3,
                2,
                2,
            )
        cells = arrays.numbers("d", np.array([1.0, np.nan, 3.0]).tobytes())
        machine = receive_array("no_package", cells, (3,), "float64")
        assert (machine.sum(), machine.count()) == (4.0, 2)
        assert Array(["b", "a", "b", None], (4,), "str").value_counts() == {"b": 2, "a": 1}

    def test_a_guess_of_python_follows_one_full_stop(self, session):
        """Python adds its suggestion to a message that ends with a full stop."""
        session.assign("df", pd.DataFrame({"city": ["Rome"]}))

        last = session.run_cell("df.colums").traceback.splitlines()[-1]
        assert last.endswith("See help(t). Did you mean: 'columns'?")

    def test_masks_in_a_sandbox(self, session):
        """The usual lines of a model select from a table of the host, and the result is submitted."""
        session.assign("df", pd.DataFrame({"city": ["Rome", "Bonn", None], "n": [1, 2, 3]}))

        result = session.run_cell(
            "part = df[(df['n'] > 1) & (df['city'] != 'Rome')]\nSUBMIT([part, (df.n > 1).sum(), df['n'] > 2])"
        )

        assert isinstance(result, Submitted)
        rows, count, mask = result.outputs["output"]
        assert rows == [{"city": "Bonn", "n": 2}, {"city": None, "n": 3}]
        assert (count, mask) == (2, [False, False, True])

    @pytest.mark.parametrize("act", [lambda t: t["size"], lambda t: t.filter(size=1)])
    def test_an_unknown_column(self, act):
        """The error lists the existing columns."""
        with pytest.raises(
            KeyError, match="there is no column 'size'; the columns are: 'name', 'age'"
        ):
            act(PETS)


class TestTablesOnTheWayOut:
    """A table without unique column names is refused with an explanation."""

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (
                pd.DataFrame([[1, 2]], columns=["a", "a"]),
                "v has two columns called 'a'; rename one",
            ),
            (
                pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]),
                "v has two columns called 'a'; rename one",
            ),
            (
                pd.DataFrame({"a": [1]}, index=pd.Index([5], name="a")),
                "v has an index that cannot become a column (cannot insert a, already exists); "
                "rename it, or drop it with reset_index(drop=True)",
            ),
        ],
        ids=["pandas", "arrow", "index"],
    )
    def test_duplicate_column_names(self, table, message):
        """The error says what to do about duplicate column names."""
        with pytest.raises(codec.CannotSend) as caught:
            codec.send(table, "v")

        assert str(caught.value) == message


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("items", [[[1j, 2], [3, 4]], [[1, 2], [3, 4]], [["a", "b"]]])
def test_a_matrix_is_an_array(items):
    """A matrix becomes an array with the same numbers in the same places."""
    result = to_sandbox(np.matrix(items))

    assert result.shape == np.matrix(items).shape
    assert result.tolist() == items


class TestMachineNumbers:
    """Arrays in which every number is a value of its own cross without conversion to Python numbers."""

    def test_conversion_of_columns(self):
        """Columns with missing values or with codes are converted; all others are not."""
        assert arrays.numbers("d", bytes(16)).machine.tolist() == [0.0, 0.0]
        for cells in (
            arrays.numbers("d", bytes(16), bytes([0, 1])),
            arrays.numbers("?", bytes(2)),
            arrays.durations(bytes(16), None),
        ):
            assert cells.machine is None

    def test_an_array_takes_no_more_memory_than_its_numbers(self):
        """A list of as many floats would take four times the memory in addition."""
        cells = arrays.numbers("d", bytes(8 * 1_000_000))
        tracemalloc.start()
        try:
            received = receive_array("numpy", cells, (1000, 1000), "float64")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert received.shape == (1000, 1000)
        assert peak < 10_000_000
