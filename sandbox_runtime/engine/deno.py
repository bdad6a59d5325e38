"""The Deno executable that a sandbox runs in: its discovery, command line and OS confinement."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from sandbox_runtime.audit import record
from sandbox_runtime.engine.provenance import DENO_TESTED, known_flaws
from sandbox_runtime.engine.trial import DENO_FIX, Version, run, strongest
from sandbox_runtime.engine.v8_flags import usable_flags
from sandbox_runtime.errors import (
    DenoNotFoundError,
    DenoVersionError,
    EngineError,
    WallMissingError,
)
from sandbox_runtime.isolation import os_isolation as wall
from sandbox_runtime.isolation.os_isolation import NO_WALL, Wall
from sandbox_runtime.limits import Limits

# The oldest Deno in which the measures that we rely on were tested, and the first untested one.
DENO_SUPPORTED = (DENO_TESTED, (3, 0, 0))

_WASM_PAGE = 65536

# The threads hold the stacks of V8; see `v8_flags.py`.
_THREAD_STACK_BYTES = 16 * 1024 * 1024

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

# The C library returns an allocation from this size on to the system as soon as it is freed. Without the setting it
# raises the size to that of the first large one, and keeps 24 MB of the files of a start for ever. Larger than the pieces
# of values, which are allocated often.
_RETURNED_BYTES = 2 * 1024 * 1024

# The whole environment of the sandbox. DENO_DIR points nowhere, so that nothing persists from one session
# to the next.
ENVIRONMENT = {
    "DENO_DIR": "/dev/null/none",
    "TZ": "UTC",
    "RUST_MIN_STACK": str(_THREAD_STACK_BYTES),
    "MALLOC_MMAP_THRESHOLD_": str(_RETURNED_BYTES),
    "DENO_NO_UPDATE_CHECK": "1",
    "DENO_NO_PACKAGE_JSON": "1",
    "NO_COLOR": "1",
}

_finding = threading.Lock()  # guards the search for Deno


def command(deno: Path, program: Path, limits: Limits) -> list[str]:
    """Returns the command line of a sandbox process. It grants no permissions."""
    pages = f"--wasm-max-mem-pages={limits.memory_bytes // _WASM_PAGE}"
    flags = usable_flags(deno, ENVIRONMENT, tested=_trials.version(deno) == DENO_TESTED)
    v8_flags = ",".join((*flags, pages))
    return [str(deno), "run", *_FLAGS, f"--v8-flags={v8_flags}", str(program)]


def find_deno() -> Path:
    """Returns the Deno executable: the one from PyPI, else the one on the PATH.

    Raises:
        DenoNotFoundError: There is none.
        DenoVersionError: It is too old or too new, or has a known flaw.
        WallProbeError: The machine was too loaded to find out whether it works behind the wall.
    """
    path = _packaged_deno() or _path_deno()
    if path is None:
        raise DenoNotFoundError(f"Cannot start the sandbox: {_not_found()}")
    version = deno_version(path)
    oldest, untried = DENO_SUPPORTED
    if flaws := known_flaws(version):
        raise DenoVersionError(
            f"Cannot start the sandbox: {path} is Deno {_dotted(version)}, which has a known flaw: "
            f"{flaws[0].name} ({flaws[0].concerns}). {DENO_FIX}"
        )
    if not oldest <= version < untried:
        raise DenoVersionError(
            f"Cannot start the sandbox: {path} is Deno {_dotted(version)}, need "
            f"{_dotted(oldest)} or newer, below {_dotted(untried)}. {DENO_FIX}"
        )
    return path


def _not_found() -> str:
    """Says where Deno was looked for, and what to do."""
    if importlib.util.find_spec("deno") is None:
        return f"no Deno was found, neither as a package of {sys.executable} nor on the PATH. {DENO_FIX}"
    folder = sysconfig.get_path("scripts")
    return (
        f"the package deno is installed for {sys.executable}, but its executable is not in {folder}, and no "
        "deno is on the PATH. Put the folder that has it on the PATH, or install it again: pip install "
        '--force-reinstall "deno>=2.9.8,<3"'
    )


def _packaged_deno() -> Path | None:
    if importlib.util.find_spec("deno") is None:
        return None
    import deno  # optional, so not imported at the top

    try:
        # It uses sysconfig, which two threads can initialise at the same time in CPython 3.11.
        with _finding:
            return Path(deno.find_deno_bin())
    except FileNotFoundError:
        return None


def _path_deno() -> Path | None:
    found = shutil.which("deno")
    return Path(found) if found else None


def deno_version(path: Path) -> Version:
    """Returns the version that the executable reports. Raises `DenoNotFoundError` if it reports none."""
    return _trials.of(path)[0]


def v8_version(path: Path) -> str:
    """Returns the version of V8 in the executable. Raises `DenoNotFoundError` if it reports none."""
    try:
        printed = run(path, ["--version"], NO_WALL, ENVIRONMENT).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DenoNotFoundError(f"{path} does not run: {error}. {DENO_FIX}") from error
    match = re.search(r"^v8 ([\w.-]+)", printed, re.MULTILINE)
    if match is None:
        raise DenoNotFoundError(f"{path} does not report its version of V8. {DENO_FIX}")
    return match[1]


def wall_for(path: Path) -> Wall:
    """Returns the strongest confinement of this machine under which the executable works."""
    return _trials.of(path)[1]


def wall_shortcomings(effective: Wall) -> Sequence[str]:
    """Returns the parts that the effective wall lacks, each with the reason and the remedy."""
    missing = list(wall.shortcomings())
    offered = wall.detect()
    if effective != offered:
        missing.append(
            f"Deno does not start behind {offered}, only behind {effective}: use the version of Deno that this "
            "release was tested with, and report it"
        )
    return missing


@functools.cache
def report_wall(effective: Wall) -> None:
    """Records, once per process, that sandboxes start with a part of the wall missing."""
    if not effective.complete:
        reason = "; ".join(wall_shortcomings(effective))
        record("wall.missing", found=str(effective), reason=reason)


def demand_wall(effective: Wall) -> None:
    """Raises `WallMissingError` if a part of the wall is missing."""
    if not effective.complete:
        missing = wall_shortcomings(effective)
        raise WallMissingError(
            "Cannot start the sandbox: require_wall asks for the whole wall of the operating system, and "
            f"{'; '.join(missing)}. To see the available parts: python -m sandbox_runtime doctor",
            missing,
        )


class _Trials:
    """The result of trying each executable; one trial at a time, whose failure holds for those who waited for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held during a trial
        self._results: dict[Path, tuple[Version, Wall]] = {}
        self._failures: dict[Path, tuple[float, EngineError]] = {}

    def version(self, path: Path) -> Version | None:
        """Returns the version of an executable that was tried; None for others."""
        version, _ = self._results.get(path, (None, None))
        return version

    def of(self, path: Path) -> tuple[Version, Wall]:
        since = time.monotonic()
        with self._lock:
            if path in self._results:
                return self._results[path]
            failed_at, failure = self._failures.get(path, (0.0, None))
            if failure is not None and failed_at >= since:
                raise failure
            try:
                result = self._results[path] = _try_out(path)
            except EngineError as error:
                self._failures[path] = time.monotonic(), error
                raise
            return result


