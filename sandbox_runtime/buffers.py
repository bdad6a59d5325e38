"""Raw bytes, in the forms in which they are passed on without a copy."""

from __future__ import annotations

Part = bytes | bytearray | memoryview


def nbytes(part: Part) -> int:
    """The bytes of a part, also of a view of something larger than bytes."""
    return part.nbytes if isinstance(part, memoryview) else len(part)
