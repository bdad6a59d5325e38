"""Opens untrusted files and folders without following links or blocking.

A file may be replaced by a link, a pipe or a device between listing and opening it. So every name is opened relative to
its folder, with O_NOFOLLOW and O_NONBLOCK, and its type is checked on the open descriptor. Knows no texts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Windows lacks these, but has no pipes in its file system.
_CAN_OPEN_BELOW = (
    os.open in os.supports_dir_fd and os.scandir in os.supports_fd and hasattr(os, "O_NOFOLLOW")
)

# Opening a pipe would block until its other end is open; a terminal would become our controlling terminal.
_WITHOUT_WAITING = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0)


def open_regular(path: str | os.PathLike[str]) -> int:
    """Opens the regular file at a path. Returns its descriptor, which the caller closes.

    Raises:
        OSError: It cannot be opened, or is a pipe, a device, a socket or a folder.
    """
    # Checked before as well: opening a device may already have an effect.
    _check_regular(Path(path).stat(), path)
    return _checked(os.open(path, _WITHOUT_WAITING), path)


def open_regular_below(root: Path, path: str) -> int:
    """Opens a regular file by its path below a folder. Also raises OSError if a part of the path is a link."""
    if not _CAN_OPEN_BELOW:
        return open_regular(_unlinked(root, path))
    *folders, name = path.split("/")
    with opened_folder(root, folders) as folder:
        return open_regular_in(folder, name)


def open_regular_in(folder: int, name: str) -> int:
    """Opens a regular file by its name in an open folder. POSIX only."""
    _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), name)
    return _checked(os.open(name, _WITHOUT_WAITING | _NO_LINK, dir_fd=folder), name)


@contextmanager
def opened_folder(root: Path, folders: Sequence[str]) -> Iterator[int]:
    """Opens a folder below another, while the block runs. POSIX only.

    Raises:
        OSError: It cannot be opened, or a part of the path below `root` is a link.
    """
    at = os.open(root, os.O_RDONLY | _FOLDER | os.O_CLOEXEC)
    try:
        for name in folders:
            above, at = (
                at,
                os.open(name, os.O_RDONLY | _FOLDER | _NO_LINK | os.O_CLOEXEC, dir_fd=at),
            )
            os.close(above)
        yield at
    finally:
        os.close(at)


@contextmanager
def scanned(root: Path, folders: Sequence[str]) -> Iterator[tuple[Iterator[os.DirEntry[str]], int]]:
    """Lists a folder below another: yields its entries and its descriptor, -1 on systems without one."""
    if not _CAN_OPEN_BELOW:
        with os.scandir(_unlinked(root, "/".join(folders))) as entries:
            yield entries, -1
        return
    with opened_folder(root, folders) as folder, os.scandir(folder) as entries:
        yield entries, folder


def read_whole(descriptor: int, most: int) -> bytes | None:
    """Reads and closes the file; returns None if it has more than `most` bytes."""
    with open(descriptor, "rb", buffering=0) as file:
        parts, remaining = [], most + 1
        while remaining > 0 and (part := file.read(remaining)):
            parts.append(part)
            remaining -= len(part)
    data = b"".join(parts)
    return data if len(data) <= most else None


def _unlinked(root: Path, path: str) -> Path:
    full = root / path
    if Path(os.path.realpath(full)) != Path(os.path.realpath(root)) / path:
        raise FileNotFoundError(errno.ENOENT, "is a symbolic link, or below one", path)
    return full


def _checked(descriptor: int, path: str | os.PathLike[str]) -> int:
    try:
        _check_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "is a symbolic link", os.fspath(path))
    raise OSError(
        errno.EINVAL, "is not a regular file, but a pipe, a device or the like", os.fspath(path)
    )
