"""The wire protocol: frames in any number of chunks, and nothing but frames."""

from __future__ import annotations

import contextlib
import json
import os
import random
import struct

import golden_messages as golden
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.frames import (
    BUFFER_BYTES,
    HEADER_BYTES,
    MAX_ATTACHMENTS,
    FrameReader,
    encode_frame,
)
from sandbox_runtime.rpc.messages import Asset, Discard, Interrupt, Piece, Run
from sandbox_runtime.rpc.protocol import LARGEST_ID, Connection, random_id

LIMIT = 1_000_000

ids = st.integers(0, 2**32 - 1)
args = st.integers(-(2**31), 2**31 - 1)
frames = st.tuples(
    st.integers(0, 255),
    ids,
    args,
    st.binary(max_size=300),
    st.lists(st.binary(max_size=300), max_size=4),
)


def whole(kind=1, frame_id=0, arg=0, body=b"", attachments=()):
    """Returns a frame as one piece of bytes."""
    return b"".join(map(bytes, encode_frame(kind, frame_id, arg, body, attachments)))


def header(*sizes, magic=0xD1, kind=1, count=None):
    """Returns a header that announces a body and attachments of these lengths."""
    body, *attachments = sizes
    count = len(attachments) if count is None else count
    head = struct.pack("<BBHIiI", magic, kind, count, 0, 0, body)
    return head + struct.pack(f"<{len(attachments)}I", *attachments)


def feed(reader, data, sizes=None):
    """Feeds bytes to a reader in chunks of these sizes, as reads of a pipe would."""
    found = []
    sizes = iter(sizes or ())
    while data:
        space = reader.space()
        used = min(next(sizes, len(data)), len(space), len(data))
        space[:used] = data[:used]
        data = data[used:]
        found += reader.advance(used)
    return found


def read(data, sizes=None, limit=LIMIT):
    """Returns the frames in the data, as tuples of plain bytes."""
    found = feed(FrameReader(limit), data, sizes)
    return [(*frame[:3], bytes(frame.body), list(map(bytes, frame.attachments))) for frame in found]


