"""Large values in chunks: what is sent, and that no complete copy is made."""

from __future__ import annotations

import collections
import contextlib
import gc
import pickle
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.buffers import nbytes
from sandbox_runtime.guest.values.chunks import Pieces
from sandbox_runtime.guest.values.codec import receive
from sandbox_runtime.guest.values.gc_pause import LARGE_BYTES, paused
from sandbox_runtime.rpc.messages import Room
from sandbox_runtime.values.chunks import (
    PIECE_BYTES,
    SMALL_BYTES,
    Stream,
    Streamed,
    Text,
    allocation_for,
    cut,
    size_of,
    split,
)
from sandbox_runtime.values.encoder import ValueCodec

DECODERS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


def decoded(text):
    """Returns the text of the chunks."""
    return "".join(
        bytes(p.attachments[0]).decode(DECODERS[p.width], "surrogatepass") for p in text.pieces()
    )


def collecting():
    """Returns a stream, and the list of the bytes that it sends."""
    poured = []
    return Stream(
        lambda: poured.append(b""), lambda p: poured.append(bytes(p.attachments[0]))
    ), poured


class TestText:
    """A text is sent in the form in which the sandbox stores it."""

    @pytest.mark.parametrize(
        ("text", "room"),
        [
            ("abc", Room("ascii", 3, 1)),
            ("naïve", Room("text", 5, 1)),
            ("a語", Room("text", 2, 2)),
            ("a🙂", Room("text", 2, 4)),
            ("\ud83d", Room("text", 1, 2)),
            ("\ud83d\ude42", Room("text", 2, 2)),
            ("x" * PIECE_BYTES + "🙂", Room("text", PIECE_BYTES + 1, 4)),
        ],
    )
    def test_the_widest_character_decides_the_width(self, text, room):
        """The widest character decides between one, two and four bytes; ASCII is separate, as in CPython."""
        assert Text(text).room == room
        assert size_of(Text(text)) == room.length * room.width

    @given(st.text(st.characters(categories=None)))
    def test_nothing_is_lost(self, text):
        """Every text survives, even with lone surrogates."""
        assert decoded(Text(text)) == text

    def test_each_piece_is_as_narrow_as_it_can_be(self):
        """One wide character does not widen all chunks of a long text."""
        pieces = list(Text("x" * PIECE_BYTES + "🙂" + "é" * PIECE_BYTES).pieces())

        assert [piece.width for piece in pieces] == [1, 4, 1]
        assert max(nbytes(piece.attachments[0]) for piece in pieces) == 4 * PIECE_BYTES

    @pytest.mark.parametrize("letter", ["x", "é", "語"])
    def test_no_whole_copy_is_made(self, letter):
        """The host allocates only the chunks in flight."""
        text = Text(letter * 20 * PIECE_BYTES)

        # Allocations of other threads are counted too.
        assert min(traced_peak(lambda: collections.deque(cut(text), 0)) for _ in range(3)) < (
            8 * PIECE_BYTES
        )


def traced_peak(work: Callable[[], object]) -> int:
    """Returns the peak of allocated bytes during the work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestCollector:
    """The garbage collector is paused while a large value is built."""

    def test_it_is_enabled_again_afterwards(self):
        """The collector is enabled again, even after an error."""
        with contextlib.suppress(ValueError), paused(LARGE_BYTES):
            assert not gc.isenabled()
            raise ValueError

        assert gc.isenabled()

    def test_a_small_value_does_not_pause_it(self):
        """For a small value, as in a message each millisecond, the collector is not paused."""
        with paused(LARGE_BYTES - 1):
            assert gc.isenabled()

    def test_one_that_was_off_stays_off(self):
        """A collector that the caller disabled stays disabled."""
        gc.disable()
        try:
            with paused(LARGE_BYTES):
                pass
            assert not gc.isenabled()
        finally:
            gc.enable()


class TestParts:
    """Small parts are sent in the message, larger ones before it."""

    def test_parts_after_a_large_one_are_sent_before_the_message(self):
        """All parts from the first large one on are sent before the message, so the order is kept."""
        large = bytes(SMALL_BYTES + 1)

        assert split([b"a", b"b"]) == ([b"a", b"b"], [])
        assert split([b"a", large, b"b"]) == ([b"a"], [large, b"b"])
        assert split([b"a", Streamed(5), b"b"]) == ([b"a"], [b"b"])

    def test_bytes_are_not_copied(self):
        """Chunks of bytes are views."""
        data = bytearray(2 * PIECE_BYTES + 1)

        pieces = list(cut(data))

        assert [nbytes(piece.attachments[0]) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, 1]
        assert all(piece.attachments[0].obj is data for piece in pieces)

    def test_a_view_of_numbers_counts_in_bytes(self):
        """The size of a memoryview is in bytes, whatever its items."""
        numbers = memoryview(bytes(24)).cast("d")

        assert allocation_for(numbers) == Room("bytes", 24, 1)
        assert [bytes(piece.attachments[0]) for piece in cut(numbers)] == [bytes(24)]


class TestStream:
    """A small pickle is kept; a large one is streamed while it is produced."""

    def test_a_small_one(self):
        """Nothing of a small pickle is sent before it is complete."""
        stream, poured = collecting()

        stream.write(b"ab")
        stream.write(memoryview(b"c"))

        assert (stream.finish(), poured) == (b"abc", [])

    def test_a_large_one(self):
        """Chunks are sent in order, after one call of `begin`, and none exceeds the chunk size."""
        stream, poured = collecting()
        data = [b"a" * 60_000] * 40 + [b"b" * 5 * PIECE_BYTES, b"c"]

        for item in data:
            stream.write(item)

        assert stream.finish() == Streamed(len(b"".join(data)))
        assert poured[0] == b""
        assert b"".join(poured) == b"".join(data)
        assert max(map(len, poured)) <= 2 * PIECE_BYTES

    def test_no_whole_pickle_is_made(self):
        """Pickling a list of documents costs a chunk or two, not a copy of the documents."""
        documents = [f"{n:09}" * 4000 for n in range(1000)] + [bytes(20 * PIECE_BYTES)]
        sent = 0

        def send_chunk(piece):
            nonlocal sent
            sent += nbytes(piece.attachments[0])

        stream = Stream(lambda: None, send_chunk)
        tracemalloc.start()
        try:
            kind, [part] = ValueCodec().encode_variable(documents, "documents", stream)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert (kind, part) == ("pickle", Streamed(sent))
        assert sent > 50 * PIECE_BYTES
        assert peak < 8 * PIECE_BYTES

    @given(st.lists(st.binary(min_size=1, max_size=9)), st.lists(st.integers(0, 20)))
    def test_pieces_are_read_as_a_file(self, pieces, counts):
        """Reads of any size cross the borders of chunks."""
        whole, file = b"".join(pieces), Pieces(list(pieces))
        for count in counts:
            assert file.read(count) == whole[:count]
            whole = whole[count:]
        target = bytearray(10)
        assert target[: file.readinto(target)] == whole[:10]

    def test_lines_of_a_file_of_pieces(self):
        """Lines can be read, as `pickle` requires of a file."""
        file = Pieces([b"a", b"b\nc", b"d"])

        assert [file.readline(), file.readline(), file.readline()] == [b"ab\n", b"cd", b""]

    def test_a_pickle_in_pieces_is_received(self):
        """Chunks are freed one by one, so that the pickle and the value never both exist completely."""
        value = [{"n": n, "text": str(n) * 50} for n in range(1000)]
        data = pickle.dumps(value, protocol=5)
        pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]

        assert receive("pickle", [pieces]) == value
        assert pieces == []
