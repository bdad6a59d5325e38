"""The place of an index beside its text: a file or an object."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Protocol

from sandbox_runtime.texts.objects.kept_index import SUFFIX
from sandbox_runtime.texts.objects.store import MOST_WRITTEN_BYTES, Address, Store


class Place(Protocol):
    """The place of an index."""

    def read(self) -> bytes | None:
        """Returns the bytes that are there; None for none, or for more than are read."""

    def write(self, data: bytes) -> None:
        """Replaces what is there. Raises `OSError`."""


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes | None:
        with contextlib.suppress(OSError):
            if self._path.stat().st_size <= MOST_WRITTEN_BYTES:
                return self._path.read_bytes()
        return None

    def write(self, data: bytes) -> None:
        # Another process may read it meanwhile.
        number, name = tempfile.mkstemp(dir=self._path.parent, prefix=".dspy-rlm-")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


class _Object:
    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> bytes | None:
        with contextlib.suppress(OSError):
            return self._store.read_small(MOST_WRITTEN_BYTES)
        return None

    def write(self, data: bytes) -> None:
        self._store.write(data)


def kept_place(address: Address | None, path: Path) -> Place:
    """Returns the place beside a text."""
    if address is None:
        return _File(path.with_name(path.name + SUFFIX))
    return _Object(Store(address.beside(SUFFIX)))
