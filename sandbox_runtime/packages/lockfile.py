"""Parses the user's lock files: the version of each package, and the hashes of its files.

Two formats: requirements files with hashes, as pip and uv write and check them, and `pylock.toml` (PEP 751).
Both yield the same list. Pure: bytes in, values out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages.pip_shim import MARKERS

if TYPE_CHECKING:
    from packaging.pylock import Pylock

# A lock of a thousand packages with a hundred files each has some 10 MB.
MAX_LOCK_BYTES = 32 * 1024 * 1024

_PYLOCK_NAME = re.compile(r"pylock(\.[^.]+)?\.toml")
# The algorithms that pip accepts, each with its length in hexadecimal digits.
_HASHES = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclasses.dataclass(frozen=True, order=True)
class Pin:
    """One package of a lock file as a pip requirement, and the accepted hashes of its file."""

    requirement: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """Its line in a requirements file."""
        return " ".join([self.requirement, *(f"--hash={one}" for one in self.hashes)])


def read_lock(name: str, data: bytes) -> list[Pin]:
    """Returns the packages that a lock file has for the sandbox.

    Args:
        name: The file's name, which determines its format.
        data: The file's content.

    Raises:
        PackageError: It is not a lock file, or does not pin everything.
    """
    if len(data) > MAX_LOCK_BYTES:
        raise PackageError(f"{name} is longer than {MAX_LOCK_BYTES:,} bytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PackageError(f"{name} is not UTF-8: {error}") from error
    pins = _read_pylock(name, text) if _PYLOCK_NAME.fullmatch(name) else _read_lines(name, text)
    unique = sorted(set(pins))
    if not unique:
        raise PackageError(f"{name} has no package for the sandbox.")
    return unique


def hashes_by_name(
    pins: Iterable[Pin], versions: Mapping[NormalizedName, str]
) -> dict[NormalizedName, tuple[str, ...]]:
    """Returns the hashes that a lock file accepts for the file of each package; a package that it lacks is left out.

    Args:
        pins: The packages of the lock file. One can be there more than once.
        versions: The version of each package to look up.
    """
    accepted: dict[NormalizedName, set[str]] = {}
    for pin in pins:
        requirement = Requirement(pin.requirement)
        name = canonicalize_name(requirement.name)
        if name in versions and requirement.specifier.contains(versions[name], prereleases=True):
            accepted.setdefault(name, set()).update(pin.hashes)
    return {name: tuple(sorted(hashes)) for name, hashes in accepted.items()}


def lock_text(packages: Iterable[tuple[str, str]]) -> str:
    """Returns a requirements file with hashes, from requirements and SHA-256s."""
    lines = (f"{requirement} \\\n    --hash=sha256:{digest}\n" for requirement, digest in packages)
    return "".join(sorted(lines))


# ---- Requirements files ----------------------------------------------------------------------------


def _read_lines(name: str, text: str) -> Iterator[Pin]:
    for number, line in _logical_lines(text):
        place = f"Line {number} of {name}"
        words = line.split()
        options = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
        if options == 0:
            raise PackageError(
                f"{place} has the option {words[0][:40]!r}. A lock file for the sandbox has packages "
                "only; where they come from is pip's own configuration."
            )
        yield from _pin(place, " ".join(words[:options]), list(_hashes(place, words[options:])))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields logical lines with their numbers: without comments, backslash continuations joined."""
    parts: list[str] = []
    first = 1
    for number, line in enumerate(text.splitlines(), 1):
        if not parts:
            first = number
        comment = re.search(r"(?:^|\s)#", line)
        parts.append(line[: comment.start()] if comment else line)
        if comment is None and line.endswith("\\"):
            parts[-1] = line[:-1]
            continue
        if whole := " ".join(parts).strip():
            yield first, whole
        parts = []
    if whole := " ".join(parts).strip():
        yield first, whole


def _hashes(place: str, options: list[str]) -> Iterator[str]:
    """Yields the hashes of a line's options, `--hash=...` or `--hash ...`; other options are refused."""
    words = iter(options)
    for word in words:
        option, _, value = word.partition("=")
        if option != "--hash":
            raise PackageError(f"{place} has {word[:40]!r} beside hashes, which is not supported.")
        yield _hash(place, value or next(words, ""))


