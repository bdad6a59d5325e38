"""Packages that were resolved together, as they lie in the user's cache.

The cache remembers what a list of requirements came to. Everything in it has a hash, and what is
damaged is never used.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sandbox_runtime.engine import assets
from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages.lockfile import lock_text

BUNDLE_FILE = "packages.bundle"
FORMAT = 2  # of what lies in the cache; sets of format 1 were resolved without `pip_guard.py`

# Beside a set lie the images that have it imported; where none can be made, a file says so.
IMAGE, NO_IMAGE = ".image", ".none"

_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Package:
    """One package of a set: its wheel's file name, size in bytes and SHA-256."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class PackageSet:
    """Packages that were resolved together and lie in the cache, ready to mount.

    Attributes:
        requirements: What was asked for.
        packages: What it came to, with all that it depends on.
        imports: The modules that the packages asked for put at the top.
        key: Changes with every byte of it.
        folder: Where it lies.
        bundle_bytes: The size of all files together.
    """

    requirements: tuple[str, ...]
    packages: tuple[Package, ...]
    imports: tuple[str, ...]
    key: str
    folder: Path
    bundle_bytes: int

    @property
    def bundle(self) -> Path:
        """The file that is mounted."""
        return self.folder / BUNDLE_FILE

    def lock(self) -> str:
        """A lock file for exactly these packages: a requirements file with hashes, as pip takes it."""
        named = [Requirement(line.partition(" --hash=")[0]) for line in self.requirements]
        addresses = {canonicalize_name(one.name): one.url for one in named if one.url}
        return lock_text(
            (
                f"{package.name} @ {url}" if url else f"{package.name}=={package.version}",
                package.sha256,
            )
            for package in self.packages
            for url in [addresses.get(canonicalize_name(package.name))]
        )

    def __str__(self) -> str:
        return ", ".join(f"{package.name} {package.version}" for package in self.packages)


def cache_folder() -> Path:
    """The folder in the user's cache for packages of all sessions."""
    return assets.cache_root() / "packages"


def digest_of(value: object) -> str:
    """A short name for a JSON value, which changes with it."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def remembered(note: Path) -> PackageSet | None:
    """The set that a request came to; None if it was never asked. Raises `PackageError` if damaged."""
    try:
        folder = note.parent / f"set-{json.loads(note.read_text(encoding='utf-8'))['set']}"
        return load(folder) if folder.is_dir() else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{note} cannot be read: {error}. {assets.PACKAGES_FIX}") from error


@functools.lru_cache(maxsize=64)
def load(folder: Path) -> PackageSet:
    """Reads a set, and compares every file with its hash: once in a process."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        size, digest = manifest["bundle"]
        found = PackageSet(
            requirements=tuple(manifest["requirements"]),
            packages=tuple(Package(**entry) for entry in manifest["packages"]),
            imports=tuple(manifest["imports"]),
            key=folder.name.removeprefix("set-"),
            folder=folder,
            bundle_bytes=size,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{folder} is damaged: {error}. {assets.PACKAGES_FIX}") from error
    verify(found.bundle, size, digest)
    for package in found.packages:
        verify(folder / package.file, package.size, package.sha256)
    return found


def verify(path: Path, size: int, digest: str) -> None:
    """Raises `PackageError` for a file that is not what it was."""
    try:
        with path.open("rb") as file:
            same = path.stat().st_size == size
            same = same and hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError as error:
        raise PackageError(
            f"Cannot read {path}: {error.strerror}. {assets.PACKAGES_FIX}"
        ) from error
    if not same:
        raise PackageError(f"{path} is damaged: its hash does not match. {assets.PACKAGES_FIX}")


def keep(workshop: Path, note: Path, manifest: Mapping[str, Any]) -> PackageSet:
    """Gives what was made its names, each in one step."""
    text = json.dumps(manifest, indent=2) + "\n"
    key = digest_of(manifest)
    made, folder = workshop / "set", note.parent / f"set-{key}"
    (made / _MANIFEST).write_text(text, encoding="utf-8")
    try:
        made.rename(folder)
    except OSError:
        # Another has made the same one; but if it is not sound any more, ours takes its place.
        load.cache_clear()
        try:
            load(folder)
        except PackageError:
            folder.rename(workshop / "replaced")
            made.rename(folder)
    for image in folder.glob(f"*{NO_IMAGE}"):
        image.unlink(missing_ok=True)  # asked for anew, so tried anew
    pointer = workshop / "note.json"
    pointer.write_text(
        json.dumps({"requirements": manifest["requirements"], "set": key}) + "\n", encoding="utf-8"
    )
    pointer.replace(note)
    return load(folder)
