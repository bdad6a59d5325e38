"""One frozen dataclass for each message; the only place that spells wire names.

`deno/protocol.ts` mirrors it, and golden frames ensure that both produce the same bytes. Messages of the sandbox are
validated here field by field: everything from the sandbox is hostile until then, whichever code in it has written it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from sandbox_runtime.buffers import Part
from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.rpc.frames import Frame
from sandbox_runtime.sandbox import FrontKind

# Increased with every change of a message, so that ends of different versions refuse each other.
PROTOCOL_VERSION = 8

# The highest line of a cell that a call is said to come from.
MAX_LINE = 10_000_000
MAX_LINE_DIGITS = 8

# The kinds of the host's frames. A request with the id 0 is a notification, which has no answer.
RUN, ANSWER, INTERRUPTED, REQUEST = 1, 2, 3, 4

# The kinds of the sandbox's frames.
CALL, END, REFUSED, OUTPUT = 1, 2, 3, 4

# Why the process ended itself, by its exit code. Only its main thread, which runs no code of cells, can set it.
EXIT_REASONS = {70: "protocol", 71: "crash", 72: "cellSeconds", 73: "rest", 74: "version"}

# The byte of a call's body that says how the cell waits for it; see `ToolCall`.
_MODES = {ord("0"): "wait", ord("1"): "aio", ord("2"): "batch"}

# The end of each body of the sandbox.
_LINE_FEED = b"\n"

Json = Mapping[str, Any]


# ---- Base classes of the host's messages -----------------------------------------------------------


class Record:
    """A dataclass that is sent as a JSON object: its fields, with names in camelCase."""

    def params(self: Any) -> Json:
        """Returns the fields as sent, without the attachments, which follow the body as bytes."""
        return {
            _camel_case(field.name): _as_json(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "attachments"
        }


def _as_json(value: object) -> object:
    if isinstance(value, Record):
        return value.params()
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return value


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


class Message(Record):
    """A request or a notification: a method, parameters, and attachments after them."""

    method: ClassVar[str]

    attachments: Sequence[Part] = ()
    """The attachments, which follow the body."""


# ---- Requests of the host; each is answered by a `Reply` or a `Refusal` ----------------------------


@dataclasses.dataclass(frozen=True)
class Initialize(Message):
    """Starts the interpreter: its limits, and the names of the files that follow as `Asset`s."""

    method: ClassVar[str] = "initialize"
    version: int = dataclasses.field(default=PROTOCOL_VERSION, kw_only=True)
    cell_seconds: float
    grace_seconds: float
    memory_bytes: int
    output_chars: int
    value_bytes: int
    seed: str
    relayed: bool
    """True if the main thread reads all frames and passes them on: interrupts are frames, not signals."""
    assets: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Assign(Message):
    """Binds a variable to the value in the attachments.

    `kind` is `text`, `bytes` or `pickle`. With the prefix `code:` the value is the data of statements
    that bind the variable. `types` binds only classes, each by its own name. Parts that were sent ahead
    into reserved buffers (`Reserve`) come after the attachments.
    """

    method: ClassVar[str] = "assign"
    name: str
    kind: str
    attachments: Sequence[Part]


@dataclasses.dataclass(frozen=True)
class Room(Record):
    """The buffer for one large part.

    `kind` is `ascii`, `text` or `bytes` of a known `length`, in items of `width` bytes; or `stream`,
    whose length is not known yet.
    """

    kind: str
    length: int = 0
    width: int = 1


@dataclasses.dataclass(frozen=True)
class Reserve(Message):
    """Allocates buffers for large parts of the next `Assign`'s value; `Piece`s fill them in order."""

    method: ClassVar[str] = "reserve"
    rooms: Sequence[Room]


