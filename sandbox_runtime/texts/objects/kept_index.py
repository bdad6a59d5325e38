"""An index of positions as bytes, to be kept beside its text, so that a long text is counted once and not by every process.

Untrusted when it is read: an index that does not fit its text is ignored. Knows no files and no stores.
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from itertools import pairwise

from sandbox_runtime.texts.index import TextIndex

SUFFIX = ".dspy-rlm-index"

_MAGIC = b"dspy-rlm index 1\n"

# Numbers of one block: those of its bytes, characters and line ends.
_NUMBERS = 3
_NUMBER_BYTES = 8


def dumped(index: TextIndex, stamp: str) -> bytes:
    """Returns a complete index as bytes, with the state of the text that it belongs to."""
    header = {"stamp": stamp, "block_bytes": index.block_bytes, "order": sys.byteorder}
    columns = b"".join(column.tobytes() for column in index.columns)
    return _MAGIC + json.dumps(header).encode() + b"\n" + zlib.compress(columns, 1)


def load_into(index: TextIndex, data: bytes, stamp: str) -> bool:
    """Fills an index from bytes. Returns False, and leaves it, if they are those of another text or damaged."""
    columns = _columns(data, stamp, index.block_bytes, index.source.size)
    if columns is None:
        return False
    index.fill(columns)
    return True


def _columns(data: bytes, stamp: str, block_bytes: int, size: int) -> list[array[int]] | None:
    if not data.startswith(_MAGIC):
        return None
    head, _, packed = data[len(_MAGIC) :].partition(b"\n")
    try:
        header = json.loads(head)
    except ValueError:
        return None
    expected = {"stamp": stamp, "block_bytes": block_bytes, "order": sys.byteorder}
    if header != expected:
        return None
    # A block is at most three bytes shorter than its size, for a character that it would cut.
    most = (size // max(1, block_bytes - 3) + 2) * _NUMBERS * _NUMBER_BYTES
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(packed, most + 1)
    except zlib.error:
        return None
    if len(raw) > most or not raw or len(raw) % (_NUMBERS * _NUMBER_BYTES):
        return None
    part = len(raw) // _NUMBERS
    columns = [array("Q", raw[at : at + part]) for at in range(0, len(raw), part)]
    return columns if _fit(columns, block_bytes, size) else None


def _fit(columns: list[array[int]], block_bytes: int, size: int) -> bool:
    """Returns whether the columns may be those of a text of this size."""
    positions, chars, ends = columns
    if positions[0] or chars[0] or ends[0] or positions[-1] != size:
        return False
    blocks = zip(pairwise(positions), pairwise(chars), pairwise(ends), strict=True)
    return all(
        0 < after - before <= block_bytes
        and 0 < chars_after - chars_before <= after - before
        and 0 <= ends_after - ends_before <= chars_after - chars_before
        for (before, after), (chars_before, chars_after), (ends_before, ends_after) in blocks
    )
