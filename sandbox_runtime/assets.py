"""What a sandbox runs on: Deno, Pyodide's files and the boot image. Finds and verifies them.

The one module that knows it is Deno. `install.py` puts the files where this module looks: inside the
package (a wheel carries them) or in the user's cache. Nothing is looked for at import.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs

from sandbox_runtime.errors import (
    DenoNotFoundError,
    DenoVersionError,
    EngineCorruptError,
    EngineMissingError,
)
from sandbox_runtime.limits import Limits

# The oldest Deno in which the measures that we rely on were seen to hold, and the first untried.
DENO_SUPPORTED = ((2, 9, 0), (3, 0, 0))
DENO_FIX = 'Install it with: pip install "deno>=2.9,<3"'

PYODIDE_FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
SCRIPT_FILES = ("host.js", "protocol.js", "worker.js")
IMAGE_FILE = "boot.image"
INSTALLED_FILES = (*PYODIDE_FILES, *SCRIPT_FILES, IMAGE_FILE)
MANIFEST_FILE = "manifest.json"

# Part of the package: the program of the sandbox, and the Python that the boot image contains. What
# runs is a copy of the program with its types taken out, which saves Deno the work at every start.
SOURCE_FOLDER = Path(__file__).parent / "deno"
PROGRAM_FILES = ("host.ts", "protocol.ts", "worker.ts")
PYTHON_FILES = (
    "__init__.py",
    "records.py",
    "handles.py",
    "arrays.py",
    "tables.py",
    "plain.py",
    "crossing.py",
    "output.py",
    "failures.py",
    "tasks.py",
    "bootstrap.py",
    "guest.py",
)

PACKAGED_FOLDER = Path(__file__).parent / "engine"

_WASM_PAGE = 65536

# JavaScript's own heap in the worker: Pyodide's code and the objects in flight.
_V8_HEAP_MEGABYTES = 1024

_RIGHTS = ("read", "write", "net", "env", "run", "ffi", "sys", "import")

_FLAGS = (
    "--no-prompt",
    "--no-config",
    "--no-lock",
    "--no-remote",
    "--no-npm",
    "--cached-only",
    "--no-code-cache",
    "--node-modules-dir=none",
    "--unstable-worker-options",
    *(f"--deny-{right}" for right in _RIGHTS),
)

# All that the sandbox sees of the environment. DENO_DIR points nowhere, so that nothing can be kept
# from one session to the next.
_ENVIRONMENT = {
    "DENO_DIR": "/dev/null/none",
    "DENO_NO_UPDATE_CHECK": "1",
    "DENO_NO_PACKAGE_JSON": "1",
    "NO_COLOR": "1",
}


_finding = threading.Lock()  # guards the search for Deno


@dataclasses.dataclass(frozen=True)
class Engine:
    """A Deno, and the folder with the files that a session is started from."""

    deno: Path
    folder: Path
    boots_from_image: bool = True

    def command(self, limits: Limits) -> list[str]:
        """The command line of a sandbox process. It grants no rights at all."""
        v8_flags = (
            "--disallow-code-generation-from-strings",
            f"--wasm-max-mem-pages={limits.memory_bytes // _WASM_PAGE}",
            f"--max-old-space-size={_V8_HEAP_MEGABYTES}",
        )
        program = str(self.folder / "host.js")
        return [str(self.deno), "run", *_FLAGS, f"--v8-flags={','.join(v8_flags)}", program]

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a sandbox process."""
        return _ENVIRONMENT

    def read(self) -> dict[str, bytes]:
        """The bytes of everything the sandbox consists of, by name.

        Raises:
            EngineMissingError: A file is gone.
            EngineCorruptError: A file has another size than when it was installed.
        """
        names = [*PYODIDE_FILES, *([IMAGE_FILE] if self.boots_from_image else [])]
        files = {name: _read(self.folder / name) for name in names}
        if self.boots_from_image:
            sizes = {name: size for name, size, _ in read_manifest(self.folder)}
            for name, data in files.items():
                if sizes.get(name) != len(data):
                    raise _corrupt(self.folder / name, "its size has changed")
            return files
        return {**files, **{name: _read(SOURCE_FOLDER / name) for name in PYTHON_FILES}}

    def verify(self) -> None:
        """Reads every installed file and compares its hash. Takes a few hundredths of a second.

        Raises:
            EngineMissingError: A file is gone.
            EngineCorruptError: A file is not what was installed.
        """
        for name, _, digest in read_manifest(self.folder):
            if hashlib.sha256(_read(self.folder / name)).hexdigest() != digest:
                raise _corrupt(self.folder / name, "its hash does not match")


