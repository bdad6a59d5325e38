"""The requests of a session to one sandbox process: declare, assign, run, save.

Turns values into messages, and refusals into errors. Each function sends requests over a `Channel`, one
at a time, for which it raises `SandboxDiedError` if the process has ended; `recovery.py` starts another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from sandbox_runtime.buffers import Part
from sandbox_runtime.errors import CheckpointError, SandboxDiedError, ValueCrossingError
from sandbox_runtime.rpc.cell_watch import BACKSTOP_SECONDS, WALL_FACTOR
from sandbox_runtime.rpc.channel import Channel, RoundTrip, ServeCall
from sandbox_runtime.rpc.messages import (
    Assign,
    Discard,
    Register,
    Request,
    Reserve,
    Room,
    Run,
    TakeCompiled,
    TakeImage,
    ToolDeclaration,
)
from sandbox_runtime.rpc.sandbox_messages import (
    CellEnd,
    Refusal,
    Reply,
    parse_cell_end,
    parse_compiled,
    parse_done,
)
from sandbox_runtime.sessions.checkpoint import parse_image
from sandbox_runtime.truncation import in_one_line, plain
from sandbox_runtime.values import encoder as values
from sandbox_runtime.values.chunks import (
    LARGEST_BYTES,
    AnyPart,
    Stream,
    Streamed,
    allocation_for,
    cut,
    size_of,
    split,
)

T = TypeVar("T")

Ended: TypeAlias = tuple[CellEnd, Reply]
"""The end of a cell, and the reply with the submitted values."""


def declare(
    channel: Channel,
    tools: Sequence[ToolDeclaration],
    outputs: Mapping[str, str] | None,
    border: values.ValueCodec,
) -> None:
    """Declares the host tools, the fields of SUBMIT, and the classes that cells know by name."""
    _ask(channel, Register(tools, outputs), parse_done)
    if border.declared:
        _ask(channel, Assign("", "types", border.encode_declared()), parse_done)


def assign(channel: Channel, name: str, value: object, border: values.ValueCodec) -> None:
    """Binds a variable. Large parts are sent ahead in chunks, so that none is copied as a whole.

    Raises:
        ValueCrossingError: The value cannot enter the sandbox, or there is no room for it.
    """

    def reserve(rooms: Sequence[Room]) -> None:
        _ask(channel, Reserve(rooms), parse_done)

    stream = Stream(lambda: reserve([Room("stream")]), channel.tell)
    try:
        kind, parts = border.encode_variable(value, name, stream)
        inline, ahead = split(parts)
        _check_size(name, parts, channel.limits.memory_bytes)
        try:
            if ahead:
                reserve([allocation_for(part) for part in ahead])
                for piece in itertools.chain.from_iterable(map(cut, ahead)):
                    channel.tell(piece)
            _ask(channel, Assign(name, kind, inline), parse_done)
        except ValueCrossingError as error:
            raise ValueCrossingError(f"The sandbox could not take {name}: {error}") from error
    except BaseException:
        channel.tell(Discard())
        raise


def _check_size(name: str, parts: Sequence[AnyPart], memory_bytes: int) -> None:
    size = sum(map(size_of, parts))
    if size > memory_bytes:
        raise ValueCrossingError(
            f"{name} takes {size:,} bytes, more than the sandbox's memory of "
            f"{memory_bytes:,} (Limits.memory_bytes, at most 4 GiB)."
        )
    if any(size_of(part) > LARGEST_BYTES for part in parts if not isinstance(part, Streamed)):
        raise ValueCrossingError(
            f"{name} takes {size:,} bytes, more than one text or bytes can have in a 32-bit "
            f"interpreter ({LARGEST_BYTES:,}). Pass it as a list of smaller ones."
        )


def run(
    channel: Channel,
    cell: int,
    code: str,
    serve: ServeCall,
    busy: Callable[[], bool],
    room: Callable[[float], bool] = lambda _: True,
    accept: Callable[[], object] = lambda: None,
) -> Ended:
    """Runs a cell; returns its end, and the reply with the submitted values.

    Args:
        channel: The process.
        cell: The number of the cell.
        code: Its code.
        serve: Runs a tool call.
        busy: Returns whether calls of the cell are in progress, so that its silence is legitimate.
        room: Waits up to that many seconds until another call can be taken.
        accept: Called for each tool call before an interrupt can follow it.
    """
    most = channel.limits.cell_seconds + channel.limits.grace_seconds
    answer = channel.ask(
        RoundTrip(
            Run(cell, code),
            _cell_end,
            patience=WALL_FACTOR * most + BACKSTOP_SECONDS,
            serve=serve,
            busy=busy,
            room=room,
            accept=accept,
            most_seconds=most,
        )
    )
    if isinstance(answer, Refusal):
        raise SandboxDiedError(f"The sandbox refused a cell: {plain(answer.message, 1000)}")
    return answer


def take_image(channel: Channel) -> Mapping[str, Part]:
    """Returns the interpreter's state by part.

    Raises:
        CheckpointError: It holds something that cannot be saved.
    """
    answer = channel.ask(RoundTrip(TakeImage(), parse_image, channel.limits.start_seconds))
    if isinstance(answer, Refusal):
        raise CheckpointError(f"The session cannot be saved: {plain(answer.message, 1000)}")
    return answer


def compiled_runtime(channel: Channel) -> bytes:
    """Returns V8's compiled form of Pyodide's code."""
    return _ask(channel, TakeCompiled(), parse_compiled)


def _ask(channel: Channel, request: Request, parse: Callable[[Reply], T]) -> T:
    answer = channel.ask(RoundTrip(request, parse, channel.limits.start_seconds))
    if isinstance(answer, Refusal):
        raise ValueCrossingError(
            f"{in_one_line(answer.error_type, 200)}: {plain(answer.message, 2000)}"
        )
    return answer


def _cell_end(reply: Reply) -> tuple[CellEnd, Reply]:
    return parse_cell_end(reply.result), reply
