"""Bytes-like types that are passed on without a copy."""

from __future__ import annotations

Part = bytes | bytearray | memoryview


def nbytes(part: Part) -> int:
    """Returns the size in bytes, also of a view whose items are larger than a byte."""
    return part.nbytes if isinstance(part, memoryview) else len(part)
