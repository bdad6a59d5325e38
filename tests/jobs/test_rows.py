"""The rows of a job, from whatever holds them; and the result, with the same columns for every row."""

from __future__ import annotations

import datetime
import gzip
import json
from typing import Any, Literal

import dspy
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pydantic
import pytest

import dspy_rlm
from dspy_rlm.errors import InputError, JobError
from dspy_rlm.jobs.results.columns import arrow_schema, arrow_type, record_of_line
from dspy_rlm.jobs.results.output import check_format, write_result
from dspy_rlm.jobs.rows import count_of, rows_of

RECORDS = [{"id": 1, "text": "a", "more": True}, {"id": 2, "text": "b", "more": False}]


def read(source, key="id"):
    """Returns the keys and the inputs of the rows."""
    return [(row.key, dict(row.inputs)) for row in rows_of(source, ["text"], key)]


class OfRay:
    """A dataset as Ray and Daft have it."""

    def iter_rows(self):
        return iter(RECORDS)


def sources(folder):
    """Yields the same rows in every form, with whether their number is known."""
    lines = "".join(json.dumps(record) + "\n\n" for record in RECORDS)
    (folder / "rows.jsonl").write_text(lines)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    table = pa.Table.from_pylist(RECORDS)
    pq.write_table(table, folder / "rows.parquet")
    (folder / "parts").mkdir()
    pq.write_table(table, folder / "parts/one.parquet")
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    return {
        "list": RECORDS,
        "generator": (record for record in RECORDS),
        "examples": [dspy.Example(**record).with_inputs("text") for record in RECORDS],
        "lines": folder / "rows.jsonl",
        "gzip": str(folder / "rows.jsonl.gz"),
        "parquet": folder / "rows.parquet",
        "folder": folder / "parts",
        "table": table,
        "batch": table.to_batches()[0],
        "reader": table.to_reader(),
        "dataset": ds.dataset(folder / "rows.parquet"),
        "pandas": pandas.DataFrame(RECORDS),
        "polars": polars.DataFrame(RECORDS),
        "lazy polars": polars.LazyFrame(RECORDS),
        "ray or daft": OfRay(),
    }


class TestSources:
    def test_every_form_has_the_same_rows(self, tmp_path):
        """The inputs are the columns that the signature names; others are left out."""
        expected = [("1", {"text": "a"}), ("2", {"text": "b"})]

        assert {name: read(source) for name, source in sources(tmp_path).items()} == dict.fromkeys(
            sources_names(), expected
        )

    def test_rows_are_counted_where_that_is_cheap(self, tmp_path):
        """For the time that is left; a generator does not say."""
        (tmp_path / "rows.jsonl").write_text('{"id": 1}\n{"id": 2}')
        table = pa.Table.from_pylist(RECORDS)
        pq.write_table(table, tmp_path / "rows.parquet")

        assert count_of(tmp_path / "rows.jsonl") == 2
        assert count_of(tmp_path / "rows.parquet") == count_of(table) == count_of(RECORDS) == 2
        assert count_of(iter(RECORDS)) is None

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("s3://bucket/rows.jsonl", "is an address"),
            ("no-such-file.jsonl", "There is no file"),
            (5, "must be an iterable of dicts"),
            ({"id": 1}, "must be an iterable of dicts"),
        ],
    )
    def test_what_is_no_source_is_refused(self, source, message):
        """Before the first row."""
        with pytest.raises(InputError, match=message):
            read(source)

    def test_a_file_of_another_kind_is_refused(self, tmp_path):
        """Its name says what it is."""
        (tmp_path / "rows.csv").write_text("id\n1\n")

        with pytest.raises(InputError, match="JSON lines"):
            read(tmp_path / "rows.csv")

    def test_a_line_that_is_no_json_is_a_row_with_a_problem(self, tmp_path):
        """The other rows are none the worse for it."""
        (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "a"}\nnonsense\n{"id": NaN}\n[1]\n')

        rows = list(rows_of(tmp_path / "rows.jsonl", ["text"], "id"))

        assert [row.key for row in rows] == ["1", "line:2", "nan", "row:3"]
        assert "line 2 is no JSON" in rows[1].problem
        assert "must be a dict, not list" in rows[3].problem


def sources_names():
    """The names of `sources`, which creates files."""
    return [
        *("list", "generator", "examples", "lines", "gzip", "parquet", "folder", "table", "batch"),
        *("reader", "dataset", "pandas", "polars", "lazy polars", "ray or daft"),
    ]


class TestKeys:
    def test_without_a_key_equal_inputs_are_one_row(self):
        """The digest does not depend on the order of the columns, nor on those that are no inputs."""
        one, two, three = rows_of(
            [{"text": "a", "n": 1}, {"n": 1, "text": "a", "more": 2}, {"text": "b", "n": 1}],
            ["text", "n"],
            None,
        )

        assert one.key == two.key != three.key

    def test_a_function_can_name_rows(self):
        """Of the whole row."""
        assert (
            read([{"a": 1, "b": 2, "text": ""}], lambda row: f"{row['a']}-{row['b']}")[0][0]
            == "1-2"
        )

    @pytest.mark.parametrize("record", [{}, {"id": None}, {"id": ""}])
    def test_a_row_without_a_key_has_a_problem(self, record):
        """It cannot be found again."""
        [row] = rows_of([record], ["text"], "id")

        assert row.key == "row:0"
        assert "no 'id'" in row.problem

    def test_inputs_that_are_no_data_need_a_key(self):
        """There is no digest of an object."""
        [row] = rows_of([{"text": object()}], ["text"], None)

        assert "need a key of their own" in row.problem


