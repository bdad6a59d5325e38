"""The user's cache of package sets.

The cache maps a list of requirements to its resolved set. Every file has a hash, and a damaged one is never used.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sandbox_runtime.engine import assets
from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages.lockfile import Pin, hashes_by_name, lock_text

BUNDLE_FILE = "packages.bundle"
# Of the cache. Sets of format 1 were resolved without `pip_guard.py`; those of a lock file in format 2 were held to
# the hashes that the package index stated.
FORMAT = 3

# Beside a set are the images that have it imported; if none can be built, a file says so.
IMAGE, NO_IMAGE = ".image", ".none"

_MANIFEST = "manifest.json"
_CHUNK_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Package:
    """One package of a set.

    Attributes:
        name: Its name at the index.
        version: Its version.
        file: The file name of its wheel.
        size: The size of the wheel in bytes.
        sha256: The digest of the wheel, as hexadecimal digits.
    """

    name: str
    version: str
    file: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class PackageSet:
    """Packages that were resolved together and are in the cache, ready to mount.

    Attributes:
        requirements: The requested packages.
        packages: The resolved packages, with all dependencies.
        imports: The top-level modules of the requested packages.
        key: A hash that changes with every byte of the set.
        folder: Its folder in the cache.
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
        """Returns a lock file for exactly these packages: a requirements file with hashes, for pip."""
        requested = [Requirement(line.partition(" --hash=")[0]) for line in self.requirements]
        addresses = {canonicalize_name(one.name): one.url for one in requested if one.url}
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
    """Returns the folder in the user's cache for packages of all sessions."""
    return assets.cache_root() / "packages"


def digest_of(value: object) -> str:
    """Returns a short hash of a JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def remembered(note: Path) -> PackageSet | None:
    """Returns the cached set of a request; None if there is none. Raises `PackageError` if damaged."""
    try:
        folder = note.parent / f"set-{json.loads(note.read_text(encoding='utf-8'))['set']}"
        return load(folder) if folder.is_dir() else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{note} cannot be read: {error}. {assets.PACKAGES_FIX}") from error


@functools.lru_cache(maxsize=64)
def load(folder: Path) -> PackageSet:
    """Reads a set, and compares every file with its hash: once per process."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        size, digest = manifest["bundle"]
        packages = PackageSet(
            requirements=tuple(manifest["requirements"]),
            packages=tuple(Package(**entry) for entry in manifest["packages"]),
            imports=tuple(manifest["imports"]),
            key=folder.name.removeprefix("set-"),
            folder=folder,
            bundle_bytes=size,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{folder} is damaged: {error}. {assets.PACKAGES_FIX}") from error
    verify(packages.bundle, size, digest)
    for package in packages.packages:
        verify(folder / package.file, package.size, package.sha256)
    return packages


def verify(path: Path, size: int, digest: str) -> None:
    """Raises `PackageError` if the file's size or hash has changed."""
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


def check_hashes(path: Path, accepted: Collection[str]) -> str:
    """Compares a wheel with the hashes that it may have, such as `sha512:...`, of which one must match.

    Returns:
        Its SHA-256.

    Raises:
        PackageError: It has none of them, or cannot be read.
    """
    kinds = {"sha256", *(one.partition(":")[0] for one in accepted)}
    digests = {kind: hashlib.new(kind) for kind in kinds}
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                for digest in digests.values():
                    digest.update(chunk)
    except OSError as error:
        raise PackageError(
            f"Cannot read {path}: {error.strerror}. {assets.PACKAGES_FIX}"
        ) from error
    sha256 = digests["sha256"].hexdigest()
    if not any(f"{kind}:{digest.hexdigest()}" in accepted for kind, digest in digests.items()):
        raise PackageError(
            f"{path.name} is not mounted: its SHA-256 is {sha256}, and it has none of the hashes that the lock "
            "file or the package index states. If you trust this file, write the lock file anew; otherwise "
            f"choose another package index. {assets.PACKAGES_FIX}"
        )
    return sha256


@functools.lru_cache(maxsize=64)
def check_lock(packages: PackageSet, pins: tuple[Pin, ...]) -> None:
    """Compares every wheel of a set with the hashes of a lock file: once per process.

    Raises:
        PackageError: A wheel has none of the hashes, or its package is not in the lock file.
    """
    versions = {canonicalize_name(one.name): one.version for one in packages.packages}
    accepted = hashes_by_name(pins, versions)
    for package in packages.packages:
        hashes = accepted.get(canonicalize_name(package.name), ())
        check_hashes(packages.folder / package.file, hashes)


def keep(workshop: Path, note: Path, manifest: Mapping[str, Any]) -> PackageSet:
    """Moves a new set and its index entry into the cache, each atomically."""
    text = json.dumps(manifest, indent=2) + "\n"
    key = digest_of(manifest)
    staged, folder = workshop / "set", note.parent / f"set-{key}"
    (staged / _MANIFEST).write_text(text, encoding="utf-8")
    try:
        staged.rename(folder)
    except OSError:
        # Another process has stored the same set; if it is damaged by now, ours replaces it.
        load.cache_clear()
        try:
            load(folder)
        except PackageError:
            folder.rename(workshop / "replaced")
            staged.rename(folder)
    for image in folder.glob(f"*{NO_IMAGE}"):
        image.unlink(missing_ok=True)  # requested again, so tried again
    pointer = workshop / "note.json"
    pointer.write_text(
        json.dumps({"requirements": manifest["requirements"], "set": key}) + "\n", encoding="utf-8"
    )
    pointer.replace(note)
    return load(folder)
