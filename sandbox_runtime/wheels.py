"""Wheels into one bundle: every file of a set of packages, as `worker.ts` mounts it.

A bundle is a length, a JSON index of paths and sizes, and the files' bytes one after the other: nothing
to unpack in the sandbox, where each file is a view of the bundle. Knows no network and no cache.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

# Where the files lie in the sandbox; on `sys.path` there.
MOUNT_FOLDER = "/packages"
# Where Pyodide's own distribution expects libraries that several packages share.
LIBRARY_FOLDER = "/usr/lib"

# More than this would leave no room in the sandbox's address space. A wheel can expand a thousandfold.
MAX_BUNDLE_BYTES = 1024 * 1024 * 1024

_MODULE = re.compile(r"([A-Za-z]\w*)(?:/__init__\.py|\.py|(?:\.[\w-]+)*\.so)")


def bundle(wheels: Iterable[Path], libraries: Iterable[Path] = ()) -> bytes:
    """One bundle of all files in wheels, and in archives of shared libraries.

    Raises:
        ValueError: An archive is damaged, too large, or names a place outside of its own.
        OSError: One cannot be read.
    """
    files: dict[str, bytes] = {}
    total = 0
    for archive, folder in [
        *((path, MOUNT_FOLDER) for path in wheels),
        *((path, LIBRARY_FOLDER) for path in libraries),
    ]:
        for name, data in _files(archive, MAX_BUNDLE_BYTES - total):
            total += len(data)
            files[f"{folder}/{name}"] = data
    paths = sorted(files)
    index = json.dumps([[path, len(files[path])] for path in paths]).encode()
    return b"".join([struct.pack("<I", len(index)), index, *(files[path] for path in paths)])


def top_level_modules(wheel: Path) -> list[str]:
    """The public modules that a wheel puts at the top."""
    with zipfile.ZipFile(wheel) as archive:
        names = [place for name in archive.namelist() if (place := _place(name))]
    found = (_MODULE.fullmatch(name) for name in names)
    return sorted({match[1] for match in found if match})


def _files(path: Path, room: int) -> Iterable[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = _place(info.filename)
                if info.is_dir() or not name:
                    continue
                room -= info.file_size
                if room < 0:
                    raise ValueError(f"it takes more than {MAX_BUNDLE_BYTES:,} bytes unpacked")
                yield name, archive.read(info)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be unpacked: {error}") from error


def _place(name: str) -> str | None:
    """Where a file of a wheel goes, below the folder; None for what is of no use in the sandbox."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise ValueError(f"it names a place outside of its own: {name!r}")
    if parts and parts[0].endswith(".data"):
        return "/".join(parts[2:]) if parts[1:2] in (("purelib",), ("platlib",)) else None
    return "/".join(parts)
