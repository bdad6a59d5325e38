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
    """The size that a document or an archive may expand to."""

    document_bytes: int = _GB
    """The size of a document that is converted. Databases and archives may be larger."""

    lazy_bytes: int = 32 * _MB
    """A larger text stays on disk, as a `TextFile`."""

    folder_bytes: int = 256 * _MB
    """A larger folder stays on disk, as a `Directory`."""

    parsed_bytes: int = 64 * _MB
    """Larger tables and records are lazy text: in memory they take several times their size."""

    download_bytes: int = 2 * _GB
    """The size of what an address sends."""

    download_seconds: float = 300.0
    """For a whole download."""

    connect_seconds: float = 20.0
    """For a connection to a server."""

    redirects: int = 5
    """The redirects of an address that are followed."""

    stream_bytes: int = 64 * _GB
    """The most that is read from stdin and from pipes, and kept in a temporary file."""

    pipe_seconds: float = 30.0
    """The longest wait for the first byte of a named pipe."""

    require_wall: bool = False
    """Refuse documents, tables and archives where the operating system cannot confine the process that converts them."""
