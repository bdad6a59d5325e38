"""Small lazy texts for property tests, which compare them with strings."""

from __future__ import annotations

from hypothesis import strategies as st

from sandbox_runtime import (
    TextStream,
)
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.lazy_text import LazyText

# Few letters, so that searches find matches; of every UTF-8 width, and with line ends.
LETTERS = st.text(alphabet="aab\n\r é€😀\ufffd", max_size=60)


def forever() -> Deadline:
    return Deadline()


def in_small_blocks(data: bytes) -> LazyText:
    """Creates a text with blocks of a few bytes, so that every operation crosses block borders."""
    text = TextStream([])
    source = text.source
    source._file.write(data)
    source.size, source.complete = len(data), True
    return LazyText("small", source, block_bytes=5)