class Place(pydantic.BaseModel):
    name: str
    page: int | None = None


class Tree(pydantic.BaseModel):
    children: list[Tree] = []


class TestColumns:
    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [
            (str, pa.string()),
            (int, pa.int64()),
            (float, pa.float64()),
            (bool, pa.bool_()),
            (int | None, pa.int64()),
            (Literal["a", "b"], pa.string()),
            (Literal[1, 2], pa.int64()),
            (list[str], pa.list_(pa.string())),
            (list[list[int]], pa.list_(pa.list_(pa.int64()))),
            (tuple[int, ...], pa.list_(pa.int64())),
            (Place, pa.struct([("name", pa.string()), ("page", pa.int64())])),
            (list[Place], pa.list_(pa.struct([("name", pa.string()), ("page", pa.int64())]))),
            (Tree, pa.string()),
            (dict[str, int], pa.string()),
            (int | str, pa.string()),
            (Any, pa.string()),
            (datetime.date, pa.string()),
        ],
    )
    def test_types_of_outputs_are_types_of_columns(self, annotation, expected):
        """A type that Arrow does not have is JSON in a string."""
        assert arrow_type(annotation) == expected

    def test_an_output_may_have_the_name_of_our_column(self):
        """Ours gets a prefix."""
        signature = dspy.Signature("text -> status: int, cost: str")
        line = {
            "key": "k",
            "status": "submitted",
            "outputs": {"status": 5, "cost": "much"},
            "cost": 0.5,
        }

        record = record_of_line(line, list(signature.output_fields))

        assert (record["status"], record["run_status"]) == (5, "submitted")
        assert (record["cost"], record["run_cost"]) == ("much", 0.5)
        assert arrow_schema(signature).names == list(record)


LINES = [
    {"key": "a", "status": "failed", "error": "E: x", "outputs": {}, "cost": None},
    {"key": "b", "status": "submitted", "outputs": {"n": 1, "names": ["x"], "tags": {"y": 2}}},
    {
        "key": "c",
        "status": "submitted",
        "outputs": {"n": 2**70, "names": ["\ud800"], "tags": {}},
    },
]


class TestResult:
    @pytest.fixture
    def signature(self):
        return dspy_rlm.RLM("text -> n: int, names: list[str], tags: dict[str, int]").signature

    def test_parquet_has_the_columns_of_the_signature(self, signature, tmp_path):
        """Also where the first rows have failed, whose columns are empty."""
        path = write_result(LINES, signature, tmp_path, "parquet")

        table = pq.read_table(path)
        assert table.schema.names == arrow_schema(signature).names
        assert table.schema.field("names").type == pa.list_(pa.string())
        assert table["n"].to_pylist() == [None, 1, None]
        assert table["tags"].to_pylist() == [None, '{"y":2}', "{}"]
        assert table["names"].to_pylist() == [None, ["x"], ["?"]]

    def test_a_value_that_does_not_fit_is_said(self, signature, tmp_path):
        """The row keeps its other values, and the journal has this one."""
        path = write_result(LINES, signature, tmp_path, "parquet")

        assert pq.read_table(path)["error"].to_pylist() == [
            "E: x",
            None,
            "n is only in the journal: it is no integer of 64 bits",
        ]

    def test_no_rows_have_columns_too(self, signature, tmp_path):
        """A reader of the result meets the same schema."""
        path = write_result([], signature, tmp_path, "parquet")

        assert pq.read_table(path).schema == arrow_schema(signature)

    def test_json_lines_have_the_values_as_they_are(self, signature, tmp_path):
        """Integers of any size, and a lone surrogate."""
        path = write_result(LINES, signature, tmp_path, "jsonl")

        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert [row["n"] for row in rows] == [None, 1, 2**70]
        assert [row["names"] for row in rows] == [None, ["x"], ["\ud800"]]

    def test_an_earlier_result_stays_until_the_new_one_is_whole(self, signature, tmp_path):
        """A crash in the middle leaves the earlier one."""
        path = write_result(LINES[1:2], signature, tmp_path, "jsonl")
        before = path.read_text()

        def lines():
            yield LINES[1]
            raise OSError("full")

        with pytest.raises(OSError, match="full"):
            write_result(lines(), signature, tmp_path, "jsonl")

        assert path.read_text() == before
        assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]

    def test_lance_is_a_dataset(self, signature, tmp_path):
        """With the same columns, and replaced by the next result."""
        lance = pytest.importorskip("lance")
        for _ in range(2):
            path = write_result(LINES, signature, tmp_path, "lance")

        assert lance.dataset(str(path)).count_rows() == 3
        assert lance.dataset(str(path)).schema == arrow_schema(signature)

    def test_another_format_is_refused(self):
        """Before the first row."""
        with pytest.raises(JobError, match="format must be one of jsonl, parquet, lance"):
            check_format("csv")
