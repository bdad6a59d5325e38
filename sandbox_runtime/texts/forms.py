"""Recognizes text and its encoding from samples of a file, without I/O.

By the byte order mark, else by the bytes: UTF-8, UTF-16 without a mark, or Windows-1252. A guess is never silent: it
comes with a note for the prompt.
"""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Iterator, Sequence

# Byte order marks. Those of UTF-16 are prefixes of UTF-32's, so UTF-32 comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Files that are no text, by their beginnings. Those that are printable decide nothing in front of valid UTF-8.
_KINDS = (
    (b"PK\x03\x04", "a ZIP archive, which is also the format of .docx, .xlsx and .jar files"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x04\x22\x4d\x18", "compressed with LZ4"),
    (b"\x1f\x9d", "compressed with `compress`"),
    (b"LZIP", "compressed with lzip"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"\xd0\xcf\x11\xe0", "an Office document of the old format"),
    (b"\x7fELF", "a program"),
)
_MAGIC_BYTES = 4
_PDF = b"%PDF-"
_TAR = slice(257, 262), b"ustar"

# Control characters that text files contain: tab, line feed, form feed, carriage return, escape. NUL bytes are counted
# apart: logs have blocks of them where a rotation truncated the file below its writer.
_TEXT_CONTROLS = b"\t\n\f\r\x1b"
_CONTROLS = bytes(code for code in range(1, 32) if code not in _TEXT_CONTROLS)

# The share of other control characters: very low in text of a one-byte encoding, 11 % in random bytes.
_MAX_CONTROL_SHARE = 0.01

# The share of NUL bytes at the even or odd offsets of UTF-16 in Western languages, and at the others.
_UTF16_NULS, _UTF16_OTHERS = 0.6, 0.05

# Texts shorter than this say too little: `a\0b` may be a list for `xargs -0`.
_UTF16_BYTES = 16

# Longest sequence of UTF-8, less its first byte.
_CONTINUED = 3

WINDOWS = "windows-1252"

# As in the WHATWG's encoding standard, the five bytes that it leaves undefined are controls.
_WINDOWS_TABLE = {
    code: text for code in range(0x80, 0xA0) if (text := bytes([code]).decode("cp1252", "ignore"))
}


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of a file's content."""

    encoding: str = "utf-8"
    note: str = ""
    """A remark for the prompt, where the encoding is a guess or bytes are invalid."""

    binary: str = ""
    """The kind of a file that is no text, such as "a PNG image"; empty for a text."""


def form_of(samples: Sequence[bytes], *, has_end: bool = True) -> Form:
    """Recognizes the form of a file.

    Args:
        samples: Parts of the file. The first is its beginning; the others begin anywhere.
        has_end: Whether the last sample ends where the file does.
    """
    start = samples[0] if samples else b""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return Form(encoding, "" if _is_valid(start, encoding) else _replaced(encoding))
    if start.startswith(_PDF):
        return Form(binary="a PDF document")
    where, magic = _TAR
    if start[where] == magic:
        return Form(binary="a tar archive")
    data = b"".join(samples)
    last = len(samples) - 1 if has_end else -1
    decoded = [
        _decoded(sample, begins_anywhere=at > 0, has_end=at == last)
        for at, sample in enumerate(samples)
    ]
    nuls = data.count(0)
    is_valid = not nuls and all(invalid == 0 for _, invalid in decoded)
    if is_valid and not _has_controls(start[:_MAGIC_BYTES]):
        return Form()
    if nuls and (encoding := _unmarked_utf16(start)):
        return Form(encoding, f"has no byte order mark, read as {encoding.upper()}")
    if kind := _kind(start):
        return Form(binary=kind)
    if is_valid:
        return Form()
    content = len(data) - nuls
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls > _MAX_CONTROL_SHARE * content or not content:
        return Form(binary="binary data")
    invalid = sum(bad for _, bad in decoded)
    note = f"{nuls:,} NUL bytes in the parts examined" if nuls else ""
    if not invalid:
        return Form(note=note)
    if sum(valid for valid, _ in decoded) >= invalid:
        return Form(note="; ".join(filter(None, (note, _replaced("utf-8")))))
    guess = f"not UTF-8, read as {WINDOWS}; name another encoding with encoding="
    return Form(WINDOWS, "; ".join(filter(None, (note, guess))))


def _decoded(sample: bytes, *, begins_anywhere: bool, has_end: bool) -> tuple[int, int]:
    """Returns the numbers of characters beyond ASCII and of invalid bytes, read as UTF-8."""
    if sample.isascii():
        return 0, 0
    if begins_anywhere:
        lead = next(
            (at for at in range(min(_CONTINUED, len(sample))) if sample[at] & 0xC0 != 0x80), 0
        )
        sample = sample[lead:]
    # The end of the sample may cut a character: the decoder keeps it back.
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text = decoder.decode(sample, final=has_end)
    if text.isascii():
        return 0, 0
    invalid = sum("\udc80" <= char <= "\udcff" for char in text)
    return sum(char > "\x7f" for char in text) - invalid, invalid


def _has_controls(data: bytes) -> bool:
    return len(data.translate(None, _CONTROLS)) < len(data)


def _is_valid(sample: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _replaced(encoding: str) -> str:
    return f"some bytes are not {encoding.removesuffix('-sig').upper()} and are read as U+FFFD"


def _unmarked_utf16(start: bytes) -> str:
    even, odd = (start[first::2] for first in (0, 1))
    if len(start) < _UTF16_BYTES:
        return ""
    shares = even.count(0) / len(even), odd.count(0) / len(odd)
    if shares[1] >= _UTF16_NULS and shares[0] <= _UTF16_OTHERS:
        return "utf-16-le"
    return "utf-16-be" if shares[0] >= _UTF16_NULS and shares[1] <= _UTF16_OTHERS else ""


def _kind(start: bytes) -> str:
    return next((kind for magic, kind in _KINDS if start.startswith(magic)), "")


def decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[str]:
    """Decodes the pieces of a file; invalid bytes become U+FFFD."""
    if encoding == WINDOWS:
        yield from (piece.decode("latin-1").translate(_WINDOWS_TABLE) for piece in pieces)
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
