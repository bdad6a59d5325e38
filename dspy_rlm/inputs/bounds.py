"""The most that reading an input may take, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

_MB = 1024**2
_GB = 1024**3


@dataclass(frozen=True)
class InputBounds:
    """The bounds of one input. A file beyond one of them is refused, or read in place, as each says."""

    seconds: float = 300.0
    """For the conversion of a document or a table, and for the listing of an archive."""

    memory_bytes: int = 2 * _GB
    """For the process that converts."""

    output_bytes: int = 4 * _GB
    """What a document or an archive may expand to."""

    document_bytes: int = _GB
    """The size of a document that is converted. Databases and archives may be larger."""

    lazy_bytes: int = 32 * _MB
    """A larger text stays on disk, as a `TextFile`."""

    folder_bytes: int = 256 * _MB
    """A larger folder stays on disk, as a `Directory`."""

    parsed_bytes: int = 64 * _MB
    """Larger tables and records are lazy text: in memory they take a multiple."""

    download_bytes: int = 2 * _GB
    download_seconds: float = 300.0
    connect_seconds: float = 20.0
    redirects: int = 5

    stream_bytes: int = 64 * _GB
    """What is read of stdin and of pipes at most, and kept in a temporary file."""

    pipe_seconds: float = 30.0
    """How long the first byte of a named pipe is waited for."""