def find_engine() -> Engine:
    """The installed engine. Raises an `EngineError` that says what is missing and how to get it."""
    deno = find_deno()
    for folder in (PACKAGED_FOLDER, cache_folder()):
        if (folder / MANIFEST_FILE).is_file():
            return Engine(deno, folder)
    raise EngineMissingError(
        f"The sandbox's files are not installed (looked in {PACKAGED_FOLDER} and {cache_folder()}). "
        "Install them with: python -m sandbox_runtime install"
    )


def cache_root() -> Path:
    """The folder in the user's cache for all versions of the engine."""
    return Path(platformdirs.user_cache_dir("dspy-rlm", appauthor=False))


def cache_folder() -> Path:
    """Where the engine of this very version lies when the package does not carry it."""
    return cache_root() / f"engine-{engine_key()}"


@functools.cache
def engine_key() -> str:
    """Changes with everything the boot image is made of, so that an old image is never used."""
    digest = hashlib.sha256()
    for name in (*PROGRAM_FILES, *PYTHON_FILES, "deno.lock"):
        digest.update((SOURCE_FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]


def read_manifest(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Name, size in bytes and SHA-256 of each installed file. Raises `EngineCorruptError`."""
    path = folder / MANIFEST_FILE
    try:
        entries = json.loads(_read(path))
        for name in INSTALLED_FILES:
            yield name, int(entries[name]["bytes"]), str(entries[name]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(path, "it is not a manifest") from error


def write_manifest(folder: Path) -> None:
    """Notes size and hash of each file in the folder."""
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


def _corrupt(path: Path, what: str) -> EngineCorruptError:
    return EngineCorruptError(f"{path} is damaged: {what}. {_repair(path)}", str(path))


def _repair(path: Path) -> str:
    if path.is_relative_to(Path(__file__).parent):
        return "Repair it with: pip install --force-reinstall --no-deps dspy-rlm"
    return "Repair it with: python -m sandbox_runtime install --force"


# ---- Deno ------------------------------------------------------------------------------------------


def find_deno() -> Path:
    """The Deno executable: the one from PyPI, else the one on the PATH.

    Raises:
        DenoNotFoundError: There is none.
        DenoVersionError: It is too old or too new.
    """
    path = _packaged_deno() or _path_deno()
    if path is None:
        raise DenoNotFoundError(f"Cannot start the sandbox: no Deno was found. {DENO_FIX}")
    version = deno_version(path)
    oldest, untried = DENO_SUPPORTED
    if not oldest <= version < untried:
        raise DenoVersionError(
            f"Cannot start the sandbox: {path} is Deno {_dotted(version)}, need "
            f"{_dotted(oldest)} or newer, below {_dotted(untried)}. {DENO_FIX}"
        )
    return path


def _packaged_deno() -> Path | None:
    if importlib.util.find_spec("deno") is None:
        return None
    import deno  # an optional way to have it, so not imported at the top

    try:
        # It asks sysconfig, which CPython 3.11 lets two threads fill in at once.
        with _finding:
            return Path(deno.find_deno_bin())
    except FileNotFoundError:
        return None


def _path_deno() -> Path | None:
    found = shutil.which("deno")
    return Path(found) if found else None


@functools.cache
def deno_version(path: Path) -> tuple[int, int, int]:
    """The version that the executable tells of itself. Raises `DenoNotFoundError` if it does not."""
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DenoNotFoundError(f"{path} does not run: {error}. {DENO_FIX}") from error
    match = re.match(r"deno (\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        raise DenoNotFoundError(f"{path} is no Deno: it says {said[:80]!r}. {DENO_FIX}")
    return int(match[1]), int(match[2]), int(match[3])


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