@dataclasses.dataclass(frozen=True)
class ToolDeclaration(Record):
    """A host tool as cells see it."""

    name: str
    doc: str
    front: Sequence[str] = ()
    """The guest modules that wrap the tool; empty for the plain function."""
    kind: FrontKind = "function"
    """See `WrappedTool`."""
    modules: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The sources of those modules that no earlier tool has sent."""
    rows: Json = dataclasses.field(default_factory=dict)
    """The parameters that an item of a batch can hold as a dict or a tuple; see `tools/batch_rows.py`."""

    def params(self) -> Json:
        """Returns the fields as sent; those of the wrapper only if there is one."""
        fields = super().params()
        left_out = [] if self.front else ["front", "kind", "modules"]
        left_out += [] if self.rows else ["rows"]
        return {name: field for name, field in fields.items() if name not in left_out}


@dataclasses.dataclass(frozen=True)
class Register(Message):
    """Declares the host tools, and the fields of SUBMIT with their types as text."""

    method: ClassVar[str] = "register"
    tools: Sequence[ToolDeclaration]
    outputs: Mapping[str, str] | None

    def params(self) -> Json:
        """Returns the fields as sent; outputs as a list, which keeps their order."""
        fields = [{"name": name, "type": text} for name, text in (self.outputs or {}).items()]
        return {**super().params(), "outputs": None if self.outputs is None else fields}


@dataclasses.dataclass(frozen=True)
class Run(Message):
    """Runs a cell; answered by a `CellEnd`."""

    method: ClassVar[str] = "run"
    cell: int
    code: str


@dataclasses.dataclass(frozen=True)
class Settle(Message):
    """Waits until the sandbox has handled the interrupts that were sent to cells that have ended."""

    method: ClassVar[str] = "settle"
    interrupts: int
    """How many were sent since the last `Settle`."""


@dataclasses.dataclass(frozen=True)
class TakeImage(Message):
    """Requests the interpreter's state: head, pages and disk come as the reply's attachments."""

    method: ClassVar[str] = "checkpoint"


@dataclasses.dataclass(frozen=True)
class TakeCompiled(Message):
    """Requests V8's code cache of Pyodide, which comes as the reply's attachment."""

    method: ClassVar[str] = "compiled"


Request = Initialize | Reserve | Assign | Register | Run | Settle | TakeImage | TakeCompiled


# ---- Notifications of the host, which have no answer -----------------------------------------------


@dataclasses.dataclass(frozen=True)
class Asset(Message):
    """One of the interpreter's files, as the attachment."""

    method: ClassVar[str] = "asset"
    name: str
    attachments: Sequence[Part]


@dataclasses.dataclass(frozen=True)
class Piece(Message):
    """The next bytes of the reserved buffers: whole items of `width` bytes, the width of the buffer."""

    method: ClassVar[str] = "piece"
    width: int
    attachments: Sequence[Part]


@dataclasses.dataclass(frozen=True)
class Discard(Message):
    """Frees the reserved buffers: the rest of their value will not follow."""

    method: ClassVar[str] = "discard"


@dataclasses.dataclass(frozen=True)
class Interrupt(Message):
    """Interrupts the running cell, where the main thread relays; elsewhere a signal does."""

    method: ClassVar[str] = "interrupt"


Notification = Asset | Piece | Discard | Interrupt


# ---- Answers of the host to tool calls -------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ToolReturned:
    """The value of a tool call, encoded as in `Assign`; a small JSON value or text is `inline`."""

    call: int
    kind: str
    inline: str = ""
    attachments: Sequence[Part] = ()


@dataclasses.dataclass(frozen=True)
class ToolRaised:
    """A tool call failed: the exception's name, its nearest builtin base, and its text."""

    call: int
    error_type: str
    base: str
    message: str


@dataclasses.dataclass(frozen=True)
class ToolInterrupted:
    """A tool call has no answer: the host interrupts the cell that waits for it."""

    call: int


Answer = ToolReturned | ToolRaised


# ---- Messages of the sandbox -----------------------------------------------------------------------


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


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A cell calls a host tool with `[args, kwargs]`, as JSON text `inline` or in the attachments.

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
        return _parse_call(frame_id, arg, bytes(body), attachments)
    if kind == END:
        return Reply(frame_id, _parse_record(body), attachments)
    if kind == REFUSED:
        error = _parse_record(body)
        return Refusal(frame_id, _field(error, "type", str), _field(error, "message", str))
    if kind == OUTPUT:
        return Output(arg, _decode(body[:-1]))
    raise ProtocolError("The sandbox sent a message of an unknown kind.")


def _parse_call(call: int, request: int, body: bytes, attachments: Sequence[bytearray]) -> ToolCall:
    """Parses the mode as one digit, the tool's name, the line and the arguments, with a zero byte between each."""
    mode = _MODES.get(body[0])
    tool, _, rest = body[1:-1].partition(b"\0")
    line, end, inline = rest.partition(b"\0")
    if mode is None or not end or not (line.isdigit() and len(line) <= MAX_LINE_DIGITS):
        raise ProtocolError(f"The sandbox calls a tool in an unknown way: {body[:40]!r}.")
    said = min(int(line), MAX_LINE)
    return ToolCall(call, request, _decode(tool), mode, _decode(inline), attachments, said)


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
