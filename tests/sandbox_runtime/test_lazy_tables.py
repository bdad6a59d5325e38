"""Tables that stay where they are: Parquet queried by DuckDB, Lance by itself."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from sandbox_runtime import LazyText, Table, TextChangedError, open_session
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.tables.conditions import sql_of

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install 'dspy-rlm[tables]'")

ROWS = 1_000


def data() -> Any:
    return pa.table(
        {
            "id": list(range(ROWS)),
            "city": [("Bonn", "Kiel", "Ulm", None)[n % 4] for n in range(ROWS)],
            "price": [n * 0.5 for n in range(ROWS)],
            "note": [f"it's note {n}, error {n % 7}" for n in range(ROWS)],
            "body": ["long text " * 1_000 if n == 5 else "short" for n in range(ROWS)],
        }
    )


def of_parquet(folder: Path) -> Table:
    for part in range(2):
        rows = data().slice(part * ROWS // 2, ROWS // 2)
        parquet.write_table(rows, folder / f"part-{part}.parquet", row_group_size=100)
    return Table(folder, name="sales")


def of_lance(folder: Path) -> Table:
    lance = pytest.importorskip("lance", reason="Lance is not installed: pip install pylance")
    dataset = lance.write_dataset(data(), str(folder / "sales.lance"))
    dataset.create_scalar_index("note", index_type="INVERTED")
    return Table(str(folder / "sales.lance"))


@pytest.fixture(params=[of_parquet, of_lance], ids=["parquet", "lance"])
def table(request, tmp_path) -> Table:
    return request.param(tmp_path)


class TestQueries:
    def test_conditions_are_the_engines(self, table):
        """All of them hold."""
        where = [("city", "=", "Bonn"), ("price", ">=", 400), ("id", "not in", [800, 804])]

        assert table.count(where) == 48
        assert [row["id"] for row in table.rows(where, ["id"], limit=3)] == [808, 812, 816]

    @pytest.mark.parametrize(
        ("where", "count"),
        [
            (None, ROWS),
            (("city", "=", None), ROWS // 4),
            (("city", "!=", None), ROWS * 3 // 4),
            (("note", "contains", "it's note 77,"), 1),
            (("note", "matches", "note 9[0-9],"), 10),
            (("city", "in", ["Bonn", "Ulm"]), ROWS // 2),
        ],
    )
    def test_each_operator(self, table, where, count):
        """One condition may be passed alone."""
        assert table.count(where) == count

    def test_pages_are_in_the_order_of_the_table(self, table):
        """Over all files."""
        assert [row["id"] for row in table.rows(columns="id", start=498, limit=4)] == [
            498,
            499,
            500,
            501,
        ]

    def test_rows_are_found_again_by_their_handles(self, table):
        """Whatever query they came from."""
        (row,) = table.rows(("id", "=", 700))

        assert table.row(row["row"]) == row
        with pytest.raises((LookupError, ValueError), match="there is no row"):
            table.row("99:99")

    def test_grep_is_the_engines(self, table):
        """In all columns with texts, or in some."""
        assert len(table.grep("NOTE 12[0-4],", ignore_case=True)) == 5
        assert table.grep("NOTE 12[0-4],") == []
        assert table.grep("Bonn", columns=["note"]) == []

    def test_search_finds_words(self, table):
        """By the text index of a Lance dataset; else the rows that contain each word."""
        found = table.search("note 123", "note", limit=5)

        assert found[0]["id"] == 123

    def test_a_long_text_of_a_row_is_lazy(self, table):
        """It may have megabytes."""
        (row,) = table.rows(("id", "=", 5))

        assert isinstance(row["body"], LazyText)
        assert row["body"].read(0, 9) == "long text"
        assert row["note"] == "it's note 5, error 5"


class TestHostileArguments:
    @pytest.mark.parametrize(
        "where",
        [
            [("id) OR (1", "=", 1)],
            [("id", "= 1 OR 1", 1)],
            [("id", "=", object())],
            [("id", "in", [])],
            "id = 1",
            [("id", "=", 1)] * 51,
            [("note", "contains", "a\0b")],
            [("note", "contains", "a" * 20_001)],
        ],
        ids=["column", "operator", "value", "empty", "sql", "many", "nul", "long"],
    )
    def test_what_is_no_condition_is_refused(self, table, where):
        """With a message for the cell. No SQL comes from a cell."""
        with pytest.raises(ValueError, match=r"condition|column|operator|value|text"):
            table.count(where)

    def test_a_quote_ends_no_text(self, table):
        """It is doubled."""
        assert table.count([("city", "=", "Bonn' OR '1'='1")]) == 0
        assert sql_of([("a", "=", "it's")], ["a"], lambda name: name) == "a = 'it''s'"

    def test_a_pattern_that_is_none_is_an_error_for_the_cell(self, table):
        """The engine says why."""
        with pytest.raises(ValueError, match="cannot answer"):
            table.grep("(")

    def test_a_query_ends_at_its_deadline(self, tmp_path):
        """The engine is interrupted."""
        table = of_parquet(tmp_path)
        deadline = Deadline(0.0, "Limits.call_seconds")

        with pytest.raises(TimeoutError):
            table.count(None, deadline)


class TestChanges:
    def test_a_table_travels_as_its_place(self, table):
        """Another process opens it."""
        again = pickle.loads(pickle.dumps(table))

        assert again.count(None) == ROWS
        assert again.name == table.name

    def test_files_that_change_are_noticed(self, tmp_path):
        """In this process and in another."""
        table = of_parquet(tmp_path)
        sent = pickle.dumps(table)
        parquet.write_table(data().slice(0, 3), tmp_path / "part-1.parquet")

        with pytest.raises(TextChangedError):
            table.count(None)
        with pytest.raises(TextChangedError):
            pickle.loads(sent)

    def test_what_is_no_table_is_an_error_of_the_constructor(self, tmp_path):
        """Before any sandbox opens."""
        (tmp_path / "no.parquet").write_text("no Parquet")

        with pytest.raises(ValueError, match="cannot be read as Parquet"):
            Table(tmp_path / "no.parquet")
        with pytest.raises(FileNotFoundError, match="There is no Parquet file"):
            Table(tmp_path / "none.parquet")
        with pytest.raises(ValueError, match="must be a Lance dataset"):
            Table("s3://bucket/a.parquet")


@pytest.mark.nightly
def test_cells_query_a_table(table):
    """Pages of rows, counts, and a part of a long text."""
    code = """
    print(len(t), list(t.columns)[:2])
    print(t.count([("city", "=", "Bonn")]), t.rows(("id", "=", 700), ["id"])[0]["id"])
    print(t.rows(("id", "=", 5))[0]["body"][5:9], t.grep("note 500,")[0]["id"])
    print(t[t.rows(("id", "=", 9))[0]["row"]]["note"])
    try: t.count("id = 1")
    except ValueError as error: print("refused")
    try: iter(t)
    except TypeError as error: print(error)
    """
    with open_session() as session:
        session.assign({"t": table})
        done = session.run_cell("\n".join(line[4:] for line in code.strip("\n").splitlines()))

    assert done.output.splitlines() == [
        "1000 ['id', 'city']",
        "250 700",
        "text 500",
        "it's note 9, error 2",
        "refused",
        "a table is read in pages: t.rows(where, columns, start, limit)",
    ]
