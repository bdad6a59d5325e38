"""The result of a job as one file: JSON lines, Parquet or a Lance dataset, in the order of the source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from dspy_rlm.errors import JobError
from dspy_rlm.jobs.results.columns import arrow_schema, fitted, own_name, record_of_line
from dspy_rlm.journal.lines import dumped

FORMATS = ("jsonl", "parquet", "lance")

# Rows of one batch, and of one group of rows in Parquet.
_BATCH_ROWS = 1024


def check_format(form: str) -> None:
    """Finds a missing library before the first row is paid.

    Raises:
        JobError: There is no such format, or its library is not installed.
    """
    if form not in FORMATS:
        raise JobError(f"format must be one of {', '.join(FORMATS)}, not {form!r}.")
    needs = {"parquet": ("pyarrow", "tables"), "lance": ("lance", "tables")}.get(form)
    if needs is not None:
        try:
            import_module(needs[0])
        except ImportError as error:
            raise JobError(
                f'format={form!r} needs {needs[0]}: pip install "dspy-rlm[{needs[1]}]".'
            ) from error


def write_lance(lines: Iterable[Mapping[str, Any]], signature: Any, place: str) -> None:
    """Writes the result as a Lance dataset: into a folder, or to an address in object storage, where it is whole at once."""
    lance = import_module("lance")
    lance.write_dataset(_reader(lines, signature), place, mode="overwrite")


def write_result(
    lines: Iterable[Mapping[str, Any]], signature: Any, folder: Path, form: str
) -> Path:
    """Writes the result in place of an earlier one, and returns its path. An earlier one stays until the new one is whole.

    Args:
        lines: The lines of the journal.
        signature: The signature of the program.
        folder: The folder of the job.
        form: One of `FORMATS`.
    """
    path, temporary = folder / f"rows.{form}", folder / f".rows-{os.getpid()}.{form}"
    if form == "lance":
        write_lance(lines, signature, str(path))
        return path
    try:
        if form == "parquet":
            parquet = import_module("pyarrow.parquet")
            reader = _reader(lines, signature)
            with parquet.ParquetWriter(temporary, reader.schema, compression="zstd") as writer:
                for batch in reader:
                    writer.write_batch(batch)
        else:
            outputs = list(signature.output_fields)
            with temporary.open("wb") as file:
                for line in lines:
                    file.write(dumped(record_of_line(line, outputs)) + b"\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _reader(lines: Iterable[Mapping[str, Any]], signature: Any) -> Any:
    """Returns a reader of record batches, one at a time in memory."""
    pa = import_module("pyarrow")
    schema = arrow_schema(signature)
    return pa.RecordBatchReader.from_batches(schema, _batches(pa, lines, signature, schema))


def _batches(
    pa: Any, lines: Iterable[Mapping[str, Any]], signature: Any, schema: Any
) -> Iterator[Any]:
    outputs = list(signature.output_fields)
    rows: list[dict[str, Any]] = []
    for line in lines:
        rows.append(_fitted(record_of_line(line, outputs), schema, own_name("error", outputs)))
        if len(rows) == _BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _fitted(row: dict[str, Any], schema: Any, error_name: str) -> dict[str, Any]:
    """Returns the row with values that its columns hold. One that does not fit is empty, and the error says so."""
    notes: list[str] = []
    for field in schema:
        try:
            row[field.name] = fitted(row.get(field.name), field.type)
        except (ValueError, TypeError, OverflowError) as error:
            row[field.name] = None
            notes.append(f"{field.name} is only in the journal: {error}")
    if notes:
        row[error_name] = "; ".join([*filter(None, [row[error_name]]), *notes])
    return row
