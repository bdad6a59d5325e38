"""Packages for the sandbox: what to mount for `packages=["pydantic"]`, resolved, checked and cached.

pip resolves, on the host, for the sandbox's platform; Pyodide's own distribution is a further source.
Nothing of a package runs on the host: only wheels are taken. The same list of requirements means the
same files, and needs no network, until a refresh is asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sandbox_runtime import wheels
from sandbox_runtime.distribution import (
    Entry,
    fetch_libraries,
    links_page,
    locked_packages,
    place_of,
)
from sandbox_runtime.errors import PackageError
from sandbox_runtime.package_sets import (
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
from sandbox_runtime.pip_for_sandbox import PLATFORM
from sandbox_runtime.pip_log import explain, last_words, missing_name
from sandbox_runtime.pip_runs import PYTHON_VERSION, Found, download, report, sha256_of
from sandbox_runtime.staging import staging

__all__ = ["Package", "PackageSet", "resolve"]


def resolve(
    requirements: Iterable[str], *, refresh: bool = False, distribution: str | None = None
) -> PackageSet:
    """What a list of requirements comes to in the sandbox, from the cache if it was asked before.

    Args:
        requirements: As pip takes them: `networkx`, `pydantic>=2`, `mine @ file:///.../mine.whl`.
        refresh: Ask the sources again, also for what the cache remembers.
        distribution: Where Pyodide's own packages are; None: at their usual place.

    Raises:
        PackageError: One cannot be had; says which and why.
    """
    wanted = _checked(requirements)
    root = cache_folder()
    note = root / f"request-{digest_of([FORMAT, PLATFORM, PYTHON_VERSION, *wanted])}.json"
    if not refresh and (known := remembered(note)) is not None:
        return known
    try:
        with staging(root) as workshop:
            return _resolve(wanted, note, workshop, place_of(distribution))
    except OSError as error:
        raise PackageError(
            f"Packages cannot be kept below {root}: {error.strerror or error}. Free space or give "
            "write access there, or point XDG_CACHE_HOME at a folder that has both."
        ) from error


def _checked(requirements: Iterable[str]) -> list[str]:
    """The requirements in one order and spelling."""
    if isinstance(requirements, str):
        raise PackageError(f'packages is a list of names: write ["{requirements}"].')
    checked = set()
    for text in requirements:
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise PackageError(f"{text!r} is not a requirement that pip takes: {reason}") from error
        if requirement.url and not urlsplit(requirement.url).path.endswith(".whl"):
            raise PackageError(
                f"{text!r} names something else than a wheel; to build it could run its code here."
            )
        checked.add(str(requirement))
    if not checked:
        raise PackageError("packages names no package.")
    return sorted(checked)


def _resolve(wanted: list[str], note: Path, workshop: Path, place: str) -> PackageSet:
    found, sources, locked = _ask_sources(wanted, workshop, place)
    if not found:
        raise PackageError(f"{', '.join(wanted)}: the markers say that the sandbox needs none.")
    made = workshop / "set"
    download(found, made, workshop, sources, place)
    packages = [_package(item, made) for item in found]
    libraries = fetch_libraries(found, locked, place, made)
    try:
        files = [made / package.file for package in packages]
        bundle = wheels.bundle(files, libraries)
        imports = sorted(
            {
                name
                for item, path in zip(found, files, strict=True)
                if item.get("requested")
                for name in wheels.top_level_modules(path)
            }
        )
    except ValueError as error:
        raise PackageError(f"A package cannot be used: {error}") from error
    (made / BUNDLE_FILE).write_bytes(bundle)
    manifest = {
        "requirements": wanted,
        "packages": [dataclasses.asdict(package) for package in packages],
        "imports": imports,
        "bundle": [len(bundle), hashlib.sha256(bundle).hexdigest()],
    }
    return keep(workshop, note, manifest)


def _ask_sources(
    wanted: list[str], workshop: Path, place: str
) -> tuple[list[Found], list[str], Mapping[str, Entry]]:
    """What pip finds at its indexes, else there and in Pyodide's distribution.

    Returns:
        pip's report on each package, the options that name the sources, and Pyodide's own packages.
    """
    asked = report(wanted, workshop, [])
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
    again = report(wanted, workshop, sources)
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


def _package(item: Found, folder: Path) -> Package:
    """The downloaded wheel of a package, seen to be what pip has reported."""
    url = urlsplit(str(item["download_info"]["url"]))
    file = unquote(url.path).rsplit("/", 1)[-1]
    path, digest = folder / file, sha256_of(item)
    if not path.is_file():
        raise PackageError(f"pip did not fetch {file}.")
    size = path.stat().st_size
    verify(path, size, digest)
    return Package(item["metadata"]["name"], item["metadata"]["version"], file, size, digest)
