"""Packages for the sandbox: resolves, checks and caches the files to mount for `packages=["pydantic"]`.

pip resolves, on the host, for the sandbox's platform; Pyodide's own distribution is a further source.
No code of a package runs on the host: only wheels are accepted, which `pip_guard.py` enforces. The same list of
requirements means the same files, and needs no network, until a refresh is requested.
"""

from __future__ import annotations

import dataclasses
import os
import sys
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
    Pin,
    hashes_by_name,
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
    without_secrets,
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
    check_hashes,
    check_lock,
    digest_of,
    keep,
    remembered,
)

__all__ = ["Package", "PackageSet", "Wanted", "resolve"]

Wanted: TypeAlias = Iterable[str] | os.PathLike[str]
"""Requirements in pip's syntax, or the path of a lock file with hashes."""


def resolve(
    requirements: Wanted, *, refresh: bool = False, distribution: str | None = None
) -> PackageSet:
    """Resolves requirements for the sandbox, from the cache if they were resolved before.

    Args:
        requirements: In pip's syntax: `networkx`, `pydantic>=2`, `mine @ file:///.../mine.whl`. Or the
            path of a lock file: a requirements file with hashes, or a `pylock.toml`.
        refresh: Query the sources again, also for cached results.
        distribution: The base URL of Pyodide's own packages; None: the default.

    Raises:
        PackageError: A package cannot be resolved; says which and why.
    """
    request = _checked(requirements)
    root = cache_folder()
    key = [FORMAT, PLATFORM, PYTHON_VERSION, *request.lines]
    note = root / f"request-{digest_of(key)}.json"
    if not refresh and (cached := remembered(note)) is not None:
        return _held_to_lock(cached, request)
    try:
        with staging(root) as workshop:
            resolved = _held_to_lock(
                _resolve(request, note, workshop, place_of(distribution)), request
            )
            names = ", ".join(f"{item.name} {item.version}" for item in resolved.packages)
            record("packages.resolved", packages=names, locked=request.locked)
            return resolved
    except OSError as error:
        raise PackageError(
            f"Packages cannot be kept below {root}: {error.strerror or error}. Free space or give "
            "write access there, or point XDG_CACHE_HOME at a folder that has both."
        ) from error


@dataclasses.dataclass(frozen=True)
class _Request:
    """Requirements in a canonical order and spelling."""

    lines: tuple[str, ...]
    addresses: tuple[str, ...]
    """The URLs of the requirements that name one."""

    pins: tuple[Pin, ...] = ()
    """The packages of the lock file, if the lines are those of one."""

    @property
    def locked(self) -> bool:
        """True if the lines are those of a lock file, with hashes."""
        return bool(self.pins)


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
            safe = without_secrets(repr(text))
            raise PackageError(f"{safe} is not a requirement that pip accepts: {reason}") from error
        if requirement.url and not is_wheel_address(requirement.url):
            raise PackageError(
                f"{without_secrets(text)!r} does not name a wheel; building it could "
                "execute its code on this machine."
            )
        checked[str(requirement)] = requirement
    if not checked:
        raise PackageError("packages names no package.")
    addresses = tuple(one.url for one in checked.values() if one.url)
    return _Request(tuple(sorted(checked)), addresses)


def _locked(path: Path) -> _Request:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
    except OSError as error:
        raise PackageError(f"Cannot read {path}: {error.strerror}.") from error
    pins = tuple(read_lock(path.name, data))
    addresses = (Requirement(pin.requirement).url for pin in pins)
    return _Request(tuple(pin.line for pin in pins), tuple(one for one in addresses if one), pins)


def _held_to_lock(found: PackageSet, request: _Request) -> PackageSet:
    """Returns the set, every wheel of which has a hash of the lock file, if the request is one.

    The cache is no authority on this: a set is compared whether it is new or was there.
    """
    if request.locked:
        check_lock(found, request.pins)
    return found


def _resolve(request: _Request, note: Path, workshop: Path, place: str) -> PackageSet:
    results, sources, listed = _ask_sources(request, workshop, place)
    if not results:
        raise PackageError(
            f"{', '.join(request.lines)}: the markers say that the sandbox needs none."
        )
    results = as_named(results, request.addresses)
    folder = workshop / "set"
    accepted = _accepted_hashes(results, request)
    download(results, accepted, folder, workshop, sources, place)
    packages = [_package(one, folder, accepted) for one in results]
    libraries = fetch_libraries(results, listed, place, folder)
    own = _requested(results, request)
    try:
        files = [folder / package.file for package in packages]
        for one, path in zip(results, files, strict=True):
            _check_metadata(one, wheels.metadata_of(path), results)
        bundle = wheels.write_bundle(folder / BUNDLE_FILE, files, libraries)
        imports = {
            name
            for one, path in zip(results, files, strict=True)
            if canonicalize_name(one.name) in own
            for name in wheels.top_level_modules(path)
        }
    except ValueError as error:
        raise PackageError(f"A package cannot be used: {error}") from error
    manifest = {
        "requirements": [without_secrets(line) for line in request.lines],
        "packages": [dataclasses.asdict(package) for package in packages],
        "imports": sorted(imports),
        "bundle": bundle,
    }
    return keep(workshop, note, manifest)


