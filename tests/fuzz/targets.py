"""What is fuzzed at the host's end. Each target takes bytes and returns, or raises what is a bug."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from sandbox_runtime.checkpoint import parse_image
from sandbox_runtime.errors import ProtocolError, ValueCrossingError
from sandbox_runtime.messages import (
    Reply,
    ToolCall,
    parse_cell_end,
    parse_compiled,
    parse_done,
)
from sandbox_runtime.protocol import Connection
from sandbox_runtime.values import Border

CORPUS = Path(__file__).with_name("corpus")
SECRET = "0123456789abcdef0123456789abcdef"
LIMIT = 1_000_000

# Between the parts of an input for `values`.
PART_MARK = b"\x00\xff\x00"


def frames(data: bytes) -> None:
    """A stream from the sandbox, read as the host does, in reads of a size that the data tells."""
    size = 1 + data[0] if data else 1
    connection = Connection(LIMIT, secret=SECRET)
    with contextlib.suppress(ProtocolError):
        for at in range(1, len(data), size):
            piece = data[at : at + size]
            while piece:
                space = connection.space()
                assert len(space) > 0
                taken = min(len(space), len(piece))
                space[:taken] = piece[:taken]
                piece = piece[taken:]
                for message in connection.received(taken):
                    _look_at(message)


def _look_at(message: object) -> None:
    if isinstance(message, Reply):
        for parse in (parse_cell_end, parse_image, parse_compiled, parse_done):
            with contextlib.suppress(ProtocolError):
                parse(message if parse is not parse_cell_end else message.result)
        _decode(message.attachments)
    if isinstance(message, ToolCall):
        _decode(message.arguments)


def values(data: bytes) -> None:
    """A value of the sandbox: its tree, and the raw parts behind marks."""
    _decode(data.split(PART_MARK))


def _decode(parts: object) -> None:
    border = Border()
    border.encode({"a": {1, 2}}, "known")
    with contextlib.suppress(ValueCrossingError):
        border.decode(parts)


TARGETS: Mapping[str, Callable[[bytes], None]] = {"frames": frames, "values": values}


def seeds(target: str) -> list[Path]:
    """The files that a target begins with: the corpus, and for frames what the sandbox writes."""
    return sorted((CORPUS / target).iterdir())
