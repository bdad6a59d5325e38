"""One frozen dataclass for each message of the host; with `sandbox_messages.py` the only place that spells wire names.

`deno/protocol.ts` mirrors both, and golden frames ensure that both ends produce the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from sandbox_runtime.buffers import Part
from sandbox_runtime.sandbox import FrontKind

# Increased with every change of a message, so that ends of different versions refuse each other.
PROTOCOL_VERSION = 9

# The kinds of the host's frames. A request with the id 0 is a notification, which has no answer.
RUN, ANSWER, INTERRUPTED, REQUEST = 1, 2, 3, 4

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
    """The number that was sent since the last `Settle`."""


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


class ToolReturned(NamedTuple):
    """The value of a tool call, encoded as in `Assign`; a small JSON value or text is `inline`."""

    call: int
    kind: str
    inline: str = ""
    attachments: Sequence[Part] = ()


class ToolRaised(NamedTuple):
    """A tool call failed: the exception's name, its nearest builtin base, and its text."""

    call: int
    error_type: str
    base: str
    message: str


@dataclasses.dataclass(frozen=True)
class ToolInterrupted:
    """A tool call has no answer: the host interrupts the cell that waits for it."""

    call: int

    signals: int = 0
    """The number of signals that the host has sent since the last `Settle`; the sandbox waits until the last of them has
    come. 0: there is none, and this message stands for it."""


Answer = ToolReturned | ToolRaised
