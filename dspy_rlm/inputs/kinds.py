"""Recognizes the kind of an input by its content, its name and its media type, without I/O.

The content decides where it can: a PDF is a PDF whatever its name. Text formats have no magic number, so there the name decides.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of file, and how it is read."""

    name: str
    label: str
    """In messages, with its article."""

    variable: str
    """The name of the variable where the signature has none."""

    needs_extra: bool = False
    """True if it is read by a package of the extra `files`."""

    is_text: bool = False
    """True if the file itself is a readable text, which it stays among the files of a folder."""

    is_table: bool = False
    """True if its content is rows: named together, such files are a dict of them."""


TEXT = Kind("text", "a text", "text", is_text=True)

_ALL = (
    TEXT,
    Kind("pdf", "a PDF document", "text", needs_extra=True),
    Kind("docx", "a Word document", "text", needs_extra=True),
    Kind("pptx", "a PowerPoint presentation", "text", needs_extra=True),
    Kind("workbook", "a workbook", "text", needs_extra=True),
    Kind("html", "an HTML page", "text", needs_extra=True, is_text=True),
    Kind("epub", "an EPUB book", "text", needs_extra=True),
    Kind("csv", "a CSV table", "table", is_text=True, is_table=True),
    Kind("tsv", "a TSV table", "table", is_text=True, is_table=True),
    Kind("jsonl", "JSON lines", "records", is_text=True, is_table=True),
    Kind("parquet", "a Parquet file", "table", needs_extra=True, is_table=True),
    Kind("sqlite", "an SQLite database", "tables", is_table=True),
    Kind("duckdb", "a DuckDB database", "tables", needs_extra=True, is_table=True),
    Kind("notebook", "a Jupyter notebook", "cells"),
    Kind("mail", "a mail message", "messages"),
    Kind("mbox", "a mailbox", "messages"),
    Kind("zip", "a ZIP archive", "files"),
    Kind("tar", "a tar archive", "files"),
)
KINDS = {kind.name: kind for kind in _ALL}

ARCHIVES = frozenset({"zip", "tar"})

# The kinds that a converter process turns into tables or records, as opposed to parts of a text.
ROWS = frozenset({"csv", "tsv", "parquet", "sqlite", "duckdb"})
RECORDS = frozenset({"notebook", "mail", "mbox"})

_BY_SUFFIX = {
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".ipynb": "notebook", ".eml": "mail", ".mbox": "mbox",
}  # fmt: skip

_BY_MEDIA_TYPE = {
    "text/html": "html", "application/xhtml+xml": "html",
    "text/csv": "csv", "text/tab-separated-values": "tsv",
    "application/x-ndjson": "jsonl", "application/jsonl": "jsonl", "application/x-jsonlines": "jsonl",
    "application/x-ipynb+json": "notebook", "message/rfc822": "mail", "application/mbox": "mbox",
}  # fmt: skip

# Names in the directory at the end of an Office file, which is a ZIP archive.
_OFFICE = {
    b"word/document": "docx",
    b"ppt/presentation": "pptx",
    b"xl/workbook": "workbook",
}
_OFFICE_SUFFIXES = {
    ".docx": "docx", ".docm": "docx", ".dotx": "docx",
    ".pptx": "pptx", ".pptm": "pptx", ".ppsx": "pptx", ".potx": "pptx",
    ".xlsx": "workbook", ".xlsm": "workbook", ".xlsb": "workbook", ".ods": "workbook",
}  # fmt: skip

_SQLITE, _PARQUET, _DUCKDB = b"SQLite format 3\0", b"PAR1", b"DUCK"
_OLE, _WORKBOOK_STREAM = b"\xd0\xcf\x11\xe0", "Workbook".encode("utf-16-le")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PDF, _PDF_WITHIN = b"%PDF-", 1024
_HTML_STARTS = (b"<!doctype html", b"<html", b"<head")

# The suffixes of compressed files; `.tgz` is short for `.tar.gz`.
_COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zstd")


def kind_of(start: bytes, end: bytes, name: str, media_type: str = "") -> Kind:
    """Returns the kind of a file that is not compressed.

    Args:
        start: Its beginning, some kilobytes.
        end: Its end, likewise.
        name: Its name.
        media_type: The media type that a server states, without parameters.
    """
    return KINDS[_binary_kind(start, end, name) or _text_kind(start, name, media_type)]


def _binary_kind(start: bytes, end: bytes, name: str) -> str:
    suffix = suffix_of(name)
    # Acrobat accepts a kilobyte in front of a PDF, as mail gateways write it.
    if start.startswith(_PDF) or (suffix == ".pdf" and _PDF in start[:_PDF_WITHIN]):
        return "pdf"
    if start.startswith(_SQLITE):
        return "sqlite"
    if start.startswith(_PARQUET) and end.endswith(_PARQUET):
        return "parquet"
    # Behind the mark stands the version, a number in eight bytes that fits into four.
    if start[8:12] == _DUCKDB and start[16:20] == bytes(4):
        return "duckdb"
    if start[257:263] in (b"ustar\0", b"ustar "):
        return "tar"
    if start.startswith(_OLE) and (suffix == ".xls" or _WORKBOOK_STREAM in start + end):
        return "workbook"
    if start.startswith(_ZIP):
        if b"mimetypeapplication/epub+zip" in start[:100] or suffix == ".epub":
            return "epub"
        if b"opendocument.spreadsheet" in start[:200]:
            return "workbook"
        inside = next((kind for part, kind in _OFFICE.items() if part in end), "")
        return inside or _OFFICE_SUFFIXES.get(suffix, "zip")
    return ""


def _text_kind(start: bytes, name: str, media_type: str) -> str:
    suffix = suffix_of(name)
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if media_type in _BY_MEDIA_TYPE:
        return _BY_MEDIA_TYPE[media_type]
    has_name = bool(suffix)
    if not has_name and start[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(
        _HTML_STARTS
    ):
        return "html"
    return "text"


def suffix_of(name: str) -> str:
    """Returns the last suffix of a name, in lower case."""
    last = name.replace("\\", "/").rpartition("/")[2].lower()
    stem, dot, suffix = last.rpartition(".")
    return f".{suffix}" if dot and stem else ""


def uncompressed_name(name: str) -> str:
    """Returns the name of what is inside a compressed file: `a.csv` for `a.csv.gz`."""
    suffix = suffix_of(name)
    if suffix in _COMPRESSED_SUFFIXES:
        return name[: -len(suffix)]
    if suffix in (".tgz", ".tbz", ".tbz2", ".txz", ".tzst"):
        return f"{name[: -len(suffix)]}.tar"
    return name
