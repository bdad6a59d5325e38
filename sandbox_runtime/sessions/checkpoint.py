"""A session's saved state: the interpreter's memory and its disk. In memory, and in a file.

The file starts with a magic number and the format's version, then a JSON header with the sizes and
hashes of the parts, then the parts, each compressed. A file may be damaged, or made to do damage: what it
says of itself is checked before anything is unpacked, and nothing is unpacked to more than it may be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sandbox_runtime.buffers import Part, nbytes
from sandbox_runtime.errors import CheckpointError, ProtocolError
from sandbox_runtime.host_costs import (
    CHECKPOINT_DISK_BYTES,
    CHECKPOINT_HEAD_BYTES,
    CHECKPOINT_HEADER_BYTES,
    MEBIBYTE,
)
from sandbox_runtime.limits import LARGEST_MEMORY
from sandbox_runtime.rpc.messages import Reply

MAGIC = b"DSPYRLMC"
FORMAT_VERSION = 1

# The parts of a state, in the order in which a starting sandbox needs them.
FILES = ("boot.head", "boot.pages", "disk")

# Fast, and still a third of the size: most of an image is pointers and zeros.
_COMPRESSION_LEVEL = 1

_CHUNK_BYTES = 1024 * 1024
_PACKED_CHUNK_BYTES = 64 * 1024

# Deflate makes at most 1,032 bytes of one.
_LARGEST_RATIO = 1032

_PREFIX = struct.Struct("<8sII")  # magic, version, bytes of the header

_MEMORY_BYTES = struct.Struct("<d")  # how the head begins: a number of JavaScript's


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a session after a cell: variables, modules, files. Opens any number of sessions."""

    files: Mapping[str, Part] = dataclasses.field(repr=False)
    """The parts by name."""

    engine: str
    """The key of the engine that made it; another one cannot read the memory."""

    packages: str = ""
    """The key of the packages that were mounted; without them the memory makes no sense."""

    border: object = dataclasses.field(default=None, repr=False)
    """What the handles in it stand for. Stays in this process: a file does not have it."""

    @property
    def memory_bytes(self) -> int:
        """The interpreter's memory, which `Limits.memory_bytes` must allow."""
        return _memory_bytes(self.files["boot.head"])

    @property
    def size(self) -> int:
        """Bytes that it takes in the host's memory."""
        return sum(nbytes(data) for data in self.files.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file, which is there whole or not at all.

        Raises:
            OSError: It could not be written.
        """
        target = Path(path)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                self._write(file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise

    def _write(self, file: BinaryIO) -> None:
        packed = {name: zlib.compress(self.files[name], _COMPRESSION_LEVEL) for name in FILES}
        parts = [
            {
                "name": name,
                "bytes": nbytes(self.files[name]),
                "packed": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in packed.items()
        ]
        header = json.dumps(
            {"engine": self.engine, "packages": self.packages, "parts": parts}
        ).encode()
        file.write(_PREFIX.pack(MAGIC, FORMAT_VERSION, len(header)) + header)
        for data in packed.values():
            file.write(data)

    @staticmethod
    def load(path: str | os.PathLike[str], *, memory_bytes: int = LARGEST_MEMORY) -> Checkpoint:
        """Reads a file that `save` wrote.

        Args:
            path: The file.
            memory_bytes: The interpreter's memory that it may need; it takes as much here. A small file
                can hold a large memory.

        Raises:
            CheckpointError: It is no checkpoint, is damaged, of another version of the format, or needs
                more memory.
            OSError: It could not be read.
        """
        with _opened(path) as file:
            try:
                return _read(file, memory_bytes)
            except CheckpointError as error:
                raise CheckpointError(f"{path} cannot be used: {error}") from error
            except (
                ValueError, KeyError, TypeError, RecursionError, MemoryError, ArithmeticError,
                struct.error, zlib.error,
            ) as error:  # fmt: skip
                raise CheckpointError(f"{path} cannot be used: it is damaged ({error}).") from error


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    # A pipe in the place of the file would keep whoever opens it waiting.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(number, "rb")
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise CheckpointError(f"{path} cannot be used: it is no file.")
    return file


def _memory_bytes(head: Part) -> int:
    """The memory that a head says. Raises `ValueError` if it says none."""
    if nbytes(head) < _MEMORY_BYTES.size:
        raise ValueError("the head is too short")
    size = _MEMORY_BYTES.unpack_from(head)[0]
    if not 0 < size <= LARGEST_MEMORY or size != int(size):  # NaN is no size either
        raise ValueError("the head does not say how large the memory is")
    return int(size)


def parse_image(reply: Reply) -> Mapping[str, Part]:
    """The parts of a state by name, of the answer to a `TakeImage`.

    Raises:
        ProtocolError: The answer does not have them, or its head does not say how large the memory is.
    """
    if len(reply.attachments) != len(FILES):
        raise ProtocolError(f"The sandbox sent a state of {len(reply.attachments)} parts.")
    files = dict(zip(FILES, reply.attachments, strict=True))
    try:
        _memory_bytes(files["boot.head"])
    except ValueError as error:
        raise ProtocolError("The sandbox sent a state without the size of its memory.") from error
    return files


def check_restorable(
    state: Checkpoint, engine_key: str, packages_key: str, memory_bytes: int
) -> None:
    """Raises `CheckpointError` for a state of another engine, of other packages, or too large."""
    if state.engine != engine_key:
        raise CheckpointError(
            "This checkpoint was made by another version of the sandbox, whose memory this one cannot "
            "read. Use the version that made it."
        )
    if state.packages != packages_key:
        raise CheckpointError(
            "This checkpoint was made with other packages. Open the session with the same `packages`."
        )
    if state.memory_bytes > memory_bytes:
        raise CheckpointError(
            f"This checkpoint needs {state.memory_bytes:,} bytes of memory, more than "
            f"Limits.memory_bytes allows ({memory_bytes:,})."
        )


@dataclasses.dataclass(frozen=True)
class _Entry:
    """What the header says of a part."""

    name: str
    size: int
    packed: int
    sha256: str


def _read(file: BinaryIO, memory_bytes: int) -> Checkpoint:
    prefix = file.read(_PREFIX.size)
    if not prefix.startswith(MAGIC):
        raise CheckpointError("it is not a checkpoint.")
    _, version, header_bytes = _PREFIX.unpack(prefix)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"its format is version {version}, this program reads version {FORMAT_VERSION}."
        )
    if header_bytes > CHECKPOINT_HEADER_BYTES:
        raise ValueError("the header is too long")
    header = json.loads(file.read(header_bytes))
    entries = [_entry(part) for part in header["parts"]]
    if tuple(entry.name for entry in entries) != FILES:
        raise ValueError("it has other parts than a state has")
    if sum(entry.packed for entry in entries) > os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("it ends too early")
    head, pages, disk = entries
    largest = CHECKPOINT_HEAD_BYTES
    files: dict[str, Part] = {head.name: _read_part(file, head, largest)}
    memory = _memory_bytes(files[head.name])
    if memory > memory_bytes:
        raise CheckpointError(f"it needs {memory:,} bytes of memory, more than {memory_bytes:,}.")
    # All pages, and eight bytes for each run of them.
    files[pages.name] = _read_part(file, pages, memory + memory // 256 + MEBIBYTE)
    files[disk.name] = _read_part(file, disk, CHECKPOINT_DISK_BYTES)
    engine, packages = header["engine"], header["packages"]
    if not isinstance(engine, str) or not isinstance(packages, str):
        raise ValueError("it does not say what made it")
    return Checkpoint(files, engine, packages)


def _entry(part: Any) -> _Entry:
    entry = _Entry(part["name"], part["bytes"], part["packed"], part["sha256"])
    for size in (entry.size, entry.packed):
        if type(size) is not int or size < 0:
            raise ValueError("a size is wrong")
    if entry.size > _LARGEST_RATIO * entry.packed:
        raise ValueError("a part is larger than what it was packed to can hold")
    return entry


def _read_part(file: BinaryIO, entry: _Entry, largest: int) -> bytearray:
    """Unpacks a part, never to more than the size that it should have."""
    if entry.size > largest:
        raise ValueError(f"{entry.name} has {entry.size:,} bytes, more than {largest:,}")
    unpacker, digest, unpacked = zlib.decompressobj(), hashlib.sha256(), bytearray()
    left = entry.packed
    while left > 0:
        chunk = file.read(min(left, _PACKED_CHUNK_BYTES))
        if not chunk:
            raise ValueError("it ends too early")
        left -= len(chunk)
        digest.update(chunk)
        for piece in _unpacked(unpacker, chunk):
            unpacked += piece
            if len(unpacked) > entry.size:
                raise ValueError("a part is larger than it says")
    if digest.hexdigest() != entry.sha256:
        raise ValueError("a hash does not match")
    if len(unpacked) != entry.size or not unpacker.eof or unpacker.unused_data:
        raise ValueError("a part is smaller than it says")
    return unpacked


def _unpacked(unpacker: Any, chunk: bytes) -> Iterator[bytes]:
    """What a chunk unpacks to, in pieces: it may be a thousand times as much."""
    piece = b"more"
    while chunk or piece:
        piece = unpacker.decompress(chunk, _CHUNK_BYTES)
        chunk = unpacker.unconsumed_tail
        yield piece
