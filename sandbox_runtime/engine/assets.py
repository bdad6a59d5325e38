"""The parts of a sandbox: Pyodide's files, the boot image, and a Deno. Finds and verifies them.

`install.py` puts the files where this module looks: inside the package (a wheel carries them) or in the
user's cache. Importing this module looks for nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import platformdirs

from sandbox_runtime.buffers import Part
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.v8_flags import FLAGS
from sandbox_runtime.errors import (
    EngineCorruptError,
    EngineMissingError,
    PackageError,
)
from sandbox_runtime.isolation.os_isolation import NO_WALL, Wall
from sandbox_runtime.limits import Limits

# Part of the package: the sandbox's program, and the Python that the boot image contains. The program
# runs as a copy without its types, which saves Deno the work at every start.
PACKAGE_FOLDER = Path(__file__).parents[1]
SOURCE_FOLDER = PACKAGE_FOLDER / "deno"
GUEST_FOLDER = PACKAGE_FOLDER / "guest"
PROGRAM_FILES = (
    "host.ts",
    "sandbox.ts",
    "host_reader.ts",
    "host_pipe.ts",
    "protocol.ts",
    "frames.ts",
    "frame_window.ts",
    "cell_clock.ts",
    "cell_watch.ts",
    "signals.ts",
    "signal_check.ts",
    "worker_messages.ts",
    "worker.ts",
)
# The modules that become one script with the worker, each after those that it imports.
WORKER_PARTS = (
    "function_table.ts",
    "image.ts",
    "disk.ts",
    "word_table.ts",
    "integrity.ts",
    "packages.ts",
    "value_buffers.ts",
    "realm_scrub.ts",
    "reproducible.ts",
    "signals.ts",
    "signal_check.ts",
    "timers.ts",
    "frames.ts",
    "frame_window.ts",
    "protocol.ts",
    "writer.ts",
    "cell_clock.ts",
    "host_pipe.ts",
    "host_calls.ts",
    "host_file.ts",
    "incoming_files.ts",
    "cell_output.ts",
    "plain_json.ts",
    "submission.ts",
    "python_globals.ts",
    "harness.ts",
    "interpreter.ts",
)
PYTHON_FILES = tuple(
    sorted(path.relative_to(GUEST_FOLDER).as_posix() for path in GUEST_FOLDER.rglob("*.py"))
)

# In the order in which a starting sandbox uses them. The script is Pyodide's two modules joined into
# one; the cache is its V8 code cache.
RUNTIME_FILES = ("pyodide.js", "pyodide.asm.wasm", "python_stdlib.zip")
CACHE_FILE = "pyodide.cache"
IMAGE_FILES = ("boot.head", "boot.pages")
# V8 trusts these two as long as their lengths match, so their hashes are compared at every start, which
# takes a millisecond. `doctor` checks the others.
_UNCHECKED_FILES = ("pyodide.js", CACHE_FILE)
SCRIPT_FILES = tuple(name.replace(".ts", ".js") for name in PROGRAM_FILES)
# The packages of Pyodide's own distribution, with hashes. Stays on the host.
LOCK_FILE = "pyodide-lock.json"
INSTALLED_FILES = (*RUNTIME_FILES, CACHE_FILE, *IMAGE_FILES, *SCRIPT_FILES, LOCK_FILE)
BUNDLE_ASSET = "packages.bundle"
MANIFEST_FILE = "manifest.json"

PACKAGES_FIX = "Fetch it again with: python -m sandbox_runtime packages --refresh NAME..."

PACKAGED_FOLDER = Path(__file__).parent / "files"

# Patches to Pyodide when it is installed: a pattern, its number of occurrences, the replacement.
# - Before Emscripten chooses the place for a compiled module's data, `worker.ts` may name it, since an
#   image must find the data where it was.
# - C code, which a cell reaches through ctypes, cannot evaluate JavaScript from a string.
# - Nothing is imported, even if V8 were to allow it.
# - Only functions that are used get a place in the table at the start, not all of some 7,400 exports; the others when
#   they are looked up. See `function_table.ts`.
# - Before it calls a Python function that may wait for promises, Pyodide lets the event loop turn, so that no other call
#   is on the stack. `worker.ts` may say that there is none.
RUNTIME_PATCHES = (
    (
        r"getMemory=size=>\{",
        1,
        "getMemory=size=>{if(Module.libraryPlace!==undefined){return Module.libraryPlace}",
    ),
    (r"\beval\(UTF8ToString\(ptr\)\)", 3, "0"),
    (r"(?<![.\w])import\(", 28, "importNothing("),
    (
        r"updateGOT\(origExports\)",
        1,
        "updateGOT(Object.fromEntries(Object.keys(GOT).filter(name=>name in origExports)"
        ".map(name=>[name,origExports[name]])))",
    ),
    (
        r"await new Promise\(d=>API\.scheduleCallback\(d,0\)\)",
        1,
        "Module.stackIsEmpty?Module.stackIsEmpty=!1:await new Promise(d=>API.scheduleCallback(d,0))",
    ),
)


@dataclasses.dataclass(frozen=True)
class Mounted:
    """Packages as an engine mounts them: a file with its size in bytes, and optionally an image with its own."""

    bundle: tuple[Path, int]
    image: tuple[Path, int] | None = None


@dataclasses.dataclass(frozen=True)
class Engine:
    """A Deno executable, and the folder with the files that a session starts from."""

    deno: Path
    folder: Path
    from_sources: bool = False
    """True while the engine is being built: there is no image and no code cache yet."""

    packages: Mounted | None = None
    """The packages mounted beside the standard library."""

    wall: Wall = NO_WALL
    """The confinement of the process by the operating system."""

    relayed: bool = not hasattr(signal, "SIGUSR2")
    """True if interrupts are frames, which the sandbox's main thread reads, because there is no signal for them."""

    saved: Mapping[str, Part] | None = dataclasses.field(default=None, compare=False)
    """The state to continue from, as files by name; None: that of a fresh interpreter."""

    def command(self, limits: Limits) -> list[str]:
        """Returns the command line of a sandbox process. It grants no permissions."""
        return executable.command(self.deno, self.folder / "host.js", limits)

    @property
    def environment(self) -> Mapping[str, str]:
        """Returns the environment variables of a sandbox process."""
        return executable.ENVIRONMENT

    @property
    def scripts(self) -> Sequence[Path]:
        """Returns the files that Deno itself reads."""
        return [self.folder / name for name in SCRIPT_FILES]

    @property
    def packages_key(self) -> str:
        """Returns the key of the mounted packages; empty if there are none."""
        return "" if self.packages is None else self.packages.bundle[0].parent.name

    @property
    def file_names(self) -> tuple[str, ...]:
        """Returns the names of all files of the sandbox, in the order of their use."""
        if self.from_sources:
            return (*RUNTIME_FILES, *PYTHON_FILES)
        packages = () if self.packages is None else (BUNDLE_ASSET,)
        state = IMAGE_FILES if self.saved is None else self.saved
        return (CACHE_FILE, *RUNTIME_FILES, *packages, *state)

    def files(self) -> Iterator[tuple[str, Part]]:
        """Yields names and bytes one by one, so that at most one file is in memory.

        Raises:
            EngineMissingError: A file is gone.
            EngineCorruptError: A file differs from the installed one.
        """
        if self.from_sources:
            yield from ((name, _read(self.folder / name)) for name in RUNTIME_FILES)
            yield from ((name, _read(GUEST_FOLDER / name)) for name in PYTHON_FILES)
            return
        manifest = {name: (size, digest) for name, size, digest in read_manifest(self.folder)}
        state = self.saved if self.saved is not None else self._packages_image()
        for name in self.file_names:
            if name in state:
                yield name, state[name]
                continue
            if name == BUNDLE_ASSET and self.packages is not None:
                yield name, _read_package(*self.packages.bundle)
                continue
            data = _read(self.folder / name)
            size, digest = manifest[name]
            if size != len(data):
                raise _corrupt(self.folder / name, "its size has changed")
            if name in _UNCHECKED_FILES and hashlib.sha256(data).hexdigest() != digest:
                raise _corrupt(self.folder / name, "its hash does not match")
            yield name, data

    def _packages_image(self) -> Mapping[str, Part]:
        """Returns the image with the packages imported, which replaces the plain one."""
        if self.packages is None or self.packages.image is None:
            return {}
        return split_image(_read_package(*self.packages.image))

    def verify(self) -> None:
        """Reads every installed file and compares its hash. Takes a few hundredths of a second.

        Raises:
            EngineMissingError: A file is gone.
            EngineCorruptError: A file differs from the installed one.
        """
        for name, _, digest in read_manifest(self.folder):
            if hashlib.sha256(_read(self.folder / name)).hexdigest() != digest:
                raise _corrupt(self.folder / name, "its hash does not match")


