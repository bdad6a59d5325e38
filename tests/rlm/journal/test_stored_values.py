"""Values of a journal: they come back as they were, or are said not to be stored."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest

from dspy_rlm import Directory, TextFile, TextStream
from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.file import JournalFile
from dspy_rlm.journal.packing import Packer
from dspy_rlm.journal.reading.fields import value_of
from dspy_rlm.journal.records import ValueRecord
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.journal.stored_values import StoredValues, packed_value, typed
from dspy_rlm.journal.values import ValueWriter

KEY = "sk-Tq8vLx2NcWz51RmPq0Yd"


class Page(pydantic.BaseModel):
    """A model that an input may be."""

    number: int
    day: dt.date


@dataclasses.dataclass
class Pair:
    """A dataclass that an input may be."""

    a: int
    b: tuple[str, ...]


@pytest.fixture
def stored(tmp_path: Path) -> Any:
    """Returns `stored(value, annotation)`: the record of a value, and the reader of what is beside the journal."""
    path = tmp_path / "run.jsonl"
    journal = JournalFile(lambda: (path, -1))
    journal.path = path
    packer = Packer(ValueWriter(journal), KnownSecrets(lambda: [KEY]))
    reader = StoredValues(path)

    def store(value: Any, annotation: Any = Any) -> tuple[ValueRecord, StoredValues]:
        return value_of(packed_value(value, annotation, packer), reader), reader

    return store


@pytest.mark.parametrize(
    "value",
    [
        "text", "long text " * 10_000, "", "\ud800", None, True, 7, 1 << 80, 1.5, [1, "a", [None]],
        {"a": {"b": [1.0, 2]}}, [{"row": n} for n in range(5000)], b"bytes", b"\x00" * 100_000,
    ],
)  # fmt: skip
def test_plain_values_come_back(value, stored):
    """Texts, bytes and JSON data are stored without a declared type."""
    record, reader = stored(value)

    again = reader.restore(record)

    assert (again, type(again)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Page(number=1, day=dt.date(2026, 1, 2)), Page),
        ([Page(number=n, day=dt.date(2026, 1, 2)) for n in range(3)], list[Page]),
        (Pair(1, ("x", "y")), Pair),
        ({1: "a", 2: "b"}, dict[int, str]),
        ((1, 2.0), tuple[int, float]),
        ({"a", "b"}, set[str]),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.datetime),
        (float("inf"), float),
    ],
)
def test_typed_values_come_back(value, annotation, stored):
    """A value of a declared type is JSON that this type reads as an equal value."""
    record, reader = stored(value, annotation)

    assert record.kind == "json"
    assert typed(reader.restore(record), annotation) == value


@pytest.mark.parametrize(
    "value",
    [
        (1, 2), {1: "a"}, {"a"}, Page(number=1, day=dt.date(2026, 1, 2)), dt.date(2026, 1, 2), object(), print,
        iter([1]), TextStream(["a"]), [object()], float("nan"), np.float64(1.5), pd.Series([1]), {"x": (1,)},
    ],
)  # fmt: skip
def test_what_would_change_is_not_stored(value, stored):
    """Without a declared type, only what JSON gives back unchanged is stored; the class of the rest is recorded."""
    record, reader = stored(value)

    assert record.kind == "not_stored"
    assert record.type.endswith(type(value).__qualname__)
    with pytest.raises(MissingValueError, match="was not stored"):
        reader.restore(record)


def test_an_iterator_is_not_read(stored):
    """Recording a value has no effect on it."""
    numbers = iter([1, 2])
    stored(numbers)

    assert list(numbers) == [1, 2]


class TestTables:
    @pytest.mark.parametrize(
        "table",
        [
            pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
            pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
            pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
            pa.table({"a": [1, 2]}),
        ],
        ids=["pandas", "pandas index", "polars", "pyarrow"],
    )
    def test_tables_come_back(self, table, stored):
        """A table is stored as Parquet, and is of the same class again."""
        record, reader = stored(table)

        again = reader.restore(record)

        assert record.kind == "parquet"
        assert type(again) is type(table)
        assert again.equals(table)

    def test_a_table_that_parquet_changes_has_a_digest_only(self, stored):
        """Objects in a column cannot be stored safely; equal tables have equal digests."""
        record, _ = stored(pd.DataFrame({"a": [{1}, "x"]}))
        numbers, _ = stored(pd.DataFrame({1: [1 + 2j, 5j]}))

        assert record.kind == numbers.kind == "not_stored"
        assert len(numbers.digest) == 64

    @pytest.mark.parametrize("array", [np.arange(10.0).reshape(2, 5), np.array(["a", "bc"])])
    def test_arrays_come_back(self, array, stored):
        """An array is stored in NumPy's format."""
        record, reader = stored(array)

        assert record.kind == "npy"
        assert np.array_equal(reader.restore(record), array)

    def test_an_array_of_objects_is_not_stored(self, stored):
        """It would be a pickle."""
        assert stored(np.array([object()]))[0].kind == "not_stored"


