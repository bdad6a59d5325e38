"""Parses pip's report on what it would install, as untrusted input.

The report contains the wheels' own metadata, and parts of it go into the next command of pip. So every field is
validated, and an invalid one fails the request. Pure: bytes in, values out.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages.pip_errors import without_credentials
from sandbox_runtime.packages.pip_shim import MARKERS, PLATFORM
from sandbox_runtime.packages.wheels import MAX_REQUIRES

# pip copies the metadata of each package into its report, long descriptions included: some 50 kB each.
MAX_REPORT_BYTES = 32 * 1024 * 1024
# No real list of requirements resolves to more packages.
MAX_PACKAGES = 2_000
# Names, versions, addresses and requirements are shorter.
MAX_TEXT = 4_000
# File systems allow no longer names; and a wheel's name expands to the product of its tags.
MAX_FILE_NAME = 255

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?")
# As the names of wheels are: https://packaging.python.org/en/latest/specifications/binary-distribution-format/.
_FILE_NAME = re.compile(r"[A-Za-z0-9._+!-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCHEMES = ("http", "https", "file")
_PLATFORMS = ("any", PLATFORM)


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """One package that pip would install."""

    name: str
    version: str
    url: str
    file: str
    sha256: str
    """That of its file as the package index states it: pip repeats it unchecked. If the index states none, that of
    the file which pip fetched."""
    requested: bool
    """True if the user named it, False if only another package requires it."""
    direct: bool
    """True if it comes from a URL that was named, not from an index."""
    requires: tuple[str, ...]
    """Its dependencies, as in its metadata."""


def read_report(data: bytes) -> list[SearchResult]:
    """Returns the packages in a report.

    Raises:
        PackageError: It is not a report, or has an invalid field.
    """
    if len(data) > MAX_REPORT_BYTES:
        raise PackageError(f"pip's report is longer than {MAX_REPORT_BYTES:,} bytes.")
    try:
        report = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"pip's report cannot be read: {_short(error)}") from error
    environment = _field(report, "environment", dict)
    if environment.get("sys_platform") != MARKERS["sys_platform"]:
        raise PackageError(
            f"pip {_short(report.get('pip_version'))} cannot resolve for the sandbox. "
            "Install another: pip install --upgrade pip"
        )
    items = _field(report, "install", list)
    if len(items) > MAX_PACKAGES:
        raise PackageError(
            f"{len(items):,} packages would be needed; at most {MAX_PACKAGES:,} are allowed."
        )
    packages = [_package(item) for item in items]
    if len({canonicalize_name(one.name) for one in packages}) < len(packages):
        raise PackageError("pip's report has a package twice.")
    return packages


def as_named(packages: Iterable[SearchResult], named: Iterable[str]) -> list[SearchResult]:
    """Returns the same packages, with the URLs as the user wrote them: pip omits credentials.

    Raises:
        PackageError: One comes from a URL that the user did not name.
    """
    addresses = {_plain(address): address for address in named}
    return [_as_named(one, addresses) if one.direct else one for one in packages]


def _as_named(one: SearchResult, addresses: Mapping[str, str]) -> SearchResult:
    address = addresses.get(_plain(one.url))
    if address is None:
        raise PackageError(
            f"{one.name} would come from {one.url}, which is not among the addresses in packages."
        )
    return dataclasses.replace(one, url=address)


def _package(item: object) -> SearchResult:
    metadata = _field(item, "metadata", dict)
    name, version = _text(metadata, "name"), _text(metadata, "version")
    if not _NAME.fullmatch(name):
        raise PackageError(f"{_short(name)} is not the name of a package.")
    download = _field(item, "download_info", dict)
    url = _text(download, "url")
    try:
        scheme, path = urlsplit(url).scheme, urlsplit(url).path
    except ValueError as error:
        raise PackageError(f"{name} would come from {_short(url)}: {_short(error)}") from error
    file = unquote(path).rsplit("/", 1)[-1]
    if scheme not in _SCHEMES or not isinstance(download.get("archive_info"), dict):
        raise PackageError(f"{name} would come from {_short(url)}, which is not the URL of a file.")
    if len(file) > MAX_FILE_NAME or not _FILE_NAME.fullmatch(file):
        raise PackageError(f"{name} would come as {_short(file)}, which is not a file name.")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise PackageError(f"{name} would come from {_short(url)}, which is not a URL.")
    try:
        file_name, file_version, _, tags = parse_wheel_filename(file)
        same = (file_name, file_version) == (canonicalize_name(name), Version(version))
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise PackageError(f"{name} would not come as a wheel: {_short(error)}") from error
    if not same:
        raise PackageError(
            f"{name} {version} would come as {_short(file)}, which is another package."
        )
    if not any(tag.platform in _PLATFORMS for tag in tags):
        raise PackageError(
            f"{name} would come as {file}, which is for another platform than the sandbox: pip's settings name one."
        )
    requires = metadata.get("requires_dist", [])
    if not isinstance(requires, list) or len(requires) > MAX_REQUIRES:
        raise PackageError(f"The dependencies of {name} are not a list, or one without end.")
    return SearchResult(
        name=name,
        version=version,
        url=url,
        file=file,
        sha256=_digest(name, _field(download, "archive_info", dict)),
        requested=_field(item, "requested", bool, missing=False),
        direct=_field(item, "is_direct", bool, missing=False),
        requires=tuple(_text({"requires_dist": line}, "requires_dist") for line in requires),
    )


def _digest(name: str, archive: dict[str, Any]) -> str:
    hashes = archive.get("hashes")
    digest = hashes.get("sha256") if isinstance(hashes, dict) else None
    if digest is None:
        raise PackageError(f"Neither pip nor the index reports a SHA-256 of {name}.")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise PackageError(f"The SHA-256 of {name} is malformed: {_short(digest)}")
    return digest


def _field(item: object, name: str, kind: type, **missing: Any) -> Any:
    value = item.get(name, missing.get("missing")) if isinstance(item, dict) else None
    if not isinstance(value, kind):
        raise PackageError(f"pip's report lacks a valid {name}.")
    return value


def _text(item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        raise PackageError(f"pip's report has {_short(value)} as its {name}.")
    return value


def _plain(url: str) -> str:
    """Returns a URL without credentials and fragment."""
    return without_credentials(url).partition("#")[0]


def _short(value: object) -> str:
    text = str(value)[:100] if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return repr(text)