def join_image(state: Mapping[str, Part]) -> bytes:
    """Joins an image into one piece: the length of its head, the head, the pages."""
    head, pages = (bytes(state[name]) for name in IMAGE_FILES)
    return len(head).to_bytes(8, "little") + head + pages


def split_image(data: bytes) -> Mapping[str, Part]:
    """Splits what `join_image` joined."""
    whole = memoryview(data)
    end = 8 + int.from_bytes(whole[:8], "little")
    return dict(zip(IMAGE_FILES, (whole[8:end], whole[end:]), strict=True))


def find_engine() -> Engine:
    """Returns the installed engine. Raises an `EngineError` that says what is missing and how to get it."""
    deno = executable.find_deno()
    for folder in (PACKAGED_FOLDER, cache_folder()):
        if (folder / MANIFEST_FILE).is_file():
            return Engine(deno, folder, wall=executable.wall_for(deno))
    raise EngineMissingError(
        f"The sandbox's files are not installed (looked in {PACKAGED_FOLDER} and {cache_folder()}). "
        "Install them with: python -m sandbox_runtime install"
    )


def python_library() -> Path:
    """Returns the archive with the sources of the standard library that cells import. Raises an `EngineError`."""
    return find_engine().folder / "python_stdlib.zip"


def cache_root() -> Path:
    """Returns the folder in the user's cache for all versions of the engine."""
    return Path(platformdirs.user_cache_dir("dspy-rlm", appauthor=False))


