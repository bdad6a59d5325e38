"""Prepares the peer, `dspy.PythonInterpreter`, for machines that reach only package registries.

Its `runner.js` imports one helper, `readLines`, from deno.land. At run time the installed file is read, that one import is
redirected to `read_lines.js`, and the result is written to a temporary folder; no code of DSPy is stored here. Deno gets
Pyodide from the npm registry, as for every user of DSPy. All flags and permissions are the defaults of the installed DSPy.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

REMOTE_IMPORT = '"https://deno.land/std@0.186.0/io/mod.ts"'
LOCAL_IMPORT = '"./read_lines.js"'
READ_LINES = Path(__file__).with_name("read_lines.js")


class PeerUnavailableError(Exception):
    """The peer cannot be measured here; the message says why."""


def default_cache() -> Path:
    """Returns the folder that keeps the peer's npm packages between runs."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "dspy-rlm-benchmarks" / "deno"


def installed_runner() -> Path:
    """Returns the `runner.js` of the installed DSPy, found without importing DSPy."""
    spec = importlib.util.find_spec("dspy")
    if spec is None or spec.origin is None:
        raise PeerUnavailableError('DSPy is not installed; install it with "pip install dspy"')
    return (Path(spec.origin).parent / "primitives" / "runner.js").resolve()


def write_patched_runner(folder: Path) -> Path:
    """Writes a copy of the installed runner to `folder`, with its one remote import made local."""
    source = installed_runner().read_text(encoding="utf-8")
    if source.count(REMOTE_IMPORT) != 1:
        raise PeerUnavailableError(
            f"the installed runner.js does not import {REMOTE_IMPORT} exactly once; "
            "this benchmark was written for DSPy 3.4.1"
        )
    shutil.copy(READ_LINES, folder)
    runner = folder.resolve() / "runner.js"
    runner.write_text(source.replace(REMOTE_IMPORT, LOCAL_IMPORT), encoding="utf-8")
    return runner


def environment(cache: Path) -> dict[str, str]:
    """Returns the environment variables that the peer's process needs.

    DSPy itself sets `DENO_NO_PACKAGE_JSON` when it chooses the command.
    """
    return {"DENO_DIR": str(cache.resolve()), "DENO_NO_PACKAGE_JSON": "1"}


def deno_command(runner: Path) -> list[str]:
    """Returns DSPy's own default command, with the patched runner in place of the installed one."""
    from dspy.primitives.python_interpreter import PythonInterpreter

    installed = str(installed_runner())
    default: list[str] = PythonInterpreter().deno_command
    patched = [argument.replace(installed, str(runner)) for argument in default]
    if str(runner) not in patched:
        raise PeerUnavailableError(f"DSPy's default command does not run {installed}: {default}")
    return patched
