"""Packages for the sandbox: what to mount for `packages=["pydantic"]`, resolved, checked and cached.

pip resolves, on the host, for the sandbox's platform; Pyodide's own distribution is a further source,
held to the hashes in the lock file that came with Pyodide. Nothing of a package runs on the host: only
wheels are taken. The cache remembers what a list of requirements came to, so that the same list means
the same files, and needs no network, until a refresh is asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sandbox_runtime import assets, pip_for_sandbox, wheels
from sandbox_runtime.errors import PackageError
from sandbox_runtime.staging import staging

PLATFORM = "pyemscripten_2026_0_wasm32"
PYTHON_VERSION = pip_for_sandbox.MARKERS["python_full_version"]
TAGS = ("--platform", PLATFORM, "--implementation", "cp", "--abi", "cp314", "--abi", "abi3")

# Pyodide's packages; another place with the same files, such as a mirror, in this variable.
DISTRIBUTION = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/"
DISTRIBUTION_VARIABLE = "SANDBOX_PYODIDE_DISTRIBUTION"

# A resolution or a download that takes longer than this has failed.
PIP_SECONDS = 600
FETCH_SECONDS = 60

_BUNDLE = "packages.bundle"
_MANIFEST = "manifest.json"
_FORMAT = 1  # of what lies in the cache

_NO_PIP = (
    f"{sys.executable or 'This Python'} has no pip, which resolves packages for the sandbox. "
    'Install it with: python -m ensurepip (or "uv pip install pip")'
)


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
        return self.folder / _BUNDLE

    def __str__(self) -> str:
        return ", ".join(f"{package.name} {package.version}" for package in self.packages)


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
    note = root / f"request-{_digest([_FORMAT, PLATFORM, PYTHON_VERSION, *wanted])}.json"
    if not refresh and (remembered := _remembered(note)) is not None:
        return remembered
    place = distribution or os.environ.get(DISTRIBUTION_VARIABLE) or DISTRIBUTION
    try:
        with staging(root) as workshop:
            return _resolve(wanted, note, workshop, place if place.endswith("/") else f"{place}/")
    except OSError as error:
        raise PackageError(
            f"Packages cannot be kept below {root}: {error.strerror or error}. Free space or give "
            "write access there, or point XDG_CACHE_HOME at a folder that has both."
        ) from error


def cache_folder() -> Path:
    """The folder in the user's cache for packages of all sessions."""
    return assets.cache_root() / "packages"


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


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


# ---- The cache -------------------------------------------------------------------------------------


def _remembered(note: Path) -> PackageSet | None:
    """The set that a request came to; None if it was never asked. Raises `PackageError` if damaged."""
    try:
        folder = note.parent / f"set-{json.loads(note.read_text(encoding='utf-8'))['set']}"
        return _load(folder) if folder.is_dir() else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(f"{note} cannot be read: {error}. {assets.PACKAGES_FIX}") from error


@functools.lru_cache(maxsize=64)
def _load(folder: Path) -> PackageSet:
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
    _verify(found.bundle, size, digest)
    for package in found.packages:
        _verify(folder / package.file, package.size, package.sha256)
    return found


def _verify(path: Path, size: int, digest: str) -> None:
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


def _keep(workshop: Path, note: Path, manifest: Mapping[str, Any]) -> PackageSet:
    """Gives what was made its names, each in one step."""
    text = json.dumps(manifest, indent=2) + "\n"
    key = _digest(manifest)
    made, folder = workshop / "set", note.parent / f"set-{key}"
    (made / _MANIFEST).write_text(text, encoding="utf-8")
    try:
        made.rename(folder)
    except OSError:
        # Another has made the same one; but if it is not sound any more, ours takes its place.
        _load.cache_clear()
        try:
            _load(folder)
        except PackageError:
            folder.rename(workshop / "replaced")
            made.rename(folder)
    pointer = workshop / "note.json"
    pointer.write_text(
        json.dumps({"requirements": manifest["requirements"], "set": key}) + "\n", encoding="utf-8"
    )
    pointer.replace(note)
    return _load(folder)


# ---- Resolving -------------------------------------------------------------------------------------


def _resolve(wanted: list[str], note: Path, workshop: Path, place: str) -> PackageSet:
    found, sources, locked = _ask_sources(wanted, workshop, place)
    if not found:
        raise PackageError(f"{', '.join(wanted)}: the markers say that the sandbox needs none.")
    made = workshop / "set"
    _download(found, made, workshop, sources, place)
    packages = [_package(item, made) for item in found]
    libraries = _fetch_libraries(found, locked, place, made)
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
    (made / _BUNDLE).write_bytes(bundle)
    manifest = {
        "requirements": wanted,
        "packages": [dataclasses.asdict(package) for package in packages],
        "imports": imports,
        "bundle": [len(bundle), hashlib.sha256(bundle).hexdigest()],
    }
    return _keep(workshop, note, manifest)


