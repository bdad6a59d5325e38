"""A folder of texts as an input: listed once; cells reach only listed files.

A cell's path is looked up in the list and never used as a path. The folder is untrusted, including its names and
its `.gitignore` files: all work is bounded.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sandbox_runtime.errors import TextChangedError
from sandbox_runtime.texts.bytes import DiskAllowance, FileBytes, UnreadableTextError
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.globs import glob_matcher
from sandbox_runtime.texts.lazy_text import TextFile, check_stamp
from sandbox_runtime.texts.listing.walk import LeftOut, Listing
from sandbox_runtime.texts.objects.listing import listed_objects
from sandbox_runtime.texts.objects.ranges import ObjectBytes
from sandbox_runtime.texts.objects.store import Address, Stamp, Store, address_of, local_path
from sandbox_runtime.texts.regular_files import open_regular_below

# Bytes on disk of the compressed and converted files of a folder that are in use.
MAX_CONVERTED_BYTES = 8 * 1024**3


class Directory:
    """The files of a folder, or the objects below an address, as an input, by their paths below it. They stay where they are.

    Hidden files and folders, files ignored by `.gitignore`, symbolic links, and everything that is not a regular
    file are left out. A hard link is an ordinary file.
    """

    address: Address | None
    """The address below which its objects are; None for a folder."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        pattern: str = "**/*",
        *,
        gitignore: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Checks that the folder exists; it is listed at first use. Objects are listed at once.

        Args:
            path: The folder, or the address below which objects are: `s3://bucket/folder`, `gs://`, `az://`. See `TextFile`.
            pattern: A glob such as `src/**/*.py`: `**` for any folders, `*` within a name.
            gitignore: Whether to apply `.gitignore` files, and if the folder lies in a repository, those above it and
                `.git/info/exclude` too. Not for objects.
            storage_options: Options of the objects' store; see `TextFile`.

        Raises:
            FileNotFoundError: The path does not exist, or there are no objects below the address.
            NotADirectoryError: The path is not a folder.
            OSError: The objects cannot be listed.
            ValueError: The pattern is too long, or there are too many objects.
            ModuleNotFoundError: Objects are named, and the package obstore is not installed.
        """
        self.address = address_of(path, storage_options)
        self.root = Path(self.address.path) if self.address else Path(local_path(path)).absolute()
        if self.address is None:
            if not self.root.exists():
                raise FileNotFoundError(f"There is no folder {path}.")
            if not self.root.is_dir():
                raise NotADirectoryError(
                    f"{path} is not a folder. TextFile(path) takes a single file."
                )
        self.name = self.address.name if self.address else self.root.name
        self.pattern = pattern
        self._matches = glob_matcher(pattern)
        self.gitignore = gitignore
        self._lock = threading.Lock()  # guards the fields below, except `_passed_over`
        self._sizes: dict[str, int] | None = None
        self._expected: str | None = (
            None  # the digest of the listing that was made where it comes from
        )
        self._left_out: Counter[str] = Counter()
        self._passed: Sequence[LeftOut] = ()
        # Weak references: a search through a million files must not keep them all.
        self._files: weakref.WeakValueDictionary[str, TextFile] = weakref.WeakValueDictionary()
        self._allowance = DiskAllowance(MAX_CONVERTED_BYTES)
        # Needs no lock: concurrent checks of a file get the same result.
        self._passed_over: dict[str, str] = {}
        self._stamps: dict[str, Stamp] = {}  # of objects
        if self.address is not None and not self.sizes():
            raise FileNotFoundError(
                f"There are no objects below {self.address.shown}"
                + (f" that match {pattern}." if pattern != "**/*" else ".")
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the path: another process lists the folder itself, and refuses it if it differs from a listing made here."""
        with self._lock:
            listing = self._expected if self._sizes is None else self._digest_of(self._sizes)
        place, options = str(self.root), {}
        if self.address is not None:
            place, options = self.address.url, self.address.sent_options
        return _arrived, (place, self.pattern, self.gitignore, listing, options)

    def __repr__(self) -> str:
        return f"<Directory {self.name!r}, {self.size}>"

    def __iter__(self) -> Iterator[str]:
        """Yields the paths of the files that cells can read, sorted."""
        return iter(self.sizes())

    def __len__(self) -> int:
        """Returns the number of files."""
        return len(self.sizes())

    def __bool__(self) -> bool:
        """Returns True, also for an empty folder, without listing it."""
        return True

    def __contains__(self, path: object) -> bool:
        """Returns True if cells can read the file."""
        return path in self.sizes()

    @property
    def size(self) -> str:
        """Describes the size in words, including what had to be left out."""
        sizes = self.sizes()
        left_out = "".join(
            f"; left out: {n:,} {what}" for what, n in sorted(self._left_out.items())
        )
        return f"{len(sizes):,} files, {sum(sizes.values()):,} bytes{left_out}"

    def sizes(self, deadline: Deadline | None = None) -> Mapping[str, int]:
        """Returns the bytes of each file by path, sorted; lists the folder at the first call.

        Raises:
            OSError: The folder itself cannot be listed. Unreadable subfolders are left out.
            ValueError: The folder exceeds a bound.
        """
        deadline = deadline or Deadline()
        with deadline.holding(self._lock):
            if self._sizes is None and self.address is not None:
                self._stamps, self._left_out = listed_objects(
                    Store(self.address), self._matches, deadline
                )
                sizes = {path: stamp.size for path, stamp in self._stamps.items()}
                self._check(self._digest_of(sizes))
                self._sizes = sizes
            elif self._sizes is None:
                listing = Listing(self.root, self._matches, deadline, gitignore=self.gitignore)
                sizes = dict(sorted(listing.files()))
                self._check(self._digest_of(sizes))
                self._sizes = sizes
                self._left_out = listing.left_out
                self._passed = tuple(listing.passed)
            return self._sizes

    def _digest_of(self, sizes: Mapping[str, int]) -> str:
        """Returns the digest of a listing. Objects are known by their tags too."""
        return _digest({path: (size, self._stamps.get(path)) for path, size in sizes.items()})

    def _check(self, digest: str) -> None:
        if self._expected is not None and digest != self._expected:
            raise TextChangedError(
                f"{self.address.shown if self.address else self.root} has other files, or files of another size, than where it "
                "was listed first."
            )

    def left_out(self, deadline: Deadline | None = None) -> Sequence[LeftOut]:
        """Returns the entries of the folder that are no files of it, with the reason; the first thousand of them."""
        self.sizes(deadline)
        return self._passed

    def omissions(self, deadline: Deadline | None = None) -> Mapping[str, int]:
        """Returns what had to be left out by its kind, such as folders that cannot be read; usually nothing."""
        self.sizes(deadline)
        return dict(self._left_out)

    def file(self, path: str, deadline: Deadline | None = None) -> TextFile:
        """Returns a listed file. Raises `KeyError` for any other path."""
        deadline = deadline or Deadline()
        if path not in self.sizes(deadline):
            raise KeyError(f"there is no file {path[:200]!r} in this directory; see its paths()")
        with deadline.holding(self._lock):
            file = self._files.get(path)
            if file is None:
                self._files[path] = file = self._opened(path)
            return file

    def tag(self, path: str) -> str:
        """Returns the tag by which an object is known; "" for a file."""
        stamp = self._stamps.get(path)
        return "" if stamp is None else stamp.tag

    def _opened(self, path: str) -> TextFile:
        if self.address is None:
            return DirectoryFile(self.root, path, self._allowance)
        address = Address(f"{self.address.url.rstrip('/')}/{path}", self.address.options)
        return DirectoryObject(address, path, self._stamps[path], self._allowance)

    def not_text(self, path: str, deadline: Deadline | None = None) -> str:
        """Returns why searches pass a file over, such as "a PNG image"; "" for a text."""
        if path not in self._passed_over:
            try:
                self._passed_over[path] = self.file(path, deadline).binary
            except (
                UnreadableTextError
            ) as error:  # compressed, and damaged or of an unsupported kind
                self._passed_over[path] = str(error)
        return self._passed_over[path]


class DirectoryFile(TextFile):
    """A file of a directory, named by its relative path."""

    def __init__(self, root: Path, path: str, allowance: DiskAllowance) -> None:
        """Examines the file. Raises OSError if it was removed or replaced since it was listed."""
        self.path = root / path
        self._root, self._below = root, path
        file = FileBytes(partial(open_regular_below, root, path), path)
        self._open(file, path, None, allowance)
        _note_binary(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """See `TextFile.__reduce__`."""
        return _file_arrived, (str(self._root), self._below, self.stamp)


class DirectoryObject(TextFile):
    """An object below the address of a directory, named by its path below it."""

    def __init__(self, address: Address, path: str, stamp: Stamp, allowance: DiskAllowance) -> None:
        """Examines the object. Raises OSError if it cannot be read, TextChangedError if it has changed since it was listed."""
        self.address = address
        self.path = Path(address.path)
        self._below = path
        self._open(ObjectBytes(Store(address), stamp), path, None, allowance)
        _note_binary(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """See `TextFile.__reduce__`."""
        address = Address(self.address.url, self.address.sent_options) if self.address else None
        return _object_arrived, (address, self._below, self.stamp)


def _object_arrived(address: Address, path: str, stamp: Stamp) -> DirectoryObject:
    return DirectoryObject(address, path, stamp, DiskAllowance(MAX_CONVERTED_BYTES))


def _note_binary(file: TextFile) -> None:
    if file.binary:
        file.note = "; ".join(filter(None, (file.binary, file.note)))


def _file_arrived(root: str, path: str, stamp: tuple[int, int]) -> DirectoryFile:
    file = DirectoryFile(Path(root), path, DiskAllowance(MAX_CONVERTED_BYTES))
    check_stamp(str(file.path), file.stamp, stamp)
    return file


def _arrived(
    path: str, pattern: str, gitignore: bool, listing: str | None, options: Mapping[str, Any]
) -> Directory:
    directory = Directory(path, pattern, gitignore=gitignore, storage_options=options)
    directory._expected = listing
    if directory.address is not None and listing is not None:  # it is listed already
        directory._check(directory._digest_of(directory.sizes()))
    return directory


def _digest(listing: Mapping[str, tuple[int, Stamp | None]]) -> str:
    """Returns a digest of a listing."""
    digest = hashlib.sha256()
    for path, (size, stamp) in listing.items():
        tag = "" if stamp is None else f" {stamp.tag}"
        digest.update(f"{size}{tag} {path}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