def _accepted_hashes(
    results: Sequence[SearchResult], request: _Request
) -> Mapping[NormalizedName, Sequence[str]]:
    """Returns the hashes that the file of each package may have.

    With a lock file these are its own. pip's report has what the package index states, which says nothing about the
    file that pip has compared with the lock file.
    """
    if not request.locked:
        return {canonicalize_name(one.name): (f"sha256:{one.sha256}",) for one in results}
    versions = {canonicalize_name(one.name): one.version for one in results}
    accepted = hashes_by_name(request.pins, versions)
    if missing := versions.keys() - accepted.keys():
        raise PackageError(
            f"pip would install {', '.join(sorted(missing))}, which the lock file does not have. Write "
            "the lock file anew."
        )
    return accepted


def _requested(results: Sequence[SearchResult], request: _Request) -> set[NormalizedName]:
    """Returns the requested packages by normalized name, without their dependencies.

    A lock file does not distinguish them: there, the packages that no other one requires count as requested.
    """
    if request.locked:
        return roots({one.name: one.requires for one in results})
    return {canonicalize_name(one.name) for one in results if one.requested}


def _check_metadata(
    one: SearchResult, own: wheels.Metadata, results: Sequence[SearchResult]
) -> None:
    """Raises `ValueError` if a wheel's metadata differs from the index, or a dependency is missing."""
    try:
        same = Version(own.version) == Version(one.version)
    except InvalidVersion as error:
        raise ValueError(str(error)) from error
    same = same and canonicalize_name(own.name) == canonicalize_name(one.name)
    if not same or _normal(own.requires) != _normal(one.requires):
        raise ValueError(
            f"the metadata in {one.file} differs from the package index, or from the file's name"
        )
    there = {canonicalize_name(other.name) for other in results}
    for line in own.requires:
        if (needed := needed_here(line)) is not None and needed not in there:
            raise ValueError(
                f"{one.name} requires {needed}, which is not among the resolved packages: a lock file "
                f"lacks it, or the metadata of {one.name} in the package index differs from the wheel's own"
            )


def _normal(requires: Iterable[str]) -> set[str]:
    return {"".join(line.split()) for line in requires}


def _ask_sources(
    request: _Request, workshop: Path, place: str
) -> tuple[list[SearchResult], list[str], Mapping[str, Entry]]:
    """Resolves with pip's indexes, else with these and Pyodide's distribution.

    Returns:
        pip's report on each package, the options that name the sources, and Pyodide's own packages.
    """
    result = report(request.lines, workshop, [], locked=request.locked)
    if not isinstance(result, str):
        return result, [], {}
    missing = missing_name(result)
    reason = explain(result, missing)
    if missing is None:
        raise PackageError(reason)
    locked = locked_packages()
    listed = locked.get(canonicalize_name(missing))
    if listed is None and missing in sys.stdlib_module_names:
        raise PackageError(
            f"{missing} is a part of Python's standard library, which cells can import as it is. Leave it out "
            "of packages."
        )
    if listed is None or not str(listed["file_name"]).endswith(".whl"):
        raise PackageError(f"{reason} Pyodide's own distribution does not have it either.")
    page = workshop / "pyodide.html"
    page.write_text(links_page(locked, place), encoding="utf-8")
    sources = ["--find-links", str(page)]
    again = report(request.lines, workshop, sources, locked=request.locked)
    if isinstance(again, str):
        own = f"Pyodide's own distribution has {missing} {listed['version']}"
        match missing_name(again):
            case None:
                also = f"{own}, but it cannot be fetched from {without_secrets(place)}: {last_words(again)}"
            case still if still == missing:
                also = f"{own} only."
            case other:
                also = f"{own}, but {explain(again, other)}"
        raise PackageError(f"{reason} {also}")
    return again, sources, locked


def _package(
    one: SearchResult, folder: Path, accepted: Mapping[NormalizedName, Sequence[str]]
) -> Package:
    """Returns the downloaded wheel of a package, which has one of the accepted hashes."""
    path = folder / one.file
    if not path.is_file():
        raise PackageError(f"pip did not fetch {one.file}.")
    digest = check_hashes(path, accepted[canonicalize_name(one.name)])
    return Package(one.name, one.version, one.file, path.stat().st_size, digest)
