"""A session's saved state: the interpreter's memory and its disk. In memory, and in a file.

The file starts with a magic number and the format's version, then a JSON header with the sizes and
hashes of the parts, then the parts, each compressed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sandbox_runtime.errors import CheckpointError, ProtocolError
from sandbox_runtime.messages import Part, Reply

MAGIC = b"DSPYRLMC"
FORMAT_VERSION = 1

# The parts of a state, in the order in which a starting sandbox needs them.
FILES = ("boot.head", "boot.pages", "disk")

# Fast, and still a third of the size: most of an image is pointers and zeros.
_COMPRESSION_LEVEL = 1

_CHUNK_BYTES = 1024 * 1024

# A header is a few hundred bytes. A file that claims more is no checkpoint.
_MAX_HEADER_BYTES = 64 * 1024

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
        return int(_MEMORY_BYTES.unpack_from(self.files["boot.head"])[0])

    @property
    def size(self) -> int:
        """Bytes that it takes in the host's memory."""
        return sum(memoryview(data).nbytes for data in self.files.values())

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
                "bytes": memoryview(self.files[name]).nbytes,
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
    def load(path: str | os.PathLike[str]) -> Checkpoint:
        """Reads a file that `save` wrote.

        Raises:
            CheckpointError: It is no checkpoint, is damaged, or of another version of the format.
            OSError: It could not be read.
        """
        with Path(path).open("rb") as file:
            try:
                return _read(file)
            except (ValueError, KeyError, TypeError, struct.error, zlib.error) as error:
                raise CheckpointError(f"{path} cannot be used: it is damaged ({error}).") from error
            except CheckpointError as error:
                raise CheckpointError(f"{path} cannot be used: {error}") from error


def parse_image(reply: Reply) -> Mapping[str, Part]:
    """The parts of a state by name, of the answer to a `TakeImage`.

    Raises:
        ProtocolError: The answer does not have them, or its head does not say how large the memory is.
    """
    if len(reply.attachments) != len(FILES):
        raise ProtocolError(f"The sandbox sent a state of {len(reply.attachments)} parts.")
    files = dict(zip(FILES, reply.attachments, strict=True))
    head = files["boot.head"]
    if len(head) < _MEMORY_BYTES.size or not math.isfinite(_MEMORY_BYTES.unpack_from(head)[0]):
        raise ProtocolError("The sandbox sent a state without the size of its memory.")
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


def _read(file: BinaryIO) -> Checkpoint:
    prefix = file.read(_PREFIX.size)
    if not prefix.startswith(MAGIC):
        raise CheckpointError("it is not a checkpoint.")
    _, version, header_bytes = _PREFIX.unpack(prefix)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"its format is version {version}, this program reads version {FORMAT_VERSION}."
        )
    if header_bytes > _MAX_HEADER_BYTES:
        raise ValueError("the header is too long")
    header = json.loads(file.read(header_bytes))
    files = {part["name"]: _read_part(file, part) for part in header["parts"]}
    if tuple(files) != FILES:
        raise ValueError("parts are missing")
    return Checkpoint(files, str(header["engine"]), str(header["packages"]))


def _read_part(file: BinaryIO, part: Mapping[str, Any]) -> bytes:
    """Unpacks a part, never to more than the size that it should have."""
    size, left = int(part["bytes"]), int(part["packed"])
    unpacker, digest = zlib.decompressobj(), hashlib.sha256()
    pieces, unpacked = [], 0
    while left > 0:
        chunk = file.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise ValueError("it ends too early")
        left -= len(chunk)
        digest.update(chunk)
        pieces.append(unpacker.decompress(chunk, size - unpacked + 1))
        unpacked += len(pieces[-1])
        if unpacked > size:
            raise ValueError("a part is larger than it says")
    if digest.hexdigest() != part["sha256"]:
        raise ValueError("a hash does not match")
    if unpacked != size:
        raise ValueError("a part is smaller than it says")
    return b"".join(pieces)