def cache_folder() -> Path:
    """Returns the folder of this version's engine when the package does not carry it."""
    return cache_root() / f"engine-{engine_key()}"


@functools.cache
def engine_key() -> str:
    """Returns a key that changes with every input of the boot image, so that no stale image is used."""
    digest = hashlib.sha256()
    sources = [SOURCE_FOLDER / name for name in (*PROGRAM_FILES, *WORKER_PARTS, "deno.lock")]
    for path in (*sources, *(GUEST_FOLDER / name for name in PYTHON_FILES)):
        digest.update(path.read_bytes())
    digest.update(repr((RUNTIME_PATCHES, FLAGS)).encode())
    return digest.hexdigest()[:16]


def read_manifest(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Returns name, size in bytes and SHA-256 of each installed file. Raises `EngineCorruptError`."""
    path = folder / MANIFEST_FILE
    try:
        entries = json.loads(_read(path))
        for name in INSTALLED_FILES:
            yield name, int(entries[name]["bytes"]), str(entries[name]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(path, "it is not a manifest") from error


def write_manifest(folder: Path) -> None:
    """Records size and hash of each file in the folder."""
    entries = {}
    for name in INSTALLED_FILES:
        data = (folder / name).read_bytes()
        entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST_FILE).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineMissingError(
            f"Cannot read {path}: {error.strerror}. {_repair(path)}"
        ) from error


def _read_package(path: Path, size: int) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PackageError(f"Cannot read {path}: {error.strerror}. {PACKAGES_FIX}") from error
    if len(data) != size:
        raise PackageError(f"{path} is damaged: its size has changed. {PACKAGES_FIX}")
    return data


def _corrupt(path: Path, what: str) -> EngineCorruptError:
    return EngineCorruptError(f"{path} is damaged: {what}. {_repair(path)}", str(path))


def _repair(path: Path) -> str:
    if path.is_relative_to(PACKAGE_FOLDER):
        return "Repair it with: pip install --force-reinstall --no-deps dspy-rlm"
    return "Repair it with: python -m sandbox_runtime install --force"
