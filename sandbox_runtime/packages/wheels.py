"""Merges wheels into one bundle: every file of a set of packages, as `worker.ts` mounts it.

A bundle is a length, a JSON index of paths and sizes, and the concatenated bytes of the files: nothing to unpack in
the sandbox, where each file is a view of the bundle. Knows no network and no cache, and holds at most one chunk
of a file in memory, however large a wheel unpacks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

# The files' folder in the sandbox; on `sys.path` there.
MOUNT_FOLDER = "/packages"
# The folder in which Pyodide's own distribution expects libraries that several packages share.
LIBRARY_FOLDER = "/usr/lib"

# More than this would leave no room in the sandbox's address space.
MAX_BUNDLE_BYTES = 1024 * 1024 * 1024
# Code and data in wheels expand to 3 to 20 times the size of the archive; empty tables to more. An archive
# beyond this is a zip bomb, unless it is small enough not to matter.
MAX_EXPANSION = 200
SMALL_BYTES = 64 * 1024 * 1024
# The maximum of an archive without ZIP64. Wheels have some thousands at most.
MAX_FILES = 65_535
# A path in the sandbox. The longest ones in wheels have some 250 characters.
MAX_PATH_CHARS = 1_000
# The central directory, which is read as a whole: 250 bytes for each of 65,535 files.
MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
# Long descriptions reach a megabyte.
MAX_METADATA_BYTES = 8 * 1024 * 1024
# Top-level modules are imported one by one and named in the prompt; most packages have one.
MAX_MODULES = 1_000

# The dependencies of one wheel, each of which is parsed. The largest packages have some thousands, for their extras.
MAX_REQUIRES = 20_000
# A module's name is named in the prompt.
MAX_MODULE_CHARS = 100
# The methods that wheels are packed with. Others let an archive choose the memory of their decoder.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_CHUNK_BYTES = 1024 * 1024
_MODULE = re.compile(r"([A-Za-z]\w*)(?:/__init__\.py|\.py|(?:\.[\w-]+)*\.so)")

_END = struct.Struct("<4s4H2LH")  # the end-of-central-directory record
_END_SIGNATURE, _ZIP64_SIGNATURE, _ZIP64_BYTES = b"PK\5\6", b"PK\6\7", 20
_MOST_COMMENT = 65_535
# An entry of the central directory: its size without its three texts, and where it has their lengths.
_ENTRY_BYTES, _ENTRY_LENGTHS_AT, _ENTRY_LENGTHS = 46, 28, struct.Struct("<3H")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """A wheel's own metadata."""

    name: str
    version: str
    requires: tuple[str, ...]


def write_bundle(
    target: Path, wheels: Iterable[Path], libraries: Iterable[Path] = ()
) -> tuple[int, str]:
    """Writes one bundle of all files in wheels, and in archives of shared libraries.

    Returns:
        The bundle's size in bytes and its SHA-256.

    Raises:
        ValueError: An archive is damaged, too large, or names a path outside of its folder.
        OSError: An archive cannot be read, or the bundle cannot be written.
    """
    with contextlib.ExitStack() as stack:
        files: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        total = entries = 0
        for path, folder in [
            *((path, MOUNT_FOLDER) for path in wheels),
            *((path, LIBRARY_FOLDER) for path in libraries),
        ]:
            archive = stack.enter_context(_open(path))
            entries += len(archive.infolist())
            if entries > MAX_FILES:
                raise ValueError(f"it has more than {MAX_FILES:,} files")
            for info, name in _listed(archive):
                total += info.file_size
                files[f"{folder}/{name}"] = archive, info
            if total > MAX_BUNDLE_BYTES:
                raise ValueError(f"it takes more than {MAX_BUNDLE_BYTES:,} bytes unpacked")
        _check_folders(files)
        paths = sorted(files)
        index = json.dumps([[path, files[path][1].file_size] for path in paths]).encode()
        digest = hashlib.sha256()
        with target.open("wb") as bundle:
            for piece in _pieces(index, [files[path] for path in paths]):
                digest.update(piece)
                bundle.write(piece)
            return bundle.tell(), digest.hexdigest()


def _check_folders(files: Collection[str]) -> None:
    """Raises `ValueError` if the files need too many folders, or one that is a file itself."""
    folders: set[str] = set()
    for path in files:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
        if len(folders) > MAX_FILES:
            raise ValueError(f"it has more than {MAX_FILES:,} folders")
    if both := folders.intersection(files):
        raise ValueError(f"it has a file and a folder of one name: {min(both)!r:.300}")


def top_level_modules(wheel: Path) -> list[str]:
    """Returns the public top-level modules of a wheel. Raises `ValueError` for too many."""
    with _open(wheel) as archive:
        names = [name for _, name in _listed(archive)]
    matches = (_MODULE.fullmatch(name) for name in names)
    modules = sorted({match[1] for match in matches if match and len(match[1]) <= MAX_MODULE_CHARS})
    if len(modules) > MAX_MODULES:
        raise ValueError(
            f"{wheel.name} has {len(modules):,} top-level modules, more than {MAX_MODULES:,}"
        )
    return modules


