"""Decompresses files in pieces: gzip, bzip2, xz and Zstandard.

A small file can expand to any size, so the caller takes piece after piece and stops where it wants to. Nothing is
decompressed ahead, and the memory of a decompressor is bounded.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from sandbox_runtime.texts.bytes import UnreadableTextError

# The beginnings of compressed files: RFC 1952, RFC 8878, and the formats of bzip2 and xz.
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    # A frame to skip, which `pzstd` writes first.
    **{bytes([0x50 + number]) + b"\x2a\x4d\x18": "Zstandard" for number in range(16)},
    b"\xfd7zXZ\x00": "xz",
    **{b"BZh" + str(level).encode() + b"1AY&SY": "bzip2" for level in range(1, 10)},
    **{b"BZh" + str(level).encode() + b"\x17rE8P\x90": "bzip2" for level in range(1, 10)},
}

_READ_BYTES = 256 * 1024
_PIECE_BYTES = 1024 * 1024

# `xz -9` needs 65 MiB; a crafted header can request 4 GiB.
_MOST_XZ_MEMORY = 256 * 1024 * 1024

# Modules with the interface of Python 3.14's decompressor.
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")


class Decompressor(Protocol):
    """A decompressor of one stream, as in `bz2` and `lzma`."""

    @property
    def eof(self) -> bool:
        """True after the end of the stream."""

    @property
    def needs_input(self) -> bool:
        """True if it can return nothing without more data."""

    @property
    def unused_data(self) -> bytes:
        """The data after the end of the stream."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Returns at most so many bytes."""


class _Gzip:
    """zlib's decompressor with the interface of those of `bz2` and `lzma`. Verifies the checksum."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        # GNU gzip and tapes pad files with zeros.
        return self._zlib.unused_data.lstrip(b"\0")

    def decompress(self, data: bytes, max_length: int) -> bytes:
        result = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self.needs_input = len(result) < max_length and not self._zlib.unconsumed_tail
        return result


def compression_of(start: bytes) -> str:
    """Returns the name of the compression by the beginning of a file; "" if there is none."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def decompressor(compression: str) -> Callable[[], Decompressor] | None:
    """Returns a function that creates decompressors; None if this Python has none for it."""
    if compression == "Zstandard":
        return _zstd()
    found: dict[str, Any] = {
        "gzip": _Gzip,
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MOST_XZ_MEMORY),
    }
    result: Callable[[], Decompressor] = found[compression]
    return result


class _Zstd:
    """A decompressor of `zstd`, whose errors are no subclasses of a builtin, as one whose errors are."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._stream: Decompressor = module.ZstdDecompressor()

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return self._stream.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return self._stream.decompress(data, max_length)
        except self._module.ZstdError as error:
            raise ValueError(str(error)) from error


def _zstd() -> Callable[[], Decompressor] | None:
    for name in _ZSTD_MODULES:
        with suppress(ImportError):
            return partial(_Zstd, importlib.import_module(name))
    return None


def decompressed(
    read: Callable[[int, int], bytes], make: Callable[[], Decompressor], name: str
) -> Iterator[bytes]:
    """Yields the content of a compressed file in pieces. Streams in a row are one content, as in `zcat`.

    Args:
        read: Returns bytes of the file, by offset and size.
        make: Creates a decompressor; see `decompressor`.
        name: The name for error messages.

    Raises:
        UnreadableTextError: The file is damaged or ends early.
    """
    offset, data, streams = 0, b"", 0
    stream, has_begun = make(), False
    while True:
        if not data and stream.needs_input:
            data = read(offset, _READ_BYTES)
            offset += len(data)
            if not data:
                if has_begun:
                    raise UnreadableTextError(
                        f"{name} ends early: its compressed data is incomplete, so a part of the text is missing"
                    )
                return
        try:
            piece = stream.decompress(data, _PIECE_BYTES)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            if streams and not has_begun:  # what follows the last stream is not compressed
                return
            raise UnreadableTextError(f"{name} cannot be decompressed: {error}") from error
        data, has_begun = b"", True
        if piece:
            yield piece
        if stream.eof:
            data, streams = stream.unused_data, streams + 1
            stream, has_begun = make(), False
