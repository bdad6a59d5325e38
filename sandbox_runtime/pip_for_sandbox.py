"""Runs pip as if it ran in the sandbox. A program of its own, started by `pip_runs.py`.

pip's options choose the wheels' platform, but pip evaluates environment markers, such as
`sys_platform == "emscripten"`, for the Python that it runs on. Here it sees those of the sandbox. An
environment without pip uses the one that Python's own `ensurepip` carries.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

# In the names of the sandbox's wheels.
PLATFORM = "pyemscripten_2026_0_wasm32"

# What the sandbox's own `platform`, `os` and `sys` say; a test compares them.
MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.14.2",
    "os_name": "posix",
    "platform_machine": "wasm32",
    "platform_python_implementation": "CPython",
    "platform_system": "Emscripten",
    "python_full_version": "3.14.2",
    "python_version": "3.14",
    "sys_platform": "emscripten",
}

NO_PIP = 75  # the exit code when there is no pip


def main() -> None:
    """Runs pip with this program's arguments."""
    if importlib.util.find_spec("pip") is None and not _use_bundled():
        sys.exit(NO_PIP)
    markers = importlib.import_module("pip._vendor.packaging.markers")
    own = markers.default_environment
    markers.default_environment = lambda: {**own(), **MARKERS}  # type: ignore[attr-defined]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def _use_bundled() -> bool:
    spec = importlib.util.find_spec("ensurepip")
    if spec is None or spec.origin is None:
        return False
    wheels = sorted((Path(spec.origin).parent / "_bundled").glob("pip-*.whl"))
    if wheels:
        sys.path.insert(0, str(wheels[-1]))
    return bool(wheels)


if __name__ == "__main__":
    main()
