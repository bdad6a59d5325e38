"""One frozen dataclass for each message; the only place where wire names are spelled.

`deno/protocol.ts` is the mirror, and the golden frames hold both to the same bytes. Messages of the
sandbox are checked here field by field: everything that comes out is hostile until then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from sandbox_runtime.buffers import Part
from sandbox_runtime.errors import ProtocolError
from sandbox_runtime.sandbox import FrontKind

# Changes with every change of a message, so that two ends that differ refuse each other.
PROTOCOL_VERSION = 5

Json = Mapping[str, Any]


# ---- Requests of the host; each is answered by a `Reply` or a `Refusal` ----------------------------


@dataclasses.dataclass(frozen=True)
class Initialize:
    """Starts the interpreter: its limits, and the names of the files that follow as `Asset`s.

    `secret` is what every frame of the sandbox has to carry.
    """

    method: ClassVar[str] = "initialize"
    cell_seconds: float
    grace_seconds: float
    memory_bytes: int
    output_chars: int
    value_bytes: int
    seed: str
    secret: str = dataclasses.field(repr=False)
    assets: Sequence[str]
    version: int = PROTOCOL_VERSION
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """The fields as they travel."""
        return {
            "version": self.version,
            "cellSeconds": self.cell_seconds,
            "graceSeconds": self.grace_seconds,
            "memoryBytes": self.memory_bytes,
            "outputChars": self.output_chars,
            "valueBytes": self.value_bytes,
            "seed": self.seed,
            "secret": self.secret,
            "assets": list(self.assets),
        }


@dataclasses.dataclass(frozen=True)
class Assign:
    """Binds a variable. `kind` is `text`, `bytes` or `pickle`; `code:` before it makes it the data of
    statements that bind the variable; `types` binds classes only, each by its own name.

    What was sent before into rooms (`Reserve`) comes after the attachments.
    """

    method: ClassVar[str] = "assign"
    name: str
    kind: str
    attachments: Sequence[Part]

    def params(self) -> Json:
        """The fields as they travel."""
        return {"name": self.name, "kind": self.kind}


@dataclasses.dataclass(frozen=True)
class Room:
    """The place of a large part: `kind` is `ascii`, `text` or `bytes` of a known `length`, in items of
    `width` bytes; or `stream`, of which nobody knows the length yet.
    """

    kind: str
    length: int = 0
    width: int = 1


@dataclasses.dataclass(frozen=True)
class Reserve:
    """Makes room for large parts of the value of the next `Assign`; they come as `Piece`s, in order."""

    method: ClassVar[str] = "reserve"
    rooms: Sequence[Room]
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """The fields as they travel."""
        return {"rooms": [dataclasses.asdict(room) for room in self.rooms]}


@dataclasses.dataclass(frozen=True)
class ToolDeclaration:
    """A host tool as cells see it."""

    name: str
    doc: str
    front: Sequence[str] = ()
    """The modules of the sandbox that make what cells get under the name; none for the plain function."""
    kind: FrontKind = "function"
    """See `WrappedTool`."""
    modules: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The sources of these modules that no earlier tool has brought."""

    def params(self) -> Json:
        """The fields as they travel."""
        own: Json = {"name": self.name, "doc": self.doc}
        if not self.front:
            return own
        front = {"front": list(self.front), "kind": self.kind}
        return {**own, **front, "modules": dict(self.modules)}


@dataclasses.dataclass(frozen=True)
class Register:
    """Declares the host tools, and the fields of SUBMIT with their types as text."""

    method: ClassVar[str] = "register"
    tools: Sequence[ToolDeclaration]
    outputs: Mapping[str, str] | None
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """The fields as they travel."""
        fields = [{"name": name, "type": text} for name, text in (self.outputs or {}).items()]
        return {
            "tools": [tool.params() for tool in self.tools],
            "outputs": None if self.outputs is None else fields,
        }


@dataclasses.dataclass(frozen=True)
class Run:
    """Runs a cell; answered by a `CellEnd`."""

    method: ClassVar[str] = "run"
    cell: int
    code: str
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """The fields as they travel."""
        return {"cell": self.cell, "code": self.code}


@dataclasses.dataclass(frozen=True)
class TakeImage:
    """Asks for the interpreter's state: head, pages and disk come as the reply's attachments."""

    method: ClassVar[str] = "checkpoint"
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """No fields."""
        return {}


@dataclasses.dataclass(frozen=True)
class TakeCompiled:
    """Asks for V8's compiled form of Pyodide's code, which comes as the reply's attachment."""

    method: ClassVar[str] = "compiled"
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """No fields."""
        return {}


Request = Initialize | Reserve | Assign | Register | Run | TakeImage | TakeCompiled


# ---- Other messages of the host --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Asset:
    """One of the interpreter's files. A notification, as all of these: nothing answers it."""

    method: ClassVar[str] = "asset"
    name: str
    data: Part

    def params(self) -> Json:
        """The fields as they travel."""
        return {"name": self.name}

    @property
    def attachments(self) -> Sequence[Part]:
        """The file's bytes."""
        return [self.data]


