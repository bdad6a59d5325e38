"""What a session says to one sandbox process: declare, assign, run, save. Knows one `Channel`.

Turns values into messages and refusals into errors. When the process dies, so does this; `supervisor.py`
begins another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sandbox_runtime.buffers import Part
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.errors import CheckpointError, SandboxDiedError, ValueCrossingError
from sandbox_runtime.limits import Limits
from sandbox_runtime.rpc.channel import BACKSTOP_SECONDS, Channel, ServeCall
from sandbox_runtime.rpc.messages import (
    Assign,
    CellEnd,
    Discard,
    Refusal,
    Register,
    Reply,
    Request,
    Reserve,
    Room,
    Run,
    TakeCompiled,
    TakeImage,
    ToolDeclaration,
    ToolRaised,
    ToolReturned,
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


class Client:
    """A started sandbox. One request at a time; `interrupt`, `answer` and `close` from any thread."""

    def __init__(self, engine: Engine, limits: Limits, seed: str) -> None:
        """Starts the process. Raises `SandboxStartError` if it does not come up."""
        self._limits = limits
        self._exchange = Channel(engine, limits, seed)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._exchange.pid

    @property
    def alive(self) -> bool:
        """False once the process has ended."""
        return self._exchange.alive

    def check_alive(self) -> bool:
        """Looks whether the process still runs."""
        return self._exchange.check_alive()

    def declare(
        self,
        tools: Sequence[ToolDeclaration],
        outputs: Mapping[str, str] | None,
        border: values.ValueCodec,
    ) -> None:
        """Declares the host tools, the fields of SUBMIT, and the classes that cells know by name."""
        self._ask(Register(tools, outputs), parse_done)
        if border.declared:
            self._ask(Assign("", "types", border.encode_declared()), parse_done)

    def assign(self, name: str, value: object, border: values.ValueCodec) -> None:
        """Binds a variable. Large parts go ahead in pieces; none of them is copied as a whole.

        Raises:
            ValueCrossingError: The value cannot enter the sandbox, or there is no room for it.
        """
        send_chunk = Stream(lambda: self._reserve([Room("stream")]), self._exchange.tell)
        try:
            kind, parts = border.encode_variable(value, name, send_chunk)
            riding, ahead = split(parts)
            self._check_size(name, parts)
            try:
                if ahead:
                    self._reserve([allocation_for(part) for part in ahead])
                    for piece in itertools.chain.from_iterable(map(cut, ahead)):
                        self._exchange.tell(piece)
                self._ask(Assign(name, kind, riding), parse_done)
            except ValueCrossingError as error:
                raise ValueCrossingError(f"The sandbox could not take {name}: {error}") from error
        except BaseException:
            self._exchange.tell(Discard())
            raise

    def _reserve(self, rooms: Sequence[Room]) -> None:
        self._ask(Reserve(rooms), parse_done)

    def _check_size(self, name: str, parts: Sequence[AnyPart]) -> None:
        size = sum(map(size_of, parts))
        if size > self._limits.memory_bytes:
            raise ValueCrossingError(
                f"{name} takes {size:,} bytes, more than the sandbox's memory of "
                f"{self._limits.memory_bytes:,} (Limits.memory_bytes, at most 4 GiB)."
            )
        if any(size_of(part) > LARGEST_BYTES for part in parts if not isinstance(part, Streamed)):
            raise ValueCrossingError(
                f"{name} takes {size:,} bytes, more than one text or bytes can have in a 32-bit "
                f"interpreter ({LARGEST_BYTES:,}). Pass it as a list of smaller ones."
            )

    def run(
        self,
        cell: int,
        code: str,
        serve: ServeCall,
        busy: Callable[[], bool],
        room: Callable[[float], bool] = lambda _: True,
    ) -> tuple[CellEnd, Reply]:
        """Runs a cell; how it ended, and the reply with the submitted values.

        Args:
            cell: Its number.
            code: Its text.
            serve: Runs a tool call.
            busy: Tells that calls of the cell are still worked on, so that its silence is right.
            room: Waits so many seconds until another call can be taken.
        """
        limits = self._limits
        most = limits.cell_seconds + limits.grace_seconds
        answer = self._exchange.ask(
            Run(cell, code),
            parse=_cell_end,
            patience=most + BACKSTOP_SECONDS,
            serve=serve,
            busy=busy,
            room=room,
            most_seconds=most,
        )
        if isinstance(answer, Refusal):
            raise SandboxDiedError(f"The sandbox refused a cell: {plain(answer.message, 1000)}")
        return answer

    def take_image(self) -> Mapping[str, Part]:
        """The interpreter's state by part.

        Raises:
            CheckpointError: It holds something that cannot be saved.
        """
        patience = self._limits.start_seconds
        answer = self._exchange.ask(TakeImage(), parse=parse_image, patience=patience)
        if isinstance(answer, Refusal):
            raise CheckpointError(f"The session cannot be saved: {plain(answer.message, 1000)}")
        return answer

    def compiled_runtime(self) -> bytes:
        """V8's compiled form of what the sandbox runs on."""
        return self._ask(TakeCompiled(), parse_compiled)

    def answer(self, message: ToolReturned | ToolRaised) -> None:
        """Sends the answer to a call that the cell did not block for."""
        self._exchange.answer(message)

    def interrupt(self) -> None:
        """Asks the running cell to stop."""
        self._exchange.interrupt()

    def close(self) -> None:
        """Ends the process. Never hangs."""
        self._exchange.close()

    def _ask(self, request: Request, parse: Callable[[Reply], T]) -> T:
        answer = self._exchange.ask(request, parse=parse, patience=self._limits.start_seconds)
        if isinstance(answer, Refusal):
            raise ValueCrossingError(
                f"{in_one_line(answer.error_type, 200)}: {plain(answer.message, 2000)}"
            )
        return answer


def _cell_end(reply: Reply) -> tuple[CellEnd, Reply]:
    return parse_cell_end(reply.result), reply
