"""ZIP and tar archives: the files in them, as bytes. Nothing is written: a path in an archive is a name and no more."""

from __future__ import annotations

import errno
import lzma
import posixpath
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from dspy_rlm.inputs.converters.main import Limits, UnreadableError

MAX_MEMBERS = 100_000
MAX_NAME_CHARS = 4096
_CHUNK_BYTES = 1024 * 1024

_DRIVE = re.compile(r"[A-Za-z]:")


def records(path: str, name: str) -> Iterator[dict[str, Any] | bytes]:
    """Yields a member record and its bytes for each file; then notes on what was left out."""
    left_out: Counter[str] = Counter()
    if zipfile.is_zipfile(path):
        yield from _zip(path, left_out)
    else:
        yield from _tar(path, left_out)
    for reason, count in left_out.items():
        yield {"left_out": reason, "count": count}


def _zip(path: str, left_out: Counter[str]) -> Iterator[dict[str, Any] | bytes]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_MEMBERS:
            raise UnreadableError(
                f"it has {len(entries):,} files; at most {MAX_MEMBERS:,} are read"
            )
        expanded = sum(entry.file_size for entry in entries)
        if expanded > Limits.output_bytes:
            raise UnreadableError(
                f"it expands to {expanded:,} bytes; at most {Limits.output_bytes:,} are read. Extract what you need"
            )
        for entry in entries:
            if entry.is_dir():
                continue
            place = harmless(entry.filename)
            if not place:
                left_out["unsafe path"] += 1
            elif entry.flag_bits & 1:
                left_out["encrypted"] += 1
            elif (entry.external_attr >> 16) & 0o170000 == 0o120000:
                left_out["link"] += 1
            else:
                try:
                    file = archive.open(entry)
                except NotImplementedError:
                    left_out["unsupported compression"] += 1
                    continue
                except (zipfile.BadZipFile, OSError):
                    left_out["damaged"] += 1
                    continue
                yield {"member": place}
                try:
                    with file:
                        yield from _chunks(file)
                except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
                    if isinstance(error, OSError) and error.errno == errno.EFBIG:
                        raise
                    left_out["damaged"] += 1
                    yield {"broken": True}


def _tar(path: str, left_out: Counter[str]) -> Iterator[dict[str, Any] | bytes]:
    try:
        with tarfile.open(path, "r:") as archive:
            for at, entry in enumerate(archive):
                # The list of all entries is not needed.
                archive.members = []  # type: ignore[attr-defined]
                if at >= MAX_MEMBERS:
                    raise UnreadableError(f"it has more than {MAX_MEMBERS:,} files")
                if entry.isdir():
                    continue
                if not entry.isreg() or entry.islnk():
                    left_out["link" if entry.issym() or entry.islnk() else "special"] += 1
                    continue
                place = harmless(entry.name)
                if not place:
                    left_out["unsafe path"] += 1
                    continue
                file = archive.extractfile(entry)
                if file is not None:
                    yield {"member": place}
                    yield from _chunks(file)
    except tarfile.ReadError as error:
        raise UnreadableError(f"it is damaged, or incomplete ({error})") from error


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def harmless(name: str) -> str:
    """Returns the path of a member without its root; "" if it would lead out of a folder."""
    place = name.replace("\\", "/").partition("\0")[0]
    place = _DRIVE.sub("", place, count=1) if _DRIVE.match(place) else place
    parts = [part for part in place.split("/") if part not in ("", ".")]
    if ".." in parts or not parts or len(name) > MAX_NAME_CHARS:
        return ""
    return posixpath.join(*parts).encode("utf-8", "replace").decode()
