"""Runs pip as if it ran in the sandbox. A separate program, started by `pip.py`.

pip's options choose the wheels' platform, but pip evaluates environment markers, such as
`sys_platform == "emscripten"`, for the Python that it runs on. Here it sees the markers of the sandbox, and
`pip_guard.py` restricts it to wheels. An environment without pip uses the one bundled with Python's `ensurepip`.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

# The platform tag of the sandbox's wheels.
PLATFORM = "pyemscripten_2026_0_wasm32"

# The values of the sandbox's own `platform`, `os` and `sys`; a test compares them.
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

# Exit codes: there is no pip; this pip cannot be restricted to wheels.
NO_PIP = 75
UNKNOWN_PIP = 76


def main() -> None:
    """Runs pip with this program's arguments."""
    guard = _guard()
    guard.bound_resources()
    guard.end_with_host()
    if importlib.util.find_spec("pip") is None and not _use_bundled():
        sys.exit(NO_PIP)
    guard.refuse_foreign_code()
    try:
        guard.hold_to_wheels(_values("-r"))
        _use_markers()
    except (guard.UnknownPipError, ImportError, AttributeError) as error:
        sys.stderr.write(f"ERROR: {error}\n")
        sys.exit(UNKNOWN_PIP)
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def _guard() -> ModuleType:
    """Loads the module beside this file; the folder is not on the path, where its names would shadow others."""
    spec = importlib.util.spec_from_file_location(
        "pip_guard", Path(__file__).with_name("pip_guard.py")
    )
    if spec is None or spec.loader is None:
        raise ImportError("pip_guard.py is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _use_markers() -> None:
    markers = importlib.import_module("pip._vendor.packaging.markers")
    own = markers.default_environment
    markers.default_environment = lambda: {**own(), **MARKERS}  # type: ignore[attr-defined]


def _values(option: str) -> list[str]:
    """Returns the values of an option on this program's command line."""
    after = zip(sys.argv, sys.argv[1:], strict=False)
    return [value for name, value in after if name == option]


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
