"""The wire protocol: frames in any number of chunks, and nothing but frames."""

from __future__ import annotations

import contextlib
import json
import os
import random

import golden_messages as golden
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.messages import Asset, Interrupt
from sandbox_runtime.rpc.protocol import (
    MAX_HEADER_BYTES,
    Connection,
    FrameReader,
    encode_frame,
)

LIMIT = 1_000_000

bodies = st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=5)
frames = st.tuples(bodies, st.lists(st.binary(max_size=300), max_size=4))


def whole(body, attachments=()):
    """Returns a frame as one piece of bytes."""
    return b"".join(encode_frame(body, attachments))


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
    return feed(FrameReader(limit), data, sizes)


class TestFraming:
    """A frame is a header with lengths, a JSON body, and raw attachments."""

    def test_a_frame_says_its_lengths(self):
        """The header is text, as in the Language Server Protocol; attachments are raw."""
        assert whole({"a": 1}, [b"\x00\xff", b""]) == (
            b'Content-Length: 8\r\nAttachments: 2,0\r\n\r\n{"a":1}\n\x00\xff'
        )

    def test_without_attachments_the_header_has_one_line(self):
        """Without attachments the header does not mention them."""
        assert whole({}) == b"Content-Length: 3\r\n\r\n{}\n"

    def test_attachments_are_not_copied(self):
        """A large value goes from the caller's buffer into the pipe."""
        attachment = bytearray(100)

        pieces = encode_frame({}, [attachment])

        assert pieces[1] is attachment

    def test_the_length_of_a_view_is_in_bytes(self):
        """A buffer of eight-byte numbers counts eight for each."""
        numbers = memoryview(bytes(24)).cast("d")

        [(_, attachments)] = read(b"".join(bytes(p) for p in encode_frame({}, [numbers])))

        assert attachments == [bytearray(24)]

    @given(st.lists(frames, max_size=4), st.lists(st.integers(1, 400)))
    def test_frames_survive_any_chunking(self, sent, sizes):
        """A frame may arrive in many chunks, and a chunk may have many frames."""
        data = b"".join(whole(*frame) for frame in sent)

        received = read(data, sizes)

        assert [(body, list(map(bytes, parts))) for body, parts in received] == sent

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
    def test_frames_survive_small_reads(self, size):
        """Frames are parsed even if one byte arrives at a time."""
        data = whole({"n": 1}, [b"", b"abc", b""]) + whole({"n": 2}) + whole({"n": 3}, [b""])

        received = read(data, [size] * len(data))

        assert received == [({"n": 1}, [b"", b"abc", b""]), ({"n": 2}, []), ({"n": 3}, [b""])]

    def test_a_large_attachment_is_read_into_its_own_buffer(self):
        """Once the lengths are known, bytes are read directly into the attachment."""
        reader = FrameReader(LIMIT)
        header = whole({}, [bytes(500_000)])[: -500_000 + 10]

        feed(reader, header)

        assert len(reader.space()) == 500_000 - 10

    @given(st.lists(st.binary(min_size=1, max_size=100_000), min_size=1, max_size=3))
    def test_the_space_is_never_empty(self, parts):
        """A read into an empty buffer would look like the end of the stream."""
        reader = FrameReader(LIMIT)
        data = whole({}, parts)
        while data:
            space = reader.space()
            assert len(space) > 0
            used = min(len(space), len(data))
            space[:used] = data[:used]
            data = data[used:]
            list(reader.advance(used))


