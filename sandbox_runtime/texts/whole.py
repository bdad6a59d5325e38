"""Decodes the whole content of a file at once, by the rules of `TextFile`."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_runtime.texts.bytes import UnreadableTextError
from sandbox_runtime.texts.compression import compression_of, decompressed, decompressor
from sandbox_runtime.texts.forms import Form, decoded, form_of

# Encodings with a byte order mark, which states them.
_MARKED = frozenset({"utf-8-sig", "utf-16", "utf-32"})


def text_of(data: bytes, name: str, most_bytes: int) -> str:
    """Returns the content of a file as text: decompressed, and decoded by its recognized encoding.

    Args:
        data: The bytes of the file.
        name: The name for error messages.
        most_bytes: The maximum size after decompression.

    Raises:
        UnreadableTextError: It is not a text, is damaged, or is larger.
    """
    return text_and_note(data, name, most_bytes)[0]


def text_and_note(data: bytes, name: str, most_bytes: int) -> tuple[str, str]:
    """Does the same, and returns a remark with the text if its encoding is a guess or bytes of it are invalid.

    Args:
        data: The bytes of the file.
        name: The name for error messages.
        most_bytes: The maximum size after decompression.

    Raises:
        UnreadableTextError: It is not a text, is damaged, or is larger.
    """
    compression = compression_of(data)
    if compression:
        make = decompressor(compression)
        if make is None:
            raise UnreadableTextError(no_decompressor(name, compression))
        pieces, size = [], 0
        for piece in decompressed(lambda at, length: data[at : at + length], make, name):
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise UnreadableTextError(f"{name} expands to more than {most_bytes:,} bytes")
        data = b"".join(pieces)
    form = Form() if _is_plain(data) else form_of([data])
    if form.binary:
        raise UnreadableTextError(f"{name} is {binary_kind(form, compression)}, not a text")
    if form.encoding in _MARKED:
        try:
            return data.decode(form.encoding), ""
        except UnicodeDecodeError as error:
            raise UnreadableTextError(
                f"{name} has the byte order mark of {form.encoding.removesuffix('-sig').upper()}, but is not: {error}"
            ) from error
    return "".join(decoded(_once(data), form.encoding)), form.note


def binary_kind(form: Form, compression: str) -> str:
    """Returns what a binary file is, with its compression; "" for a text."""
    return (
        f"{form.binary}, compressed with {compression}"
        if form.binary and compression
        else form.binary
    )


def no_decompressor(name: str, compression: str) -> str:
    """Returns the message for a compression that this Python does not have."""
    return (
        f"{name} is compressed with {compression}, which needs Python 3.14 or the package backports.zstd. "
        "Install it, or decompress the file."
    )


def _is_plain(data: bytes) -> bool:
    return data.isascii() and b"\0" not in data and not data.startswith(b"%PDF-")


def _once(data: bytes) -> Iterator[bytes]:
    yield data
