"""Messages: their exact wire format, and the refusal of everything else."""

from __future__ import annotations

import contextlib

import golden_messages as golden
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.messages import (
    PROTOCOL_VERSION,
    CellEnd,
    Output,
    Register,
    Reply,
    ToolCall,
    ToolDeclaration,
    parse_cell_end,
    parse_from_sandbox,
)


def rpc(**fields):
    return {"jsonrpc": "2.0", **fields}


CALL = {"cell": 1, "tool": "f", "mode": "wait", "inline": ""}


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
            "secret": "0123456789abcdef0123456789abcdef",
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


class TestFromSandbox:
    """Every field of the sandbox's messages is hostile until it is validated."""

    def test_arguments_come_inline_or_attached(self):
        """Small arguments are text in the message, large ones are raw attachments."""
        assert ToolCall(1, 1, "f", "wait", '["é"]', []).arguments == ['["é"]'.encode()]
        assert ToolCall(1, 1, "f", "wait", "", [bytearray(b"[]")]).arguments == [b"[]"]

    def test_unknown_fields_mean_nothing(self):
        """Unknown fields are ignored."""
        body = rpc(method="output", params={"cell": 1, "text": "a", "more": 1}, id=9)

        assert parse_from_sandbox(body, []) == Output(1, "a")

    @pytest.mark.parametrize(
        "body",
        [
            None,
            [],
            "text",
            3,
            {},
            {"jsonrpc": "1.0", "id": 1, "result": {}},
            rpc(),
            rpc(id=1),
            rpc(id=1, result=[]),
            rpc(id="1", result={}),
            rpc(id=True, result={}),
            rpc(id=1.0, result={}),
            rpc(id=None, result={}),
            rpc(result={}),
            rpc(id=1, error="no"),
            rpc(id=1, error={"message": "no"}),
            rpc(id=1, error={"message": 3, "data": {"type": "E"}}),
            rpc(id=1, error={"message": "no", "data": {"type": None}}),
            rpc(method="call"),
            rpc(method="call", params=[]),
            rpc(method="call", params=CALL),
            rpc(method="call", id=1, params={**CALL, "cell": "1"}),
            rpc(method="call", id=1, params={**CALL, "tool": ["f"]}),
            rpc(method="call", id=1, params={**CALL, "mode": "soon"}),
            rpc(method="call", id=1, params={**CALL, "mode": None}),
            rpc(method="call", id=1, params={"cell": 1, "tool": "f", "mode": "wait"}),
            rpc(method="output", params={"cell": 1}),
            rpc(method="output", params={"cell": None, "text": ""}),
            rpc(method="fatal", params={"reason": "x"}),
            rpc(method="run", id=1, params={"cell": 1, "code": "1"}),
            rpc(method="assign", id=1, params={}),
            rpc(method=["call"], id=1, params={}),
            rpc(method=None, params={}),
            rpc(method={}, params={}),
        ],
        ids=str,
    )
    def test_other_shapes_are_refused(self, body):
        """Wrong types, missing fields and unknown methods violate the protocol."""
        with pytest.raises(ProtocolError):
            parse_from_sandbox(body, [])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["jsonrpc", "id", "method", "params", "result", "error", "message", "data"]
                    ),
                    inner,
                )
            ),
        )
    )
    def test_any_json_is_a_message_or_refused(self, body):
        """For any JSON value the parser returns a message or raises ProtocolError."""
        if isinstance(body, dict):
            body["jsonrpc"] = "2.0"
        with contextlib.suppress(ProtocolError):
            parse_from_sandbox(body, [])

    def test_a_refused_field_is_named_and_its_value_is_not_repeated(self):
        """The error names the field; the untrusted value is not shown."""
        with pytest.raises(ProtocolError, match="whose field 'text' is wrong") as caught:
            parse_from_sandbox(rpc(method="output", params={"cell": 1, "text": ["x" * 10]}), [])

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
        assert parse_from_sandbox(rpc(id=1, result={}), [bytearray(b"x")]) == Reply(
            1, {}, [bytearray(b"x")]
        )
