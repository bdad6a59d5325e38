"""Opening files and folders of others without being led elsewhere, or made to wait.

What stood in a folder when it was listed may be a link, a pipe or a device by the time it is opened. So
every name is opened from the folder that it is in, links are refused by the system, opening waits for
nobody, and the type is that of what was opened. Knows no texts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Windows has neither of them, and no pipes among its files.
_CAN_OPEN_BELOW = (
    os.open in os.supports_dir_fd and os.scandir in os.supports_fd and hasattr(os, "O_NOFOLLOW")
)

# Opening a pipe waits for its other end unless it is told not to; a terminal would become ours.
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
    """A descriptor of the regular file that a path leads to; the caller closes it.

    Raises:
        OSError: It cannot be opened, or is a pipe, a device, a socket or a folder.
    """
    # Looked at before as well: opening a device may already do something.
    _check_regular(Path(path).stat(), path)
    return _checked(os.open(path, _WITHOUT_WAITING), path)


def open_regular_below(root: Path, path: str) -> int:
    """The same for a path below a folder. Raises OSError also if a part of it is a link."""
    if not _CAN_OPEN_BELOW:
        return open_regular(_unlinked(root, path))
    *folders, name = path.split("/")
    with opened_folder(root, folders) as folder:
        return open_regular_in(folder, name)


def open_regular_in(folder: int, name: str) -> int:
    """The same for a name in a folder that is open. On POSIX only."""
    _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), name)
    return _checked(os.open(name, _WITHOUT_WAITING | _NO_LINK, dir_fd=folder), name)


@contextmanager
def opened_folder(root: Path, folders: Sequence[str]) -> Iterator[int]:
    """A descriptor of a folder below another, while the block runs. On POSIX only.

    Raises:
        OSError: It cannot be opened, or a part below `root` is a link.
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
    """The entries of a folder below another, and its descriptor, -1 where there is none."""
    if not _CAN_OPEN_BELOW:
        with os.scandir(_unlinked(root, "/".join(folders))) as entries:
            yield entries, -1
        return
    with opened_folder(root, folders) as folder, os.scandir(folder) as entries:
        yield entries, folder


def read_whole(descriptor: int, most: int) -> bytes | None:
    """Reads and closes the file; returns None if it has more than `most` bytes."""
    with open(descriptor, "rb", buffering=0) as file:
        parts, left = [], most + 1
        while left > 0 and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    data = b"".join(parts)
    return data if len(data) <= most else None


def _unlinked(root: Path, path: str) -> Path:
    full = root / path
    if Path(os.path.realpath(full)) != Path(os.path.realpath(root)) / path:
        raise FileNotFoundError(errno.ENOENT, "is a link, or below one", path)
    return full


def _checked(descriptor: int, path: str | os.PathLike[str]) -> int:
    try:
        _check_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(
        errno.EINVAL, "is no regular file, but a pipe, a device or the like", os.fspath(path)
    )