class TestFiles:
    def test_a_file_is_a_path_with_a_digest(self, stored, tmp_path):
        """A text that stays on the host is named by its path, size, time and digest, and not copied."""
        path = tmp_path / "logs.txt"
        path.write_text("line\n" * 10)

        record, reader = stored(TextFile(path))

        assert (record.kind, record.size, record.options) == ("file", 50, {"encoding": None})
        assert record.digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record.modified_at == path.stat().st_mtime
        assert reader.restore(record) == str(path)

    def test_a_directory_has_the_digest_of_its_listing(self, stored, tmp_path):
        """Another file, or another size, is another digest."""
        folder = tmp_path / "docs"
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        before, _ = stored(Directory(folder, "*.txt"))
        (folder / "b.txt").write_text("b")
        after, reader = stored(Directory(folder, "*.txt"))

        assert (after.kind, after.size) == ("directory", 2)
        assert after.options == {"pattern": "*.txt", "gitignore": True}
        assert before.digest != after.digest
        assert reader.restore(after) == str(folder)


def test_secrets_are_removed_from_texts(stored):
    """The record says that the text is not the one of the run."""
    record, reader = stored(f"the key {KEY}")

    assert reader.restore(record) == "the key [secret]"
    assert record.note == "secrets were removed"


class TestHostile:
    def test_a_pickle_is_never_loaded(self, stored):
        """An array with objects, which NumPy would unpickle, is refused."""
        _, reader = stored("x")
        buffer = io.BytesIO()
        np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
        record, _ = stored(buffer.getvalue())

        with pytest.raises(MissingValueError):
            reader.restore(dataclasses.replace(record, kind="npy"))

    def test_an_array_is_not_larger_than_its_file(self, stored):
        """A header that claims a terabyte allocates nothing."""
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": "<f8", "fortran_order": False, "shape": (1 << 37,)}
        )
        record, reader = stored(buffer.getvalue())

        with pytest.raises(MissingValueError, match="header"):
            reader.restore(dataclasses.replace(record, kind="npy"))

    def test_a_table_is_not_much_larger_than_its_file(self, stored, monkeypatch):
        """A small file with a large table is refused before it is read."""
        buffer = io.BytesIO()
        pq.write_table(
            pa.table({"a": pa.array(["x" * 1000] * 100_000)}), buffer, use_dictionary=False
        )
        record, reader = stored(buffer.getvalue())

        with pytest.raises(MissingValueError, match="bytes"):
            type(reader)(Path(reader.folder.parent / "run.jsonl"), max_bytes=10_000_000).restore(
                dataclasses.replace(record, kind="parquet", type="pyarrow.lib.Table")
            )

    def test_bytes_that_are_no_json_are_damaged(self, stored):
        """The error is one of the journal, whatever the parser raises."""
        record, reader = stored(pickle.dumps([1]))

        for kind in ("npy", "parquet", "json", "text"):
            with pytest.raises(MissingValueError):
                reader.restore(dataclasses.replace(record, kind=kind))
