"""Messages: their exact wire format, and the refusal of everything else."""

from __future__ import annotations

import contextlib
import json

import golden_messages as golden
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.frames import Frame
from sandbox_runtime.rpc.messages import PROTOCOL_VERSION, Register, ToolDeclaration
from sandbox_runtime.rpc.sandbox_messages import (
    CALL,
    END,
    OUTPUT,
    REFUSED,
    CellEnd,
    Output,
    Refusal,
    Reply,
    ToolCall,
    parse_cell_end,
    parse_frame,
)


def parse(kind, body, request=7, attachments=()):
    """Parses a frame of the sandbox; `body` is JSON data, or the bytes of the body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"
    return parse_frame(Frame(kind, 1, request, data, list(attachments)))


class TestRequests:
    """The host's requests on the wire. Complete frames are in `tests/golden`."""

    def test_initialize(self):
        """The first message has the version, the limits, and the names of the files that follow."""
        message = golden.FROM_HOST["initialize"]

        assert message.params() == {
            "version": PROTOCOL_VERSION,
            "cellSeconds": 60.0,
            "graceSeconds": 2.5,
            "memoryBytes": 268435456,
            "outputChars": 10000,
            "valueBytes": 1000000,
            "seed": "00ff",
            "relayed": False,
            "assets": ["pyodide.js", "boot.pages"],
        }

    def test_asset(self):
        """An asset has a name; the file is the attachment."""
        message = golden.FROM_HOST["asset"]

        assert message.params() == {"name": "boot.pages"}
        assert message.attachments == [b"\x00\x01\x02"]

    def test_assign(self):
        """An assignment has a name, and the encoding of its bytes."""
        assert golden.FROM_HOST["assign-text"].params() == {"name": "logs", "kind": "text"}

    def test_a_front_travels_with_its_tool(self):
        """The wrapper's modules are sent by name; a source only if it was not sent before."""
        tools = [
            ToolDeclaration("f", "", ["m"], modules={"m": "x = 1"}),
            ToolDeclaration("g", "", ["m"], kind="module"),
        ]

        assert Register(tools, None).params()["tools"] == [
            {
                "name": "f",
                "doc": "",
                "front": ["m"],
                "kind": "function",
                "modules": {"m": "x = 1"},
            },
            {"name": "g", "doc": "", "front": ["m"], "kind": "module", "modules": {}},
        ]

    def test_register(self):
        """A registration has the tools with the text for `help`, and the fields of SUBMIT in their order."""
        assert golden.FROM_HOST["register"].params() == {
            "tools": [{"name": "search", "doc": "search(query: str)\n\nFinds “things”."}],
            "outputs": [{"name": "answer", "type": "str"}, {"name": "score", "type": "float"}],
        }

    def test_no_fields_are_not_any_fields(self):
        """SUBMIT without fields is an empty list; SUBMIT of any value is null."""
        assert golden.FROM_HOST["register-no-outputs"].params()["outputs"] == []
        assert golden.FROM_HOST["register-nothing"].params()["outputs"] is None

    def test_run(self):
        """A run has the cell's number and its code."""
        assert golden.FROM_HOST["run"].params() == {
            "cell": 7,
            "code": 'print("naïve")\n1 + 1\n',
        }

    def test_checkpoint(self):
        """A checkpoint request has no parameters."""
        assert golden.FROM_HOST["checkpoint"].params() == {}
        assert golden.FROM_HOST["compiled"].params() == {}
        assert golden.FROM_HOST["settle"].params() == {"interrupts": 2}