class TestFraming:
    """A frame is a header with lengths, a body, and raw attachments."""

    def test_a_frame_says_its_lengths(self):
        """All numbers are little-endian; the argument may be negative."""
        assert whole(3, 7, -2, b"body", [b"\x00\xff", b""]) == (
            b"\xd1\x03\x02\x00\x07\x00\x00\x00\xfe\xff\xff\xff\x04\x00\x00\x00"
            b"\x02\x00\x00\x00\x00\x00\x00\x00body\x00\xff"
        )

    def test_without_attachments(self):
        """Without attachments a frame is one piece."""
        assert encode_frame(1, 2, 3, b"{}") == [
            b"\xd1\x01\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x02\x00\x00\x00{}"
        ]

    def test_attachments_are_not_copied(self):
        """A large value goes from the caller's buffer into the pipe."""
        attachment = bytearray(100)

        pieces = encode_frame(1, 0, 0, b"", [attachment])

        assert pieces[1] is attachment

    def test_the_length_of_a_view_is_in_bytes(self):
        """A buffer of eight-byte numbers counts eight for each."""
        numbers = memoryview(bytes(24)).cast("d")

        [(*_, attachments)] = read(whole(attachments=[numbers]))

        assert attachments == [bytes(24)]

    @given(st.lists(frames, max_size=4), st.lists(st.integers(1, 400)))
    def test_frames_survive_any_chunking(self, sent, sizes):
        """A frame may arrive in many chunks, and a chunk may have many frames."""
        data = b"".join(whole(*frame) for frame in sent)

        assert read(data, sizes) == sent

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
    def test_frames_survive_small_reads(self, size):
        """Frames are parsed even if one byte arrives at a time."""
        sent = [(1, 1, 0, b"n", [b"", b"abc", b""]), (2, 2, 0, b"", []), (3, 3, 0, b"", [b""])]
        data = b"".join(whole(*frame) for frame in sent)

        assert read(data, [size] * len(data)) == sent

    @pytest.mark.parametrize("size", [1000, 65_536, BUFFER_BYTES])
    @pytest.mark.parametrize("length", [BUFFER_BYTES // 2, BUFFER_BYTES // 2 + 1, BUFFER_BYTES])
    def test_bodies_around_the_size_of_the_buffer(self, length, size):
        """A body is whole, whether it is read into the reader's buffer or into one of its own."""
        body = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
        sent = [(1, 1, 0, body, []), (2, 2, 0, b"small", []), (1, 3, 0, body, [body, b""])]
        data = b"".join(whole(*frame) for frame in sent)

        assert read(data, [size] * len(data)) == sent

    def test_a_large_attachment_is_read_into_its_own_buffer(self):
        """Once the lengths are known, bytes are read directly into the attachment."""
        reader = FrameReader(LIMIT)

        feed(reader, whole(attachments=[bytes(500_000)])[: -500_000 + 10])

        assert len(reader.space()) == 500_000 - 10

    def test_a_frame_is_kept_when_more_arrives(self):
        """The body of a frame is a copy: later frames do not change it."""
        reader = FrameReader(LIMIT)

        [first] = feed(reader, whole(body=b"first"))
        [second] = feed(reader, whole(body=b"other"))

        assert (first.body, second.body) == (b"first", b"other")

    @given(st.lists(st.binary(min_size=1, max_size=100_000), min_size=1, max_size=3))
    def test_the_space_is_never_empty(self, parts):
        """A read into an empty buffer would look like the end of the stream."""
        reader = FrameReader(LIMIT)
        data = whole(attachments=parts) + whole(body=parts[0])
        while data:
            space = reader.space()
            assert len(space) > 0
            used = min(len(space), len(data))
            space[:used] = data[:used]
            data = data[used:]
            list(reader.advance(used))

    @pytest.mark.parametrize("count", [MAX_ATTACHMENTS + 1, 70_000])
    def test_too_many_attachments_to_send(self, count):
        """The number is checked at this end already."""
        with pytest.raises(ProtocolError, match="too many parts"):
            encode_frame(1, 0, 0, b"", [b""] * count)


class TestRefusals:
    """Invalid bytes end the connection before they cost anything."""

    @pytest.mark.parametrize(
        "data",
        [b"Content-Length: 2\r\n\r\n{}", b"hello", b"\n", bytes(16), header(0, magic=0xD0)],
        ids=["text", "word", "line", "zeros", "magic"],
    )
    def test_bytes_that_are_no_frame(self, data):
        """The first byte decides: nothing more is waited for."""
        with pytest.raises(ProtocolError, match="not a frame"):
            read(data)

    def test_bytes_after_a_frame(self):
        """Only a frame may follow a frame."""
        with pytest.raises(ProtocolError, match="not a frame"):
            read(whole(body=b"{}") + b"\n")

    @pytest.mark.parametrize("count", [MAX_ATTACHMENTS + 1, 2**16 - 1])
    def test_more_attachments_than_a_message_has(self, count):
        """The number is refused before the lengths arrive."""
        with pytest.raises(ProtocolError, match="too many attachments"):
            read(header(0, count=count))

    def test_as_many_attachments_as_possible(self):
        """The longest header fits into the reader's buffer."""
        sent = (1, 0, 0, b"", [b"x"] * MAX_ATTACHMENTS)

        assert read(whole(*sent), [999] * 1000) == [sent]

    @pytest.mark.parametrize("sizes", [(101,), (50, 51), (0, 101), (1, 50, 50)])
    def test_a_frame_over_the_limit_is_refused_unread(self, sizes):
        """The header suffices; the sum of all lengths counts, and nothing is allocated."""
        with pytest.raises(ProtocolError, match=r"101 bytes is over the limit of 100 bytes"):
            read(header(*sizes), limit=100)

    def test_a_frame_of_all_the_memory_there_is(self):
        """The largest representable lengths are refused without an allocation."""
        with pytest.raises(ProtocolError, match=r"Limits\.frame_bytes"):
            read(header(2**32 - 1, *[2**32 - 1] * MAX_ATTACHMENTS))

    def test_a_frame_of_exactly_the_limit_passes(self):
        """The limit is the largest size that is accepted."""
        assert len(read(whole(body=b"abc", attachments=[bytes(97)]), limit=100)) == 1

    @given(st.binary(max_size=400))
    def test_noise(self, noise):
        """For any bytes, the result is frames or a ProtocolError."""
        with contextlib.suppress(ProtocolError):
            read(noise)

    @given(st.binary(max_size=400))
    def test_noise_that_begins_like_a_frame(self, noise):
        """For any bytes after the first, the result is frames or a ProtocolError."""
        with contextlib.suppress(ProtocolError):
            read(b"\xd1" + noise)

    def test_frames_before_the_bad_one_are_delivered(self):
        """Frames before the violation are delivered."""
        reader = FrameReader(LIMIT)
        data = whole(body=b"n") + b"garbage"
        reader.space()[: len(data)] = data

        received = reader.advance(len(data))

        assert next(received).body == b"n"
        with pytest.raises(ProtocolError):
            next(received)

    def test_half_a_frame_is_no_frame(self):
        """At any length but the whole one, nothing is delivered."""
        data = whole(1, 2, 3, b"body", [b"part", b""])

        for length in range(len(data)):
            assert read(data[:length]) == []

    def test_many_small_frames_are_not_moved_about(self):
        """Reading is linear: a flood of empty frames costs little, in chunks of any size."""
        data = whole() * 50_000

        assert len(read(data, [HEADER_BYTES * 1000 + 1] * 1000)) == 50_000


def received(data):
    """Returns the messages in a stream of the sandbox, parsed as by the host."""
    connection = Connection(LIMIT)
    found = []
    while data:
        space = connection.space()
        used = min(len(space), len(data))
        space[:used] = data[:used]
        data = data[used:]
        found += connection.received(used)
    return found


class TestConnection:
    """The host's end: numbers its requests, and validates incoming messages."""

    def test_the_numbers_of_requests_cannot_be_guessed(self):
        """Each request has a random number: frames of a cell carry it, and nothing an earlier cell left knows it."""
        connection = Connection(LIMIT)

        ids = [connection.request(golden.FROM_HOST["run"])[0] for _ in range(1000)]

        assert len(set(ids)) == 1000
        assert all(0 < request_id <= LARGEST_ID for request_id in ids)
        assert max(ids) - min(ids) > LARGEST_ID // 2

    def test_they_are_never_zero(self):
        """A request with the number 0 would be a notification."""
        assert min(random_id() for _ in range(1000)) > 0

    def test_a_notification_has_none(self):
        """A notification has no number, since it has no answer."""
        [(kind, frame_id, _, body, _)] = read(b"".join(Connection(LIMIT).notification(Interrupt())))

        assert (kind, frame_id, body) == (4, 0, b'{"method":"interrupt","params":{}}')

    def test_code_that_utf8_cannot_encode(self):
        """A lone surrogate in the code of a cell does not stop the session."""
        _, pieces = Connection(LIMIT).request(Run(1, "'\ud83d'"))

        [(*_, body, _)] = read(b"".join(pieces))

        assert body == b"'?'"

    def test_messages_come_out_checked(self):
        """A frame that is not a message of the sandbox violates the protocol."""
        with pytest.raises(ProtocolError, match="unknown kind"):
            received(whole(kind=9, body=b"{}\n"))

    def test_only_a_state_may_be_as_large_as_the_memory(self):
        """The limit of frames is raised for the answer to one request."""
        connection = Connection(1000, memory_bytes=5000)
        state = whole(2, 1, 0, b"{}\n", [bytes(4000)])

        connection.request(golden.FROM_HOST["checkpoint"])
        connection.space()[: len(state)] = state
        assert len(list(connection.received(len(state)))) == 1

        connection.request(golden.FROM_HOST["run"])
        connection.space()[: len(state)] = state
        with pytest.raises(ProtocolError, match="over the limit"):
            list(connection.received(len(state)))

    def test_two_ends_back_to_back(self):
        """Messages encoded by one end are parsed by the other, in any chunks."""
        connection = Connection(LIMIT)
        pieces = [encode(connection, message) for message in golden.FROM_HOST.values()]
        data = [b"".join(map(bytes, frame)) for frame in pieces]
        cuts = random.Random(1)

        arrived = read(b"".join(data), (cuts.randint(1, 50) for _ in range(len(b"".join(data)))))

        assert [whole(*frame) for frame in arrived] == data


def encode(connection, message):
    """Returns the pieces of any message of the host."""
    if isinstance(message, (Asset, Interrupt, Piece, Discard)):
        return connection.notification(message)
    if hasattr(message, "call"):
        return connection.answer(message)
    return connection.request(message)[1]


class TestGolden:
    """The files in `tests/golden` ensure that Python and TypeScript use the same bytes."""

    def test_the_index_names_every_file_and_message(self):
        """Every frame has a test, and every test has a frame."""
        index = json.loads((golden.FOLDER / "index.json").read_text())

        assert set(index["host"]) == set(golden.FROM_HOST)
        assert set(index["sandbox"]) == set(golden.FROM_SANDBOX)
        assert {path.stem for path in golden.FOLDER.glob("*.frame")} == {
            *golden.FROM_HOST,
            *golden.FROM_SANDBOX,
        }

    @pytest.mark.parametrize("name", golden.FROM_HOST)
    def test_what_the_host_says(self, name):
        """Each message of the host is encoded to exactly these bytes."""
        connection = Connection(LIMIT, new_id=lambda: golden.REQUEST)
        frame = b"".join(map(bytes, encode(connection, golden.FROM_HOST[name])))
        if os.environ.get("WRITE_GOLDEN"):
            golden.path(name).write_bytes(frame)

        assert frame == golden.path(name).read_bytes()

    @pytest.mark.parametrize("name", golden.FROM_SANDBOX)
    def test_what_the_host_understands(self, name):
        """Each message of the sandbox is parsed from the bytes that TypeScript writes."""
        data = golden.path(name).read_bytes()

        assert received(data) == [golden.FROM_SANDBOX[name]]