def _ask_sources(
    wanted: list[str], workshop: Path, place: str
) -> tuple[list[Json], list[str], Mapping[str, Json]]:
    """What pip finds at its indexes, else there and in Pyodide's distribution.

    Returns:
        pip's report on each package, the options that name the sources, and Pyodide's own packages.
    """
    asked = _pip_report(wanted, workshop, [])
    if not isinstance(asked, str):
        return asked, [], {}
    missing = _missing(asked)
    reason = _explain(asked, missing)
    if missing is None:
        raise PackageError(reason)
    locked = _locked_packages()
    listed = locked.get(canonicalize_name(missing))
    if listed is None or not str(listed["file_name"]).endswith(".whl"):
        raise PackageError(f"{reason} Pyodide's own distribution does not have it either.")
    page = workshop / "pyodide.html"
    page.write_text(_links(locked, place), encoding="utf-8")
    sources = ["--find-links", str(page)]
    again = _pip_report(wanted, workshop, sources)
    if isinstance(again, str):
        own = f"Pyodide's own distribution has {missing} {listed['version']}"
        match _missing(again):
            case None:
                also = f"{own}, but it cannot be taken from {place}: {_last_words(again)}"
            case still if still == missing:
                also = f"{own} only."
            case other:
                also = f"{own}, but {_explain(again, other)}"
        raise PackageError(f"{reason} {also}")
    return again, sources, locked


Json = Mapping[str, Any]


def _pip_report(wanted: Sequence[str], workshop: Path, sources: list[str]) -> list[Json] | str:
    """pip's report on what to install, or what it said when it could not."""
    report = workshop / "report.json"
    options = ["--dry-run", "--ignore-installed", "--target", str(workshop / "nowhere")]
    said = _pip("install", [*options, "--report", str(report), *sources, *wanted])
    if said is not None:
        return said
    told = json.loads(report.read_text(encoding="utf-8"))
    if told["environment"].get("sys_platform") != pip_for_sandbox.MARKERS["sys_platform"]:
        raise PackageError(
            f"pip {told.get('pip_version')} cannot be made to resolve for the sandbox. "
            "Install another: pip install --upgrade pip"
        )
    return list(told["install"])


def _download(
    found: list[Json], folder: Path, workshop: Path, sources: list[str], place: str
) -> None:
    """Lets pip fetch the very files of its report, held to their hashes."""
    lines = []
    for item in found:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        exact = f"{name} @ {item['download_info']['url']}"
        wanted = exact if item.get("is_direct") else f"{name}=={version}"
        lines.append(f"{wanted} --hash=sha256:{_sha256(item)}\n")
    pins = workshop / "pins.txt"
    pins.write_text("".join(lines), encoding="utf-8")
    options = ["--no-deps", "--require-hashes", "--dest", str(folder)]
    said = _pip("download", [*options, *sources, "-r", str(pins)])
    if said is not None:
        where = f" (some are from {place})" if sources else ""
        raise PackageError(f"Packages could not be fetched{where}: {_last_words(said)}")


def _pip(command: str, arguments: list[str]) -> str | None:
    """Runs pip for the sandbox; what it said if it failed."""
    if not sys.executable:
        raise PackageError(_NO_PIP)
    program = ["-P", pip_for_sandbox.__file__]
    for_sandbox = ["--only-binary=:all:", "--python-version", PYTHON_VERSION, *TAGS]
    try:
        done = subprocess.run(
            [sys.executable, *program, command, "-vv", *for_sandbox, *arguments],
            env={**os.environ, **_PIP_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"pip did not end within {PIP_SECONDS} s.") from error
    if done.returncode == pip_for_sandbox.NO_PIP:
        raise PackageError(_NO_PIP)
    return done.stdout if done.returncode != 0 else None


# Settings of the user's that make no sense here; where the index is and how to reach it stays.
_PIP_ENVIRONMENT = {
    "PIP_USER": "0",
    "PIP_QUIET": "0",
    "PIP_REQUIRE_HASHES": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_NO_COLOR": "1",
    "PIP_RETRIES": "2",
    "PYTHONIOENCODING": "utf-8",
}


def _sha256(item: Json) -> str:
    name = item["metadata"]["name"]
    try:
        digest = str(item["download_info"]["archive_info"]["hashes"]["sha256"])
    except KeyError as error:
        raise PackageError(f"Neither pip nor the index tells a SHA-256 of {name}.") from error
    return digest


def _package(item: Json, folder: Path) -> Package:
    """The downloaded wheel of a package, seen to be what pip has reported."""
    url = urlsplit(str(item["download_info"]["url"]))
    file = unquote(url.path).rsplit("/", 1)[-1]
    path, digest = folder / file, _sha256(item)
    if not path.is_file():
        raise PackageError(f"pip did not fetch {file}.")
    size = path.stat().st_size
    _verify(path, size, digest)
    return Package(item["metadata"]["name"], item["metadata"]["version"], file, size, digest)


# ---- Why it failed ---------------------------------------------------------------------------------


def _missing(said: str) -> str | None:
    """The name for which pip found nothing."""
    match = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)", said)
    return match[1] if match else None


