"""Runs a Python module on a hostile file: in a process of its own, confined and bounded.

The process reads the listed files and Python's libraries (see `python_paths.py`), writes to the two files that it inherits, and has
limits for its memory, its CPU time, its output and its wall time. A hang, a crash or an excess ends that process alone. Where the
operating system cannot confine it, the limits hold all the same, unless the caller requires the confinement.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from sandbox_runtime.errors import WallMissingError
from sandbox_runtime.isolation.launcher import FAILED
from sandbox_runtime.isolation.os_isolation import (
    NO_WALL,
    Wall,
    detect,
    run_confined,
    shortcomings,
)
from sandbox_runtime.isolation.process_limits import lower_limits
from sandbox_runtime.isolation.python_paths import PythonPaths, python_paths

logger = logging.getLogger(__name__)

# The process inherits only the variables that its Python needs to start.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")

# The length up to which the output of the process is kept.
_MESSAGE_BYTES = 64 * 1024

# One number of `launcher.FAILED` for each of the launcher's steps.
_LAUNCHER_STEPS = 20

# The thread ends the process when its stdin ends: when this process does, however that happens. The finder imports modules from
# folders that cannot be listed.
_START = """\
import json, os, sys, threading
from importlib.util import spec_from_file_location
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
folders, files = json.loads(sys.argv.pop(1))
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return spec_from_file_location(name, files[name]) if name in files else None
sys.path += folders
sys.meta_path.insert(0, Finder)
from {module} import main
main(sys.argv[1:])
"""


@dataclasses.dataclass(frozen=True)
class ProcessBounds:
    """The most that the process may take."""

    seconds: float = 300.0
    """Wall time, and CPU time."""

    memory_bytes: int = 2 * 1024**3
    output_bytes: int = 4 * 1024**3


@dataclasses.dataclass(frozen=True)
class Ended:
    """The end of the process."""

    problem: str
    """The failure, such as "took longer than 300 s"; empty if it ended by itself without an error."""

    message: str
    """The end of its stderr."""


def run_python(
    module: str,
    arguments: Sequence[str],
    output: IO[bytes],
    *,
    modules: Sequence[Path] = (),
    readable: Sequence[Path] = (),
    bounds: ProcessBounds | None = None,
    require_wall: bool = False,
) -> Ended:
    """Runs `main(arguments)` of a module, with its stdout in a file. Blocks until it has ended.

    Args:
        module: The module's name.
        arguments: The arguments.
        output: An open file on disk.
        modules: Folders of packages, and files of modules, that it may import beside the installed ones. It reads nothing
            else of the folders in which they are.
        readable: Files that the process may read, beside its libraries.
        bounds: What it may take.
        require_wall: Refuse to run where the operating system cannot confine the process; otherwise it then runs with the
            parts that there are, which is logged.

    Raises:
        OSError: The process cannot be started.
        WallMissingError: `require_wall` is set, and a part of the confinement is missing.
    """
    bounds = bounds or ProcessBounds()
    paths = python_paths(modules)
    for wall in _walls():
        if not wall.complete:
            if require_wall:
                break
            _log_missing(wall)
        code, message = _run(wall, module, arguments, output, paths, readable, bounds)
        if wall and FAILED <= (code or 0) < FAILED + _LAUNCHER_STEPS:
            # This kernel, or a container's profile, refuses a part of the confinement.
            output.truncate(0)
            continue
        return Ended(_problem(code, bounds), message)
    missing = shortcomings() or ("this kernel, or a container's profile, refuses a part of it",)
    raise WallMissingError(
        "Cannot start a confined process: require_wall asks for the whole wall of the operating system, and "
        f"{'; '.join(missing)}.",
        missing,
    )


@functools.cache
def _walls() -> Sequence[Wall]:
    offered = detect()
    parts = [offered, Wall(offered.landlock), Wall(seccomp=offered.seccomp), NO_WALL]
    return [wall for at, wall in enumerate(parts) if wall not in parts[:at]]


@functools.cache
def _log_missing(wall: Wall) -> None:
    """Logs, once for each, that files are read with a part of the wall missing."""
    logger.warning("Files are converted with less confinement than the whole wall: %s.", wall)


def _run(
    wall: Wall,
    module: str,
    arguments: Sequence[str],
    output: IO[bytes],
    paths: PythonPaths,
    readable: Sequence[Path],
    bounds: ProcessBounds,
) -> tuple[int | None, str]:
    """Returns the exit code, None after the timeout, and the end of stderr."""
    command = [
        sys.executable,
        "-I",
        "-S",  # no file `.pth`, which runs code and names folders of projects
        "-c",
        _START.format(module=module),
        json.dumps([[*map(str, paths.folders)], paths.files]),
        *arguments,
    ]
    import tempfile  # slow, and most programs run no such process

    with tempfile.TemporaryFile() as errors:
        with run_confined(wall, Path(sys.executable), [*paths.readable, *readable]) as launch:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                cwd=Path(sys.executable).anchor or "/",
                start_new_session=True,  # so that Ctrl-C reaches only the host, which ends it
                **launch.options,
            )
        try:
            _limit(process.pid, bounds)
            code: int | None = process.wait(bounds.seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
            launch.seal()
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MESSAGE_BYTES))
        return code, errors.read().decode("utf-8", "replace")


def _limit(pid: int, bounds: ProcessBounds) -> None:
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": int(bounds.seconds) + 1,
        "RLIMIT_DATA": bounds.memory_bytes,
        "RLIMIT_FSIZE": bounds.output_bytes,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_NOFILE": 64,
    }
    lower_limits(pid, limits)


def _problem(code: int | None, bounds: ProcessBounds) -> str:
    if code == 0:
        return ""
    if code is None:
        return f"took longer than {bounds.seconds:g} s"
    if code > 0:
        return "failed"
    import signal

    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        if name in ("SIGXCPU", "SIGKILL"):
            return f"took longer than {bounds.seconds:g} s, or too much memory"
        if name == "SIGXFSZ":
            return f"resulted in more than {bounds.output_bytes:,} bytes"
        if name == "SIGABRT":
            return "crashed, most likely because it needs too much memory"
        return f"crashed ({name})"
    return "crashed"