class TestFromSandbox:
    """Every field of the sandbox's messages is hostile until it is validated."""

    def test_arguments_come_inline_or_attached(self):
        """Small arguments are text in the message, large ones are raw attachments."""
        assert ToolCall(1, 1, "f", "wait", '["é"]', []).arguments == ['["é"]'.encode()]
        assert ToolCall(1, 1, "f", "wait", "", [bytearray(b"[]")]).arguments == [b"[]"]

    def test_unknown_fields_mean_nothing(self):
        """Unknown fields are ignored."""
        assert parse(REFUSED, {"type": "E", "message": "m", "more": 1}) == Refusal(1, "E", "m")

    def test_a_call(self):
        """A call is a digit for its mode, the name of the tool, the line and the arguments, with zero bytes between."""
        call = ToolCall(1, 7, "f", "aio", "[[],{}]", [], 12)

        assert parse(CALL, b"1f\x0012\0[[],{}]\n") == call

    @pytest.mark.parametrize(("said", "line"), [("0", 0), ("10000000", 10**7), ("99999999", 10**7)])
    def test_a_line(self, said, line):
        """A line beyond any cell's is that of the longest one."""
        assert parse(CALL, f"0f\0{said}\0[]\n".encode()).line == line

    def test_a_zero_byte_in_the_arguments(self):
        """The first two zero bytes divide the call: a name with one cannot be called."""
        assert parse(CALL, b"0f\x001\0g\0[]\n") == ToolCall(1, 7, "f", "wait", "g\0[]", [], 1)

    def test_the_line_feed_is_not_part_of_the_message(self):
        """One line feed ends each body; others belong to it."""
        assert parse(OUTPUT, b"a\n\n") == Output(7, "a\n")

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            (END, b""),
            (END, b"{}"),
            (END, b"\n"),
            (END, b"{\n"),
            (END, b"nothing\n"),
            (END, b"\xff\xfe{}\n"),
            (END, b'{"a":1}{"a":2}\n'),
            (END, b'{"a":"\xff"}\n'),
            (END, b"[" * 100_000 + b"\n"),
            (END, b"[" + b"9" * 100_000 + b"]\n"),
            (END, None),
            (END, []),
            (END, "text"),
            (END, 3),
            (REFUSED, {}),
            (REFUSED, {"type": "E"}),
            (REFUSED, {"type": None, "message": "m"}),
            (REFUSED, {"type": "E", "message": 3}),
            (REFUSED, []),
            (CALL, b"\n"),
            (CALL, b"0f\n"),
            (CALL, b"0f[]\n"),
            (CALL, b"0f\0[]\n"),
            (CALL, b"3f\x001\0[]\n"),
            (CALL, b"f\x001\0[]\n"),
            (CALL, b"-1f\x001\0[]\n"),
            (CALL, b"\0\0\n"),
            (CALL, b"0\xff\x001\0[]\n"),
            (CALL, b"0f\x001\0\xff\n"),
            (CALL, b"0f\0\0[]\n"),
            (CALL, b"0f\0-1\0[]\n"),
            (CALL, b"0f\0\xb2\0[]\n"),
            (CALL, b"0f\x00123456789\0[]\n"),
            (CALL, b"0f\x001\0[]"),
            (OUTPUT, b"\xff\n"),
            (OUTPUT, b"\xed\xa0\xbd\n"),
            (OUTPUT, b"text"),
            (0, {}),
            (5, {}),
            (255, {}),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_other_shapes_are_refused(self, kind, body):
        """Wrong types, missing fields, unknown kinds and bodies without an end violate the protocol."""
        with pytest.raises(ProtocolError):
            parse(kind, body)

    @given(
        st.integers(0, 6),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["type", "message", "outcome", "output"]), inner)
            ),
        ),
    )
    def test_any_json_is_a_message_or_refused(self, kind, body):
        """For any JSON value the parser returns a message or raises ProtocolError."""
        with contextlib.suppress(ProtocolError):
            parse(kind, body)

    @given(st.integers(0, 6), st.binary(max_size=80))
    def test_any_bytes_are_a_message_or_refused(self, kind, body):
        """For any bytes the parser returns a message or raises ProtocolError."""
        with contextlib.suppress(ProtocolError):
            parse(kind, body + b"\n")

    def test_a_refused_field_is_named_and_its_value_is_not_repeated(self):
        """The error names the field; the untrusted value is not shown."""
        with pytest.raises(ProtocolError, match="whose field 'message' is wrong") as caught:
            parse(REFUSED, {"type": "E", "message": ["x" * 10]})

        assert "xxx" not in str(caught.value)


class TestCellEnd:
    """The result of a run is validated like any other message."""

    def test_a_cell_end(self):
        """All six fields are present, whatever the outcome."""
        assert parse_cell_end(golden.CELL_END) == CellEnd(
            outcome="failed",
            output="naïve 🙂\n",
            error_type="ValueError",
            message="no",
            traceback="ValueError: no\n",
        )

    @pytest.mark.parametrize("field", golden.CELL_END)
    def test_a_missing_field(self, field):
        """A missing field has no default."""
        with pytest.raises(ProtocolError, match=field):
            parse_cell_end({name: v for name, v in golden.CELL_END.items() if name != field})

    def test_an_unknown_outcome(self):
        """There are three outcomes; an unknown one is truncated in the error."""
        with pytest.raises(ProtocolError) as caught:
            parse_cell_end({**golden.CELL_END, "outcome": "won" * 1000})

        assert len(str(caught.value)) < 200

    def test_a_reply_carries_its_attachments(self):
        """The submitted value is an attachment of the result."""
        assert parse(END, {}, attachments=[bytearray(b"x")]) == Reply(1, {}, [bytearray(b"x")])