def _explain(said: str, missing: str | None) -> str:
    """What pip's log says, in a sentence."""
    if missing is None:
        return f"The packages cannot be resolved: {_last_words(said)}"
    if match := re.search(r"(?:connection broken by|connection error:) (.*)", said):
        fault = _without_objects(match[1].partition("': ")[0].strip("'"))
        return f"{missing} cannot be looked up, the package index is out of reach: {fault[:300]}."
    versions = re.search(
        rf"requirement {re.escape(missing)}\S* .*\(from versions: (?!none\))(.*?)\)", said
    )
    if versions:
        return f"No version of {missing} fits; for the sandbox, these exist: {versions[1][-300:].lstrip(' ,')}."
    files = re.findall(r"Skipping link: .*?: \S*/([^/\s#]+)", said)
    own = [name for name in files if _project(name) == canonicalize_name(missing)]
    platforms = sorted({_platform(name) for name in own if name.endswith(".whl")})
    if platforms:
        return (
            f"{missing} has no wheel for WebAssembly ({PLATFORM}, Python 3.14) at the package "
            f"index, only for {', '.join(platforms)}."
        )
    if own:
        return f"{missing} has no wheel at the package index, only its source."
    return f"The package index has no package {missing}."


def _project(file: str) -> str:
    """The project in the name of a wheel or a source archive."""
    at = file.find("-") if file.endswith(".whl") else file.rfind("-")
    return canonicalize_name(file[: max(at, 0)])


def _platform(wheel: str) -> str:
    """The kind of platform in a wheel's name; which one, where it is another Pyodide's."""
    tag = wheel.removesuffix(".whl").rsplit("-", 1)[-1]
    if "emscripten" in tag or "pyodide" in tag:
        return tag
    return re.split(r"[_.\d]", tag, maxsplit=1)[0]


def _last_words(said: str) -> str:
    """The errors that pip names, else the exception that ended it."""
    errors = [line[7:].strip() for line in said.splitlines() if line.startswith("ERROR: ")]
    ends = re.findall(
        r"^[\w.]+(?:Error|Exception|Mismatch|Impossible)\w*: (.*)", said, re.MULTILINE
    )
    if ends and (not errors or "due to an OSError" in errors[-1]):
        errors = [*errors[:-1], ends[-1]]
    return _without_objects(" ".join(errors or said.strip().splitlines()[-3:]))[-1000:]


def _without_objects(text: str) -> str:
    """The text without the addresses of Python's objects in it."""
    return re.sub(r"'?<[\w.]+ object at 0x[0-9a-f]+>: ([^')]*)'?", r"\1", text)


# ---- Pyodide's own distribution --------------------------------------------------------------------


def _locked_packages() -> Mapping[str, Json]:
    """What Pyodide's distribution has, by normal name. Its hashes came with Pyodide's own."""
    try:
        text = (assets.find_engine().folder / assets.LOCK_FILE).read_text(encoding="utf-8")
        return dict(json.loads(text)["packages"])
    except (OSError, ValueError, KeyError) as error:
        raise PackageError(f"Pyodide's list of packages cannot be read: {error}") from error


def _links(locked: Mapping[str, Json], place: str) -> str:
    """The distribution's wheels as pip reads them: a page of links with hashes."""
    return "\n".join(
        f'<a href="{html.escape(urljoin(place, item["file_name"]))}#sha256={item["sha256"]}">'
        f"{html.escape(item['file_name'])}</a>"
        for item in locked.values()
        if item["file_name"].endswith(".whl")
    )


def _fetch_libraries(
    found: list[Json], locked: Mapping[str, Json], place: str, folder: Path
) -> list[Path]:
    """The shared libraries that packages of Pyodide's distribution need; pip knows nothing of those."""
    taken = [
        name
        for item in found
        if (name := canonicalize_name(item["metadata"]["name"])) in locked
        and item["download_info"]["url"] == urljoin(place, locked[name]["file_name"])
    ]
    return [
        _fetch(urljoin(place, item["file_name"]), item["sha256"], folder)
        for item in _dependencies(taken, locked)
        if item.get("package_type") == "shared_library"
    ]


def _dependencies(names: Iterable[str], locked: Mapping[str, Json]) -> Iterator[Json]:
    seen: set[str] = set()
    left = list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name in locked and name not in seen:
            seen.add(name)
            left += locked[name]["depends"]
            yield locked[name]


def _fetch(url: str, digest: str, folder: Path) -> Path:
    # They take as long as all the rest here, and are seldom wanted.
    import http.client
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - hashed
            data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise PackageError(f"{url} cannot be fetched: {error}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise PackageError(f"{url} is not what Pyodide's lock file says: its hash differs.")
    path = folder / url.rsplit("/", 1)[-1]
    path.write_bytes(data)
    return path