@dataclasses.dataclass(frozen=True)
class Piece:
    """The next bytes for the rooms that are reserved: items of `width` bytes, which fit into theirs."""

    method: ClassVar[str] = "piece"
    width: int
    data: Part

    def params(self) -> Json:
        """The fields as they travel."""
        return {"width": self.width}

    @property
    def attachments(self) -> Sequence[Part]:
        """The bytes."""
        return [self.data]


@dataclasses.dataclass(frozen=True)
class Discard:
    """Gives up the rooms that are reserved: the rest of their value does not come."""

    method: ClassVar[str] = "discard"
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """No fields."""
        return {}


@dataclasses.dataclass(frozen=True)
class Interrupt:
    """Asks the running cell to stop, also one that waits for a host tool."""

    method: ClassVar[str] = "interrupt"
    attachments: ClassVar[Sequence[Part]] = ()

    def params(self) -> Json:
        """No fields."""
        return {}


Notification = Asset | Piece | Discard | Interrupt


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
    """A request failed inside the sandbox, which lives on."""

    id: int
    error_type: str
    message: str


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A cell calls a host tool with `[args, kwargs]`, as JSON text `inline` or in the attachments.

    `mode` says how: `wait`, the cell is blocked; `aio`, it goes on; `batch`, it is blocked, and the
    arguments are a list of `[args, kwargs]`.
    """

    id: int
    cell: int
    tool: str
    mode: str
    inline: str
    attachments: Sequence[bytearray]

    @property
    def arguments(self) -> Sequence[bytes | bytearray]:
        """The encoded value, wherever it was."""
        return self.attachments or [self.inline.encode("utf-8", "surrogatepass")]


@dataclasses.dataclass(frozen=True)
class Output:
    """Text that a running cell has printed."""

    cell: int
    text: str


@dataclasses.dataclass(frozen=True)
class Fatal:
    """The sandbox ends itself: the limit or fault that is the reason, and a sentence about it."""

    reason: str
    message: str


FromSandbox = Reply | Refusal | ToolCall | Output | Fatal


@dataclasses.dataclass(frozen=True)
class CellEnd:
    """How a cell ended; the result of `Run`."""

    outcome: str
    output: str
    error_type: str
    message: str
    traceback: str


def parse_cell_end(result: Json) -> CellEnd:
    """Checks the result of a `Run`. Raises `ProtocolError` if it is not one."""
    outcome = _field(result, "outcome", str)
    if outcome not in ("completed", "submitted", "failed"):
        raise ProtocolError(f"The sandbox says that a cell ended as {outcome[:40]!r}.")
    return CellEnd(
        outcome=outcome,
        output=_field(result, "output", str),
        error_type=_field(result, "errorType", str),
        message=_field(result, "message", str),
        traceback=_field(result, "traceback", str),
    )


def parse_compiled(reply: Reply) -> bytes:
    """The answer to a `TakeCompiled`. Raises `ProtocolError` if it is not one."""
    if len(reply.attachments) != 1:
        raise ProtocolError("The sandbox sent a compiled form that is not one part.")
    return bytes(reply.attachments[0])


def parse_done(reply: Reply) -> None:
    """The answer to a request that asks for nothing back: that it came says all."""


def parse_from_sandbox(body: object, attachments: Sequence[bytearray]) -> FromSandbox:
    """Checks a message of the sandbox. Raises `ProtocolError` for anything that is not one."""
    message = _record(body)
    if message.get("jsonrpc") != "2.0":
        raise ProtocolError("The sandbox sent a message that is not JSON-RPC 2.0.")
    if "method" in message:
        return _parse_call(message, _record(message.get("params")), attachments)
    if "error" in message:
        error = _record(message["error"])
        data = _record(error.get("data"))
        return Refusal(
            _field(message, "id", int), _field(data, "type", str), _field(error, "message", str)
        )
    return Reply(_field(message, "id", int), _record(message.get("result")), attachments)


def _parse_call(
    message: Json, params: Json, attachments: Sequence[bytearray]
) -> ToolCall | Output | Fatal:
    match message["method"]:
        case "call":
            call, cell = _field(message, "id", int), _field(params, "cell", int)
            tool, inline = _field(params, "tool", str), _field(params, "inline", str)
            mode = _field(params, "mode", str)
            if mode not in ("wait", "aio", "batch"):
                raise ProtocolError(f"The sandbox calls a tool in the mode {mode[:40]!r}.")
            return ToolCall(call, cell, tool, mode, inline, attachments)
        case "output":
            return Output(_field(params, "cell", int), _field(params, "text", str))
        case "fatal":
            return Fatal(_field(params, "reason", str), _field(params, "message", str))
    raise ProtocolError("The sandbox sent a message of an unknown kind.")


def _record(value: object) -> Json:
    if not isinstance(value, dict):
        raise ProtocolError("The sandbox sent a message that is not an object.")
    return value


T = TypeVar("T", str, int)


def _field(record: Json, name: str, kind: type[T]) -> T:
    value = record.get(name)
    if type(value) is not kind:
        raise ProtocolError(f"The sandbox sent a message whose field {name!r} is wrong.")
    return value