_trials = _Trials()


def _try_out(path: Path) -> tuple[Version, Wall]:
    offered = wall.detect()
    if (cached := _remembered(path, offered)) is not None:
        return cached, offered
    version, effective = strongest(path, offered, ENVIRONMENT)
    if effective == offered:
        _remember(path, offered, version)
    return version, effective


def _note(path: Path, offered: Wall) -> Path | None:
    """Returns the file that records a successful trial, which saves 0.2 s; None if none may be recorded.

    It exists only for the executable of the package `deno`, and records only that the executable works behind
    the complete wall of this machine: a record can never weaken a wall. Its name depends on the executable, the
    kernel and the available parts.
    """
    if path != _packaged_deno():
        return None
    state = path.stat()
    facts = (str(path), state.st_size, state.st_mtime_ns, platform.release(), repr(offered))
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return platformdirs.user_state_path("dspy-rlm") / f"deno-{digest}"


def _remembered(path: Path, offered: Wall) -> Version | None:
    try:
        note = _note(path, offered)
        match = note and re.fullmatch(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})", note.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _remember(path: Path, offered: Wall, version: Version) -> None:
    with contextlib.suppress(OSError):
        if (note := _note(path, offered)) is None:
            return
        note.parent.mkdir(parents=True, exist_ok=True)
        whole = note.with_name(f"{note.name}-{os.getpid()}")
        whole.write_text(_dotted(version), "ascii")
        whole.replace(note)


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