class TestRefusals:
    """Invalid bytes end the connection before they cost anything."""

    @pytest.mark.parametrize(
        "header",
        [
            b"Content-Length: -1",
            b"Content-Length: 1_0",
            b"Content-Length: 0x10",
            b"Content-Length: ",
            b"Content-Length: 1e3",
            b"Content-Length: 1234567890123456",
            b"Content-Length:  2",
            b"Content-Length: \xb2",
            b"content-length: 2",
            b"Attachments: 1\r\nContent-Length: 2",
            b"Content-Length: 2\r\nAttachments: ",
            b"Content-Length: 2\r\nAttachments: 1,,2",
            b"Content-Length: 2\r\nAttachments: 1,",
            b"Content-Length: 2\r\nAttachments: 1\r\nAttachments: 1",
            b"Content-Length: 2\r\nContent-Length: 3",
            b"Content-Length: 2\nAttachments: 1",
            b"X: 1\r\nContent-Length: 2",
            b"",
            b"hello",
        ],
    )
    def test_a_malformed_header(self, header):
        """Only the exact format is a header."""
        with pytest.raises(ProtocolError, match="header is malformed"):
            read(header + b"\r\n\r\n{}")

    def test_text_that_never_becomes_a_header(self):
        """A header without an end is refused at its maximum length."""
        with pytest.raises(ProtocolError, match="header is longer than 65,536 bytes"):
            read(b"x" * (MAX_HEADER_BYTES + 1))

    @pytest.mark.parametrize("sizes", [(101,), (50, 51), (0, 101), (1, 50, 50)])
    def test_a_frame_over_the_limit_is_refused_unread(self, sizes):
        """The header suffices; the sum of all lengths counts, and nothing is allocated."""
        body, *attachments = sizes
        header = f"Content-Length: {body}\r\n"
        if attachments:
            header += f"Attachments: {','.join(map(str, attachments))}\r\n"

        with pytest.raises(ProtocolError, match=r"101 bytes is over the limit of 100 bytes"):
            read(header.encode() + b"\r\n", limit=100)

    def test_a_frame_of_all_the_memory_there_is(self):
        """The largest representable lengths are refused without an allocation."""
        with pytest.raises(ProtocolError, match=r"Limits\.frame_bytes"):
            read(b"Content-Length: 999999999999999\r\n\r\n")

    def test_a_frame_of_exactly_the_limit_passes(self):
        """The limit is the largest size that is accepted."""
        data = whole({}, [bytes(97)])

        assert len(read(data, limit=100)) == 1

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"nothing", b"\xff\xfe{}", b'{"a":1}{"a":2}', b'{"a":"\xff"}', b"[" * 100_000],
        ids=["empty", "open", "words", "utf-16", "two", "not utf-8", "deep"],
    )
    def test_a_body_that_is_not_json(self, body):
        """Deep nesting is a ProtocolError, and does not exhaust the stack."""
        with pytest.raises(ProtocolError, match="body is not JSON"):
            read(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def test_a_number_that_python_will_not_read(self):
        """A number of thousands of digits, an attack on the parser, is refused."""
        body = b"[" + b"9" * 100_000 + b"]"

        with pytest.raises(ProtocolError):
            read(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    @given(st.binary(max_size=400))
    def test_noise(self, noise):
        """For any bytes, the result is frames or a ProtocolError."""
        with contextlib.suppress(ProtocolError):
            read(noise)

    def test_frames_before_the_bad_one_are_delivered(self):
        """Frames before the violation are delivered; the sandbox's last message arrives this way."""
        reader = FrameReader(LIMIT)
        data = whole({"n": 1}) + b"garbage\r\n\r\n"
        reader.space()[: len(data)] = data

        received = reader.advance(len(data))

        assert next(received) == ({"n": 1}, [])
        with pytest.raises(ProtocolError):
            next(received)


SECRET = golden.SECRET
OTHER = SECRET[::-1]


def signed(body, attachments=(), secret=SECRET, end=None):
    """Returns a frame as the sandbox writes it."""
    text = json.dumps(body).encode()
    header = f"Secret: {secret}\r\nContent-Length: {len(text)}\r\n"
    if attachments:
        header += f"Attachments: {','.join(str(len(part)) for part in attachments)}\r\n"
    end = f"{secret}\n" if end is None else end
    return b"".join([header.encode(), b"\r\n", text, *attachments, end.encode()])


class TestSecret:
    """Only the sandbox's own main thread can write a frame."""

    @given(st.lists(frames, max_size=4), st.lists(st.integers(1, 400)))
    def test_frames_that_have_it(self, sent, sizes):
        """Frames with the secret are accepted in any chunks, and the parsed frame does not contain it."""
        data = b"".join(signed(*frame) for frame in sent)

        found = feed(FrameReader(LIMIT, SECRET), data, sizes)

        assert [(body, list(map(bytes, parts))) for body, parts in found] == sent

    @pytest.mark.parametrize(
        "data",
        [
            whole({}),
            signed({}, secret=OTHER),
            signed({}, secret=""),
            signed({}, secret=SECRET.upper()),
            signed({}, end=f"{OTHER}\n"),
            signed({}, end="x" * 33),
            signed({}, [b"part"], end=f"{SECRET[:-1]}x\n"),
        ],
    )
    def test_frames_that_have_not(self, data):
        """Frames without the secret are refused, even if they are valid otherwise."""
        with pytest.raises(ProtocolError):
            feed(FrameReader(LIMIT, SECRET), data)

    @given(st.binary(min_size=1, max_size=80), st.data())
    def test_bytes_put_into_a_frame(self, noise, data):
        """Bytes inserted anywhere invalidate the frame and everything after it."""
        frame = signed({"text": "x" * 50}, [b"y" * 50])
        place = data.draw(st.integers(0, len(frame) - 1))
        reader = FrameReader(LIMIT, SECRET)
        with contextlib.suppress(ProtocolError):
            assert feed(reader, frame[:place] + noise + frame[place:] + frame * 3) == []

    def test_a_frame_that_swallows_the_next_one(self):
        """A forged header may include a real frame's end; it is refused, because it has no secret itself."""
        true = signed({"n": 1})
        body = b'{"n":2}'
        forged = f"Content-Length: {len(body)}\r\nAttachments: {len(true) - 33}\r\n\r\n".encode()

        with pytest.raises(ProtocolError, match="without the secret"):
            feed(FrameReader(LIMIT, SECRET), forged + body + true)

    def test_it_is_not_told(self):
        """The secret is not in errors about headers, nor in the text of the request that carries it."""
        with pytest.raises(ProtocolError) as caught:
            feed(FrameReader(LIMIT, SECRET), b"x" + signed({}))

        assert SECRET not in str(caught.value)
        assert SECRET not in repr(golden.FROM_HOST["initialize"])


def received(data):
    """Returns the messages in a stream of the sandbox, parsed as by the host."""
    connection = Connection(LIMIT, secret=golden.SECRET)
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

    def test_every_request_has_an_id_of_its_own(self):
        """Request ids are unique, so that an answer can be matched."""
        connection = Connection(LIMIT)

        ids = [connection.request(golden.FROM_HOST["checkpoint"])[0] for _ in range(3)]

        assert ids == [1, 2, 3]

    def test_a_notification_has_none(self):
        """A notification has no id, since it has no answer."""
        [(body, _)] = read(b"".join(Connection(LIMIT).notification(Interrupt())))

        assert body == {"jsonrpc": "2.0", "method": "interrupt", "params": {}}

    def test_messages_come_out_checked(self):
        """A frame that is not a message of the sandbox violates the protocol."""
        with pytest.raises(ProtocolError, match="JSON-RPC"):
            received(signed({"id": 1, "result": {}}))

    def test_two_ends_back_to_back(self):
        """Messages encoded by one end are parsed by the other, in any chunks."""
        connection = Connection(LIMIT)
        sent, data = [], b""
        for message in golden.FROM_HOST.values():
            pieces = encode(connection, message)
            sent.append(json.loads(bytes(pieces[0]).partition(b"\r\n\r\n")[2]))
            data += b"".join(map(bytes, pieces))
        cuts = random.Random(1)

        arrived = read(data, (cuts.randint(1, 50) for _ in range(len(data))))

        assert [body for body, _ in arrived] == sent


def encode(connection, message):
    """Returns the pieces of any message of the host."""
    if isinstance(message, (Asset, Interrupt)):
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
        frame = b"".join(map(bytes, encode(Connection(LIMIT), golden.FROM_HOST[name])))
        if os.environ.get("WRITE_GOLDEN"):
            golden.path(name).write_bytes(frame)

        assert frame == golden.path(name).read_bytes()

    @pytest.mark.parametrize("name", golden.FROM_SANDBOX)
    def test_what_the_host_understands(self, name):
        """Each message of the sandbox is parsed from the bytes that TypeScript writes."""
        data = golden.path(name).read_bytes()

        assert received(data) == [golden.FROM_SANDBOX[name]]
