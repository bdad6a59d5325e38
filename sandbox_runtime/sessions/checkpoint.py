"""A session's saved state: the interpreter's memory and its disk. In memory, and in a file.

The file is a zip: `manifest.json`, which names the format and the engine, then the parts of the state. It may be
damaged or malicious: sizes are checked before anything is unpacked, and nothing is unpacked beyond its bound.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from sandbox_runtime.buffers import Part, nbytes
from sandbox_runtime.errors import CheckpointError, ProtocolError
from sandbox_runtime.host_costs import (
    CHECKPOINT_DISK_BYTES,
    CHECKPOINT_HEAD_BYTES,
    CHECKPOINT_HEADER_BYTES,
    MEBIBYTE,
)
from sandbox_runtime.limits import LARGEST_MEMORY
from sandbox_runtime.rpc.sandbox_messages import Reply

MANIFEST = "manifest.json"
FORMAT_VERSION = 2

# The magic bytes of a zip, and of the previous format, which no release has written.
_ZIP_MAGIC = b"PK\x03\x04"
_OLD_MAGIC = b"DSPYRLMC"

# The parts of a state, in the order in which a starting sandbox needs them.
FILES = ("boot.head", "boot.pages", "disk")

# Fast, and still a third of the size: most of an image is pointers and zeros.
_COMPRESSION_LEVEL = 1

# Larger parts are compressed only if samples say that they become very small, which is also fast.
_ALWAYS_COMPRESSED_BYTES = 256 * MEBIBYTE
_SAMPLES, _SAMPLE_BYTES = 256, 4096
_FAST_RATIO = 0.1

# Chunk size of unpacking, which reads at most as many bytes of the file.
_CHUNK_BYTES = 64 * 1024

# Larger than any legitimate read of `zipfile`: a chunk, the end of a zip with a comment, or the directory of
# a zip with four entries.
_LARGEST_READ = 128 * 1024

_MEMORY_BYTES = struct.Struct("<d")  # the head begins with a JavaScript number


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a session after a cell: variables, modules, files. Can open any number of sessions."""

    files: Mapping[str, Part] = dataclasses.field(repr=False)
    """The parts by name."""

    engine: str
    """The key of the engine that saved it; another one cannot read the memory."""

    packages: str = ""
    """The key of the mounted packages; the memory is valid only with them."""

    border: object = dataclasses.field(default=None, repr=False)
    """The values of its handles. They stay in this process: a file does not contain them."""

    @property
    def memory_bytes(self) -> int:
        """The interpreter's memory, which `Limits.memory_bytes` must allow."""
        return _memory_bytes(self.files["boot.head"])

    @property
    def has_handles(self) -> bool:
        """True if variables are handles of values on the host, which are not in a file."""
        return bool(getattr(self.border, "has_handles", False))

    @property
    def size(self) -> int:
        """The size in the host's memory, in bytes."""
        return sum(nbytes(data) for data in self.files.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file atomically.

        Raises:
            OSError: It cannot be written.
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
        manifest = {"format": FORMAT_VERSION, "engine": self.engine, "packages": self.packages}
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(_entry(MANIFEST), json.dumps(manifest))
            for name in FILES:
                entry, data = _entry(name), memoryview(self.files[name]).cast("B")
                archive.writestr(entry, data, _method(data), _COMPRESSION_LEVEL)

    @staticmethod
    def load(path: str | os.PathLike[str], *, memory_bytes: int = LARGEST_MEMORY) -> Checkpoint:
        """Reads a file that `save` wrote.

        Args:
            path: The file.
            memory_bytes: The maximum of the interpreter's memory, which loading also takes on the host. A small
                file can hold a large memory.

        Raises:
            CheckpointError: It is not a checkpoint, is damaged, has another version of the format, or
                needs more memory.
            OSError: It cannot be read.
        """
        with _opened(path) as file:
            try:
                return _read(file, memory_bytes)
            except CheckpointError as error:
                raise CheckpointError(f"{path} cannot be used: {error}") from error
            except (
                ValueError, LookupError, TypeError, ArithmeticError, MemoryError, EOFError,
                RuntimeError,  # also RecursionError, and zipfile's error for encrypted entries
                struct.error, zipfile.BadZipFile, zlib.error,
            ) as error:  # fmt: skip
                raise CheckpointError(f"{path} cannot be used: it is damaged ({error}).") from error


def _method(data: memoryview) -> int:
    """Returns whether a part is compressed. To compress a gigabyte takes ten to twenty seconds, unless it hardly has content."""
    if len(data) <= _ALWAYS_COMPRESSED_BYTES:
        return zipfile.ZIP_DEFLATED
    step = len(data) // _SAMPLES
    samples = b"".join(data[at * step : at * step + _SAMPLE_BYTES] for at in range(_SAMPLES))
    ratio = len(zlib.compress(samples, _COMPRESSION_LEVEL)) / len(samples)
    return zipfile.ZIP_DEFLATED if ratio < _FAST_RATIO else zipfile.ZIP_STORED


def _entry(name: str) -> zipfile.ZipInfo:
    """Returns a zip entry with a fixed date, so that the same state is the same file."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o600 << 16
    return entry


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    # Opening a named pipe instead of a file would block.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(number, "rb")
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise CheckpointError(f"{path} cannot be used: it is not a regular file.")
    return file


def _memory_bytes(head: Part) -> int:
    """Returns the memory size in a head. Raises `ValueError` if there is none."""
    if nbytes(head) < _MEMORY_BYTES.size:
        raise ValueError("the head is too short")
    size = _MEMORY_BYTES.unpack_from(head)[0]
    if not 0 < size <= LARGEST_MEMORY or size != int(size):  # rejects NaN, too
        raise ValueError("the head does not state the size of the memory")
    return int(size)


def parse_image(reply: Reply) -> Mapping[str, Part]:
    """Returns the parts of a state by name, from the answer to a `TakeImage`.

    Raises:
        ProtocolError: The answer does not have them, or its head does not state the size of the memory.
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
    """Raises `CheckpointError` for a state of another engine or other packages, or one that is too large."""
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


class _BoundedReads(io.RawIOBase):
    """A file for `zipfile` that bounds each read: `zipfile` reads a whole directory, however long it claims to be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_SET and offset < 0:
            raise ValueError("a position is wrong")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(_LARGEST_READ if size < 0 else min(size, _LARGEST_READ))
        if len(data) == _LARGEST_READ:
            raise ValueError("its directory is too long")
        return data


def _read(file: BinaryIO, memory_bytes: int) -> Checkpoint:
    start = file.read(len(_OLD_MAGIC))
    if start == _OLD_MAGIC:
        raise CheckpointError("its format is older than any release of dspy-rlm. Save it again.")
    if not start.startswith(_ZIP_MAGIC):
        raise CheckpointError("it is not a checkpoint.")
    with zipfile.ZipFile(_BoundedReads(file)) as archive:
        entries = archive.infolist()
        if [entry.filename for entry in entries] != [MANIFEST, *FILES]:
            raise ValueError("it does not have exactly the parts of a state")
        manifest, head, pages, disk = entries
        engine, packages = _read_manifest(_unpack(archive, manifest, CHECKPOINT_HEADER_BYTES))
        files: dict[str, Part] = {head.filename: _unpack(archive, head, CHECKPOINT_HEAD_BYTES)}
        memory = _memory_bytes(files[head.filename])
        if memory > memory_bytes:
            raise CheckpointError(
                f"it needs {memory:,} bytes of memory, more than {memory_bytes:,}."
            )
        # All pages, and eight bytes for each contiguous run of them.
        files[pages.filename] = _unpack(archive, pages, memory + memory // 256 + MEBIBYTE)
        files[disk.filename] = _unpack(archive, disk, CHECKPOINT_DISK_BYTES)
    return Checkpoint(files, engine, packages)


def _read_manifest(data: bytearray) -> tuple[str, str]:
    """Returns the keys of the engine and of the packages."""
    manifest = json.loads(data)
    version, engine, packages = (manifest[name] for name in ("format", "engine", "packages"))
    if type(version) is not int:
        raise ValueError("it does not state the version of its format")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"its format is version {version}, this program reads version {FORMAT_VERSION}."
        )
    if not isinstance(engine, str) or not isinstance(packages, str):
        raise ValueError("it does not state the engine that saved it")
    return engine, packages


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, largest: int) -> bytearray:
    """Unpacks an entry, never beyond the size in the zip's directory. `zipfile` checks the CRC."""
    if entry.file_size > largest:
        raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes, more than {largest:,}")
    # Other methods take memory that the file chooses.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed with another method")
    unpacked = bytearray()
    with archive.open(entry) as part:
        while piece := part.read(_CHUNK_BYTES):
            unpacked += piece
    if len(unpacked) != entry.file_size:
        raise ValueError(f"{entry.filename} ends too early")
    return unpacked
