"""One immutable class for each message of the sandbox, validated field by field.

Everything from the sandbox is hostile until then, whichever code in it has written it. `messages.py` holds the host's
messages, and `deno/protocol.ts` mirrors both.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.frames import Frame
from sandbox_runtime.rpc.messages import Json

# The highest line of a cell that a call is said to come from.
MAX_LINE = 10_000_000
MAX_LINE_DIGITS = 8

# The number of a call: below these bits it counts the calls, above them the interrupts that the cell has seen.
COUNTING_BITS = 24
MAX_SEEN = 127

# The kinds of the sandbox's frames.
CALL, END, REFUSED, OUTPUT = 1, 2, 3, 4

# Why the process ended itself, by its exit code. Only its main thread, which runs no code of cells, can set it.
EXIT_REASONS = {70: "protocol", 71: "crash", 72: "cellSeconds", 73: "rest", 74: "version"}

# The byte of a call's body that says how the cell waits for it; see `ToolCall`.
_MODES = {ord("0"): "wait", ord("1"): "aio", ord("2"): "batch"}

# The end of each body of the sandbox.
_LINE_FEED = b"\n"


@dataclasses.dataclass(frozen=True)
class Reply:
    """A request succeeded."""

    id: int
    result: Json
    attachments: Sequence[bytearray]


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A request failed inside the sandbox, which keeps running."""

    id: int
    error_type: str
    message: str


class ToolCall(NamedTuple):
    """A cell calls a host tool with `[args, kwargs]`, as JSON text `inline` or in the attachments.

    A tuple, because there may be thousands in a cell, and a frozen dataclass takes three times as long to create.
    `request` is the id of the cell's `Run`. `mode` is `wait`: the cell is blocked; `aio`: the cell continues; or `batch`: the cell is blocked, and the
    arguments are a list of `[args, kwargs]`.
    """

    id: int
    request: int
    tool: str
    mode: str
    inline: str
    attachments: Sequence[bytearray]
    line: int = 0
    """The line of the cell that calls, as the sandbox says; 0 if it is not known."""

    @property
    def seen(self) -> int:
        """The number of signals since the last `Settle` that the cell had seen when it called; at most `MAX_SEEN`."""
        return self.id >> COUNTING_BITS

    @property
    def arguments(self) -> Sequence[bytes | bytearray]:
        """The encoded arguments, whether inline or attached."""
        return self.attachments or [self.inline.encode("utf-8", "surrogatepass")]


@dataclasses.dataclass(frozen=True)
class Output:
    """Text that a running cell has printed. `request` is the id of its `Run`."""

    request: int
    text: str


FromSandbox = Reply | Refusal | ToolCall | Output


@dataclasses.dataclass(frozen=True)
class CellEnd:
    """The end of a cell; the result of `Run`."""

    outcome: str
    output: str
    error_type: str
    message: str
    traceback: str
    noted: int = 0
    """The characters at the end of `output` that the harness says are its own lines."""


def parse_cell_end(result: Json) -> CellEnd:
    """Validates the result of a `Run`. Raises `ProtocolError` if it is malformed."""
    outcome = _field(result, "outcome", str)
    if outcome not in ("completed", "submitted", "failed"):
        raise ProtocolError(f"The sandbox sent an unknown outcome of a cell: {outcome[:40]!r}.")
    return CellEnd(
        outcome=outcome,
        output=_field(result, "output", str),
        error_type=_field(result, "errorType", str),
        message=_field(result, "message", str),
        traceback=_field(result, "traceback", str),
        noted=_field(result, "noted", int),
    )


def parse_compiled(reply: Reply) -> bytes:
    """Returns the code cache in the answer to a `TakeCompiled`. Raises `ProtocolError` if it is malformed."""
    if len(reply.attachments) != 1:
        raise ProtocolError("The sandbox sent a code cache that is not one part.")
    return bytes(reply.attachments[0])


def parse_done(reply: Reply) -> None:
    """Accepts the answer to a request without a result: its arrival is all the information."""


def parse_frame(frame: Frame) -> FromSandbox:
    """Validates a frame of the sandbox. Raises `ProtocolError` if it is malformed."""
    kind, frame_id, arg, body, attachments = frame
    if body[-1:] != _LINE_FEED:
        raise ProtocolError("The sandbox sent a frame whose body has no end.")
    if kind == CALL:
        return _parse_call(frame_id, arg, body, attachments)
    if kind == END:
        return Reply(frame_id, _parse_record(body), attachments)
    if kind == REFUSED:
        error = _parse_record(body)
        return Refusal(frame_id, _field(error, "type", str), _field(error, "message", str))
    if kind == OUTPUT:
        return Output(arg, _decode(body[:-1]))
    raise ProtocolError("The sandbox sent a message of an unknown kind.")


def _parse_call(
    call: int, request: int, body: bytes | bytearray, attachments: Sequence[bytearray]
) -> ToolCall:
    """Parses the mode as one digit, the tool's name, the line and the arguments, with a zero byte between each."""
    mode = _MODES.get(body[0])
    tool, _, rest = _decode(body[1:-1]).partition("\0")
    line, end, inline = rest.partition("\0")
    if (
        mode is None
        or not end
        or not (line.isdecimal() and line.isascii() and len(line) <= MAX_LINE_DIGITS)
    ):
        raise ProtocolError(f"The sandbox calls a tool in an unknown way: {body[:40]!r}.")
    return ToolCall(call, request, tool, mode, inline, attachments, min(int(line), MAX_LINE))


def _decode(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError("The sandbox sent text that is not UTF-8.") from error


def _parse_record(body: bytes | bytearray) -> Json:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("A frame's body is not JSON.") from error
    if not isinstance(value, dict):
        raise ProtocolError("The sandbox sent a message that is not an object.")
    return value


T = TypeVar("T", str, int)


def _field(record: Json, name: str, kind: type[T]) -> T:
    value = record.get(name)
    if type(value) is not kind:
        raise ProtocolError(f"The sandbox sent a message whose field {name!r} is wrong.")
    return value