def metadata_of(wheel: Path) -> Metadata:
    """Returns a wheel's metadata. Raises `ValueError` if there is none, or more than one."""
    with _open(wheel) as archive:
        entries = [
            info
            for info in archive.infolist()
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", info.filename)
        ]
        if len(entries) != 1:
            raise ValueError(f"{wheel.name} has {len(entries)} files named METADATA")
        if entries[0].file_size > MAX_METADATA_BYTES:
            raise ValueError(f"{wheel.name} has {entries[0].file_size:,} bytes of metadata")
        with _unpacking(wheel.name):
            data = archive.read(entries[0])
    from email.parser import BytesParser  # importing it takes as long as the rest of this module

    message = BytesParser().parsebytes(data, headersonly=True)
    name, version = message.get_all("Name", []), message.get_all("Version", [])
    if len(name) != 1 or len(version) != 1:
        raise ValueError(f"{wheel.name} does not state its name and version exactly once")
    lines = message.get_all("Requires-Dist", [])
    if len(lines) > MAX_REQUIRES:
        raise ValueError(
            f"{wheel.name} has {len(lines):,} dependencies, more than {MAX_REQUIRES:,}"
        )
    requires = (" ".join(str(line).split()) for line in lines)
    return Metadata(str(name[0]).strip(), str(version[0]).strip(), tuple(requires))


def _pieces(
    index: bytes, files: Iterable[tuple[zipfile.ZipFile, zipfile.ZipInfo]]
) -> Iterator[bytes]:
    yield struct.pack("<I", len(index))
    yield index
    for archive, info in files:
        remaining = info.file_size
        with _unpacking(str(archive.filename)), archive.open(info) as file:
            while piece := file.read(_CHUNK_BYTES):
                remaining -= len(piece)
                yield piece
        if remaining != 0:
            raise ValueError(
                f"{info.filename[:300]!r} does not have the length that its archive states"
            )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens an archive after checking the bounds of its directory and of its expanded size."""
    _check_directory(path)
    with _unpacking(path.name):
        archive = zipfile.ZipFile(path)
    with archive:
        if any(info.compress_type not in _METHODS for info in archive.infolist()):
            raise ValueError(f"{path.name} is packed by another method than wheels are")
        if len(set(archive.namelist())) < len(archive.infolist()):
            raise ValueError(f"{path.name} lists a file twice")
        for info in archive.infolist():
            info.comment = info.extra = b""  # up to 128 kB for each entry, which nothing reads
        expanded = sum(info.file_size for info in archive.infolist())
        if expanded > max(SMALL_BYTES, MAX_EXPANSION * path.stat().st_size):
            raise ValueError(
                f"{path.name} takes {expanded:,} bytes unpacked, more than {MAX_EXPANSION} times its own"
            )
        yield archive


@contextlib.contextmanager
def _unpacking(name: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise ValueError(f"{name.rpartition('/')[2]} cannot be unpacked: {error}") from error
    except (struct.error, UnicodeDecodeError, IndexError, OverflowError, OSError) as error:
        raise ValueError(f"{name.rpartition('/')[2]} is damaged: {error}") from error


def _check_directory(path: Path) -> None:
    """Checks the size of an archive's central directory, which `zipfile` reads as a whole, and counts its entries.

    `zipfile` reads as many entries as there are, whatever number the archive states.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - _END.size - _MOST_COMMENT - _ZIP64_BYTES))
        end_at = file.tell()
        end = file.read()
        # Located as by the module `zipfile`: at the very end, else the last one before a comment.
        at = len(end) - _END.size
        if at < 0 or end[at : at + 4] != _END_SIGNATURE or end[-2:] != b"\0\0":
            at = end.rfind(_END_SIGNATURE)
        if at < 0 or len(end) - at < _END.size:
            raise ValueError(f"{path.name} cannot be unpacked: it is not a zip archive")
        count, length = _END.unpack_from(end, at)[4:6]
        zip64 = end[max(0, at - _ZIP64_BYTES) : at].startswith(_ZIP64_SIGNATURE)
        many = zip64 or count > MAX_FILES or length > MAX_DIRECTORY_BYTES
        if not many and length > MAX_FILES * _ENTRY_BYTES:
            file.seek(max(0, end_at + at - length))
            many = _has_many_entries(file.read(length))
    if many:
        raise ValueError(
            f"{path.name} lists more than {MAX_FILES:,} files, or in more than "
            f"{MAX_DIRECTORY_BYTES:,} bytes"
        )


def _has_many_entries(directory: bytes) -> bool:
    """Returns whether a central directory has more than `MAX_FILES` entries, by their lengths alone."""
    at = 0
    for _ in range(MAX_FILES):
        if at + _ENTRY_BYTES > len(directory):
            return False
        at += _ENTRY_BYTES + sum(_ENTRY_LENGTHS.unpack_from(directory, at + _ENTRY_LENGTHS_AT))
    return at < len(directory)


def _listed(archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """Yields the useful files of an archive, each with its path below the folder."""
    for info in archive.infolist():
        name = _place(info.filename)
        if name and not info.is_dir():
            yield info, name


def _place(name: str) -> str | None:
    """Returns the path of a wheel's file below the folder; None for files of no use in the sandbox."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts:
        raise ValueError(f"it names a path outside of its folder: {name!r}")
    if len(name) > MAX_PATH_CHARS:
        raise ValueError(f"it names a path of {len(name):,} characters: {name[:100]!r}...")
    if parts and parts[0].endswith(".data"):
        return "/".join(parts[2:]) if parts[1:2] in (("purelib",), ("platlib",)) else None
    return "/".join(parts)
