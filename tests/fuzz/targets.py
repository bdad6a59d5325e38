"""The fuzz targets on the host. Each takes bytes and returns, or raises an exception that is a bug."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic.fields import FieldInfo

from benchmarks.reply_forms import forms as reply_forms
from dspy_rlm.signatures import outputs
from dspy_rlm.signatures.parser import signature_of
from sandbox_runtime import Directory, Limits, TextFile
from sandbox_runtime.errors import (
    CheckpointError,
    PackageError,
    ProtocolError,
    TextChangedError,
    ValueCrossingError,
)
from sandbox_runtime.rpc.protocol import Connection
from sandbox_runtime.rpc.sandbox_messages import (
    Reply,
    ToolCall,
    parse_cell_end,
    parse_compiled,
    parse_done,
)
from sandbox_runtime.sessions.checkpoint import Checkpoint, parse_image
from sandbox_runtime.texts.calls import TextCalls
from sandbox_runtime.values.encoder import ValueCodec

from .forms import FORMS
from .reply_rules import replies

CORPUS = Path(__file__).with_name("corpus")
LIMIT = 1_000_000

# The separator of the parts of an input, for `values` and other targets with parts.
PART_MARK = b"\x00\xff\x00"

# One in this many known forms of replies is a seed.
SEEDED = 5

# The size of the forms used as seeds; mutation makes them longer.
FORM_BYTES = 2_000


def frames(data: bytes) -> None:
    """Parses a stream from the sandbox, as the host does, in reads of a size that the data decides."""
    size = 1 + data[0] if data else 1
    connection = Connection(LIMIT)
    with contextlib.suppress(ProtocolError):
        for at in range(1, len(data), size):
            piece = data[at : at + size]
            while piece:
                space = connection.space()
                assert len(space) > 0
                count = min(len(space), len(piece))
                space[:count] = piece[:count]
                piece = piece[count:]
                for message in connection.received(count):
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
    """Decodes a value of the sandbox: its tree, and its raw parts, which separators divide."""
    _decode(data.split(PART_MARK))


def _decode(parts: object) -> None:
    value_codec = ValueCodec()
    value_codec.encode({"a": {1, 2}}, "known")
    with contextlib.suppress(ValueCrossingError):
        value_codec.decode(parts)


# ---- Typed outputs and signatures ----


class Left(pydantic.BaseModel):
    """The first half of a pair of types that refer to each other."""

    x: Left | Right | None = None
    n: int = 0


class Right(pydantic.BaseModel):
    """The second half of a pair of types that refer to each other."""

    x: Left | Right | None = None
    n: Decimal = Decimal(0)


OUTPUTS: tuple[Any, ...] = (
    int, float, bool, str, bytes, complex, Decimal, Fraction, datetime.datetime, datetime.timedelta, uuid.UUID,
    list[int], set[int], dict[str, int], tuple[int, str], int | float | None, Literal["a", 1], Left | Right,
    list[Left | Right], Annotated[str, pydantic.Field(pattern="^(a+)+$")], pydantic.Base64Bytes, pydantic.Json,
)  # fmt: skip


def typed_outputs(data: bytes) -> None:
    """Converts a submitted value to a type, which the first byte selects."""
    if not data:
        return
    field = FieldInfo.from_annotation(OUTPUTS[data[0] % len(OUTPUTS)])
    try:
        value = ValueCodec().decode(data[1:].split(PART_MARK))
    except ValueCrossingError:
        return
    outputs.typed_outputs({"answer": field}, {"answer": value})


def signatures(data: bytes) -> None:
    """Parses the signature of a cell: text, or a tree of fields and classes."""
    try:
        source = json.loads(data)
    except (ValueError, RecursionError):
        source = data.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, RecursionError):
        signature_of(source, {"text": "x"}, {"Left": Left})


# ---- Texts, checkpoints, reports ----


@contextlib.contextmanager
def _texts() -> Iterator[tuple[TextCalls, list[Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.txt")
        path.write_bytes("one\ntwo é\r\nthree\n\n".encode() * 500 + b"\xff\xfe x\n")
        Path(folder, "b.md").write_text("# b\n")
        calls = TextCalls(Limits(search_seconds=0.5))
        try:
            yield calls, [TextFile(path), Directory(folder)]
        finally:
            calls.close()


def text_calls(data: bytes) -> None:
    """Makes the calls of a cell on a lazy text or a directory: an operation with arguments."""
    try:
        arguments = ValueCodec().decode(data.split(PART_MARK))
    except ValueCrossingError:
        return
    if not isinstance(arguments, list):
        return
    wrong = (ValueError, TypeError, LookupError, ArithmeticError, OSError, TextChangedError)
    with _texts() as (calls, of):
        for value in of:
            with contextlib.suppress(*wrong, RecursionError):
                calls(value, *arguments) if arguments else calls(value, "")


def checkpoints(data: bytes) -> None:
    """Loads a file that claims to be a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state")
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            Checkpoint.load(path)


def _reader(module: str, name: str) -> Callable[[bytes], None] | None:
    """Returns a function of a module as a target; None if the module does not exist."""
    try:
        read = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None

    def target(data: bytes) -> None:
        with contextlib.suppress(PackageError):
            read(data)

    target.__doc__ = f"What pip wrote, as `{name}` reads it."
    return target


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "values": values,
    "typed_outputs": typed_outputs,
    "signatures": signatures,
    "text_calls": text_calls,
    "checkpoints": checkpoints,
    "replies": replies,
}
if pip_report := _reader("sandbox_runtime.packages.pip_report", "read_report"):
    TARGETS["pip_report"] = pip_report


def _of_forms(before: bytes = b"") -> Mapping[str, bytes]:
    return {name: before + PART_MARK.join(form(FORM_BYTES)) for name, form in FORMS.items()}


def seeds(target: str) -> dict[str, bytes]:
    """Returns the initial inputs of a target by name: its corpus, and costly forms."""
    files = {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}
    if target == "values":
        files |= _of_forms()
    if target == "typed_outputs":
        for at in range(len(OUTPUTS)):
            before = bytes([at])
            files |= {
                f"{at}: {name}": data for name, data in list(_of_forms(before).items())[at % 3 :: 3]
            }
    if target == "replies":
        names = list(reply_forms())[::SEEDED]
        files |= {
            f"{one.kind}: {one.name}": bytes([one.is_cut]) + one.text.encode() for one in names
        }
    return files
