"""Packages for the sandbox: what to mount for `packages=["pydantic"]`, resolved, checked and cached.

pip resolves, on the host, for the sandbox's platform; Pyodide's own distribution is a further source.
Nothing of a package runs on the host: only wheels are taken, and `pip_guard.py` holds pip to that. The
same list of requirements means the same files, and needs no network, until a refresh is asked for.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from sandbox_runtime.audit import record
from sandbox_runtime.engine.atomic_folder import staging
from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages import wheels
from sandbox_runtime.packages.lockfile import (
    MAX_LOCK_BYTES,
    is_wheel_address,
    needed_here,
    read_lock,
    roots,
)
from sandbox_runtime.packages.pip import PYTHON_VERSION, download, report
from sandbox_runtime.packages.pip_errors import (
    explain,
    last_words,
    missing_name,
    without_credentials,
)
from sandbox_runtime.packages.pip_report import SearchResult, as_named
from sandbox_runtime.packages.pip_shim import PLATFORM
from sandbox_runtime.packages.pyodide_index import (
    Entry,
    fetch_libraries,
    links_page,
    locked_packages,
    place_of,
)
from sandbox_runtime.packages.store import (
    BUNDLE_FILE,
    FORMAT,
    Package,
    PackageSet,
    cache_folder,
    digest_of,
    keep,
    remembered,
    verify,
)

__all__ = ["Package", "PackageSet", "Wanted", "resolve"]

Wanted: TypeAlias = Iterable[str] | os.PathLike[str]
"""Requirements as pip takes them, or the path of a lock file with hashes."""


def resolve(
    requirements: Wanted, *, refresh: bool = False, distribution: str | None = None
) -> PackageSet:
    """Resolves requirements for the sandbox, from the cache if they were resolved before.

    Args:
        requirements: As pip takes them: `networkx`, `pydantic>=2`, `mine @ file:///.../mine.whl`. Or the
            path of a lock file: a requirements file with hashes, or a `pylock.toml`.
        refresh: Ask the sources again, also for what the cache remembers.
        distribution: Where Pyodide's own packages are; None: at their usual place.

    Raises:
        PackageError: One cannot be had; says which and why.
    """
    wanted = _checked(requirements)
    root = cache_folder()
    asked = [FORMAT, PLATFORM, PYTHON_VERSION, *wanted.lines]
    note = root / f"request-{digest_of(asked)}.json"
    if not refresh and (known := remembered(note)) is not None:
        return known
    try:
        with staging(root) as workshop:
            found = _resolve(wanted, note, workshop, place_of(distribution))
            names = ", ".join(f"{item.name} {item.version}" for item in found.packages)
            record("packages.resolved", packages=names, locked=wanted.locked)
            return found
    except OSError as error:
        raise PackageError(
            f"Packages cannot be kept below {root}: {error.strerror or error}. Free space or give "
            "write access there, or point XDG_CACHE_HOME at a folder that has both."
        ) from error


@dataclasses.dataclass(frozen=True)
class _Request:
    """Returns the requirements in a canonical order and spelling."""

    lines: tuple[str, ...]
    locked: bool
    """The lines are a lock file's, with hashes."""

    addresses: tuple[str, ...]
    """Returns the requirements that name an address."""


def _checked(requirements: Wanted) -> _Request:
    if isinstance(requirements, os.PathLike):
        return _locked(Path(requirements))
    if isinstance(requirements, str):
        raise PackageError(f'packages is a list of names: write ["{requirements}"].')
    checked: dict[str, Requirement] = {}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, TypeError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            shown = without_credentials(repr(text))
            raise PackageError(f"{shown} is not a requirement that pip takes: {reason}") from error
        if requirement.url and not is_wheel_address(requirement.url):
            raise PackageError(
                f"{without_credentials(text)!r} names something else than a wheel; to build it could "
                "run its code here."
            )
        checked[str(requirement)] = requirement
    if not checked:
        raise PackageError("packages names no package.")
    addresses = tuple(one.url for one in checked.values() if one.url)
    return _Request(tuple(sorted(checked)), False, addresses)


def _locked(path: Path) -> _Request:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
    except OSError as error:
        raise PackageError(f"Cannot read {path}: {error.strerror}.") from error
    pins = read_lock(path.name, data)
    addresses = (Requirement(pin.requirement).url for pin in pins)
    return _Request(tuple(pin.line for pin in pins), True, tuple(one for one in addresses if one))


