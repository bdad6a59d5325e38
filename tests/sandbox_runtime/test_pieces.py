"""Large values in pieces: what is sent of them, and that no whole copy is made."""

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
    """The text that its pieces make."""
    return "".join(
        bytes(p.attachments[0]).decode(DECODERS[p.width], "surrogatepass") for p in text.pieces()
    )


def collecting():
    """A stream, and the list of the bytes that it pours."""
    poured = []
    return Stream(
        lambda: poured.append(b""), lambda p: poured.append(bytes(p.attachments[0]))
    ), poured


class TestText:
    """A text travels as the sandbox holds it."""

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
    def test_its_widest_character_says_how_wide_it_is(self, text, room):
        """One, two or four bytes for each; ASCII is told apart, as Python does."""
        assert Text(text).room == room
        assert size_of(Text(text)) == room.length * room.width

    @given(st.text(st.characters(categories=None)))
    def test_nothing_is_lost(self, text):
        """Lone surrogates neither."""
        assert decoded(Text(text)) == text

    def test_each_piece_is_as_narrow_as_it_can_be(self):
        """One wide character does not make the rest of a long text wide on its way."""
        pieces = list(Text("x" * PIECE_BYTES + "🙂" + "é" * PIECE_BYTES).pieces())

        assert [piece.width for piece in pieces] == [1, 4, 1]
        assert max(nbytes(piece.attachments[0]) for piece in pieces) == 4 * PIECE_BYTES

    @pytest.mark.parametrize("letter", ["x", "é", "語"])
    def test_no_whole_copy_is_made(self, letter):
        """Only the pieces at hand take memory of the host's."""
        text = Text(letter * 20 * PIECE_BYTES)

        # What other threads of this process allocate meanwhile is counted too.
        assert min(traced_peak(lambda: collections.deque(cut(text), 0)) for _ in range(3)) < (
            8 * PIECE_BYTES
        )


def traced_peak(work: Callable[[], object]) -> int:
    """The most bytes that were allocated at a time while the work was done."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestCollector:
    """While a large value is made, nobody looks for garbage in it."""

    def test_it_is_awake_again_afterwards(self):
        """Also after an error."""
        with contextlib.suppress(ValueError), paused(LARGE_BYTES):
            assert not gc.isenabled()
            raise ValueError

        assert gc.isenabled()

    def test_a_small_value_leaves_it_alone(self):
        """A message a millisecond is not worth a switch."""
        with paused(LARGE_BYTES - 1):
            assert gc.isenabled()

    def test_one_that_was_off_stays_off(self):
        """It is the caller's to switch."""
        gc.disable()
        try:
            with paused(LARGE_BYTES):
                pass
            assert not gc.isenabled()
        finally:
            gc.enable()


class TestParts:
    """Small parts ride with the message, larger ones go ahead."""

    def test_from_the_first_large_one_on_all_go_ahead(self):
        """The sandbox puts them after those that ride; the order stays."""
        large = bytes(SMALL_BYTES + 1)

        assert split([b"a", b"b"]) == ([b"a", b"b"], [])
        assert split([b"a", large, b"b"]) == ([b"a"], [large, b"b"])
        assert split([b"a", Streamed(5), b"b"]) == ([b"a"], [b"b"])

    def test_bytes_are_not_copied(self):
        """Their pieces are views of them."""
        data = bytearray(2 * PIECE_BYTES + 1)

        pieces = list(cut(data))

        assert [nbytes(piece.attachments[0]) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, 1]
        assert all(piece.attachments[0].obj is data for piece in pieces)

    def test_a_view_of_numbers_counts_in_bytes(self):
        """As everywhere."""
        numbers = memoryview(bytes(24)).cast("d")

        assert allocation_for(numbers) == Room("bytes", 24, 1)
        assert [bytes(piece.attachments[0]) for piece in cut(numbers)] == [bytes(24)]


class TestStream:
    """A pickle that is small stays; a large one is poured out as it is made."""

    def test_a_small_one(self):
        """Nothing is sent before the whole is known."""
        stream, poured = collecting()

        stream.write(b"ab")
        stream.write(memoryview(b"c"))

        assert (stream.finish(), poured) == (b"abc", [])

    def test_a_large_one(self):
        """The pieces in order, after one call of `begin`; none is larger than a piece may be."""
        stream, poured = collecting()
        data = [b"a" * 60_000] * 40 + [b"b" * 5 * PIECE_BYTES, b"c"]

        for item in data:
            stream.write(item)

        assert stream.finish() == Streamed(len(b"".join(data)))
        assert poured[0] == b""
        assert b"".join(poured) == b"".join(data)
        assert max(map(len, poured)) <= 2 * PIECE_BYTES

    def test_no_whole_pickle_is_made(self):
        """A list of documents costs a piece or two, not the documents again."""
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
        """Any number of bytes at a time, across the borders of pieces."""
        whole, file = b"".join(pieces), Pieces(list(pieces))
        for count in counts:
            assert file.read(count) == whole[:count]
            whole = whole[count:]
        target = bytearray(10)
        assert target[: file.readinto(target)] == whole[:10]

    def test_lines_of_a_file_of_pieces(self):
        """What `pickle` asks of a file."""
        file = Pieces([b"a", b"b\nc", b"d"])

        assert [file.readline(), file.readline(), file.readline()] == [b"ab\n", b"cd", b""]

    def test_a_pickle_in_pieces_is_received(self):
        """It is used up piece by piece, so that the pickle and the value are not both there whole."""
        value = [{"n": n, "text": str(n) * 50} for n in range(1000)]
        data = pickle.dumps(value, protocol=5)
        pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]

        assert receive("pickle", [pieces]) == value
        assert pieces == []