def _hash(place: str, text: str) -> str:
    kind, _, digest = text.partition(":")
    if _HASHES.get(kind) != len(digest) or not re.fullmatch("[0-9a-f]*", digest):
        raise PackageError(f"{place} has the hash {text[:80]!r}; need one of {', '.join(_HASHES)}.")
    return text


def _pin(place: str, requirement_text: str, hashes: list[str]) -> Iterator[Pin]:
    """Yields the pin of one requirement; nothing if its marker excludes the sandbox."""
    try:
        requirement = Requirement(requirement_text)
    except (InvalidRequirement, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise PackageError(f"{place} is not a requirement that pip accepts: {reason}") from error
    if requirement.marker is not None and not _holds(place, requirement.marker):
        return
    requirement.marker = None
    exact = [one for one in requirement.specifier if one.operator in ("==", "===")]
    if requirement.url is None and (len(exact) != 1 or exact[0].version.endswith(".*")):
        raise PackageError(f"{place} does not pin the version of {requirement.name} with ==.")
    if requirement.url is not None and not is_wheel_address(requirement.url):
        raise PackageError(f"{place} does not name a wheel.")
    if not hashes:
        raise PackageError(
            f"{place} has no hash for {requirement.name}. Write the lock file with hashes, for instance "
            "with: uv pip compile --generate-hashes"
        )
    yield Pin(str(requirement), tuple(sorted(set(hashes))))


def _holds(place: str, marker: Marker) -> bool:
    try:
        return marker.evaluate({**MARKERS, "extra": ""})
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError, RecursionError) as error:
        raise PackageError(f"{place} has a marker that cannot be read: {error}") from error


def is_wheel_address(url: str) -> bool:
    """Returns whether the URL is that of a wheel, which needs no build."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https", "file") and parts.path.endswith(".whl")


# ---- pylock.toml -----------------------------------------------------------------------------------


def _read_pylock(name: str, text: str) -> Iterator[Pin]:
    # Rarely needed, and a hundredth of the time that importing the package takes.
    from packaging.pylock import Pylock, PylockValidationError

    try:
        lock = Pylock.from_dict(_toml(name, text))
    except (PylockValidationError, ValueError, TypeError, RecursionError) as error:
        raise PackageError(f"{name} is not a lock file of PEP 751: {str(error)[:300]}") from error
    for package in lock.packages:
        place = f"{package.name} in {name}"
        if package.marker is not None and not _in_default_groups(place, package.marker, lock):
            continue
        if package.archive is not None and package.archive.url is not None:
            requirement_text, hashes = (
                f"{package.name} @ {package.archive.url}",
                [package.archive.hashes],
            )
        elif package.wheels:
            requirement_text, hashes = (
                f"{package.name}=={package.version}",
                [one.hashes for one in package.wheels],
            )
        else:
            raise PackageError(
                f"{place} has no wheel; building it could execute its code on this machine."
            )
        accepted = [
            f"{kind}:{digest}"
            for each in hashes
            for kind, digest in each.items()
            if kind in _HASHES
        ]
        yield from _pin(place, requirement_text, [_hash(place, one) for one in accepted])


def _toml(name: str, text: str) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PackageError(f"{name} is not TOML: {error}") from error


def _in_default_groups(place: str, marker: Marker, lock: Pylock) -> bool:
    environment: dict[str, Any] = {
        **MARKERS,
        "extras": set(),
        "dependency_groups": set(lock.default_groups or ()),
    }
    try:
        return marker.evaluate(environment, context="lock_file")
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError, RecursionError) as error:
        raise PackageError(f"{place} has a marker that cannot be read: {error}") from error


def roots(required: Mapping[str, Iterable[str]]) -> set[NormalizedName]:
    """Returns the packages that no other one requires; all of them if they form a cycle.

    Args:
        required: The dependencies of each package, as its metadata has them.
    """
    names = {canonicalize_name(name) for name in required}
    needed = {
        other
        for name, lines in required.items()
        for line in lines
        if (other := needed_here(line)) != canonicalize_name(name)
    }
    return names - needed or names


def needed_here(line: str) -> NormalizedName | None:
    """Returns the package of a dependency; None if it is for an extra or another platform, or unreadable."""
    try:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({**MARKERS, "extra": ""}):
            return None
    except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName, RecursionError):
        return None  # pip has already reported it
    return canonicalize_name(requirement.name)