def _resolve(wanted: _Request, note: Path, workshop: Path, place: str) -> PackageSet:
    found, sources, listed = _ask_sources(wanted, workshop, place)
    if not found:
        raise PackageError(
            f"{', '.join(wanted.lines)}: the markers say that the sandbox needs none."
        )
    found = as_named(found, wanted.addresses)
    made = workshop / "set"
    download(found, made, workshop, sources, place)
    packages = [_package(one, made) for one in found]
    libraries = fetch_libraries(found, listed, place, made)
    own = _asked_for(found, wanted)
    try:
        files = [made / package.file for package in packages]
        for one, path in zip(found, files, strict=True):
            _check_metadata(one, wheels.metadata_of(path), found)
        bundle = wheels.write_bundle(made / BUNDLE_FILE, files, libraries)
        imports = {
            name
            for one, path in zip(found, files, strict=True)
            if canonicalize_name(one.name) in own
            for name in wheels.top_level_modules(path)
        }
    except ValueError as error:
        raise PackageError(f"A package cannot be used: {error}") from error
    manifest = {
        "requirements": [without_credentials(line) for line in wanted.lines],
        "packages": [dataclasses.asdict(package) for package in packages],
        "imports": sorted(imports),
        "bundle": bundle,
    }
    return keep(workshop, note, manifest)


def _asked_for(found: Sequence[SearchResult], wanted: _Request) -> set[NormalizedName]:
    """The packages that the user wants, by normal name, rather than those that they need.

    A lock file does not tell them apart: there, what nothing else requires is wanted.
    """
    if wanted.locked:
        return roots({one.name: one.requires for one in found})
    return {canonicalize_name(one.name) for one in found if one.requested}


def _check_metadata(one: SearchResult, own: wheels.Metadata, found: Sequence[SearchResult]) -> None:
    """Sees that a wheel is what the index said of it, and has what it needs. Raises `ValueError`."""
    try:
        same = Version(own.version) == Version(one.version)
    except InvalidVersion as error:
        raise ValueError(str(error)) from error
    same = same and canonicalize_name(own.name) == canonicalize_name(one.name)
    if not same or _normal(own.requires) != _normal(one.requires):
        raise ValueError(
            f"the metadata in {one.file} is not what the package index, or the file's name, says of it"
        )
    there = {canonicalize_name(other.name) for other in found}
    for line in own.requires:
        if (needed := needed_here(line)) is not None and needed not in there:
            raise ValueError(
                f"{one.name} requires {needed}, which is not among what was resolved: a lock file lacks "
                f"it, or the metadata that the package index has of {one.name} is not the wheel's own"
            )


def _normal(requires: Iterable[str]) -> set[str]:
    return {"".join(line.split()) for line in requires}


def _ask_sources(
    wanted: _Request, workshop: Path, place: str
) -> tuple[list[SearchResult], list[str], Mapping[str, Entry]]:
    """Resolves with pip's indexes, else with these and Pyodide's distribution.

    Returns:
        pip's report on each package, the options that name the sources, and Pyodide's own packages.
    """
    asked = report(wanted.lines, workshop, [], locked=wanted.locked)
    if not isinstance(asked, str):
        return asked, [], {}
    missing = missing_name(asked)
    reason = explain(asked, missing)
    if missing is None:
        raise PackageError(reason)
    locked = locked_packages()
    listed = locked.get(canonicalize_name(missing))
    if listed is None or not str(listed["file_name"]).endswith(".whl"):
        raise PackageError(f"{reason} Pyodide's own distribution does not have it either.")
    page = workshop / "pyodide.html"
    page.write_text(links_page(locked, place), encoding="utf-8")
    sources = ["--find-links", str(page)]
    again = report(wanted.lines, workshop, sources, locked=wanted.locked)
    if isinstance(again, str):
        own = f"Pyodide's own distribution has {missing} {listed['version']}"
        match missing_name(again):
            case None:
                also = f"{own}, but it cannot be taken from {place}: {last_words(again)}"
            case still if still == missing:
                also = f"{own} only."
            case other:
                also = f"{own}, but {explain(again, other)}"
        raise PackageError(f"{reason} {also}")
    return again, sources, locked


def _package(one: SearchResult, folder: Path) -> Package:
    """The downloaded wheel of a package, seen to be what pip has reported."""
    path = folder / one.file
    if not path.is_file():
        raise PackageError(f"pip did not fetch {one.file}.")
    size = path.stat().st_size
    verify(path, size, one.sha256)
    return Package(one.name, one.version, one.file, size, one.sha256)
