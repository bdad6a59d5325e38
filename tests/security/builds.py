"""Sandboxes with layers taken away, to try what is left. The first is one that has been escaped from: Python
holds the real globals of the worker.

Made for tests from a copy of the installed engine; nothing in the product knows of it. Each text that is
changed must be there, so that the build cannot become the usual one unnoticed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from sandbox_runtime import Limits
from sandbox_runtime.buffers import Part
from sandbox_runtime.engine import assets
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.isolation.os_isolation import Wall
from sandbox_runtime.sessions.session import Session

_NO_STRINGS = "--disallow-code-generation-from-strings"

# Pyodide would use another code path if it saw these during its start.
_SCRUB = "function scrubGlobals(kept) {"
_NO_SCRUB = """
let laidAside = null;
function scrubGlobals(kept) {
  if (laidAside !== null) return void Object.assign(globalThis, laidAside);
  const { Deno, process, fetch } = globalThis;
  laidAside = { Deno, process, fetch, realConsole };
  delete globalThis.Deno;
  delete globalThis.process;
  return;
""".strip()
_WORKER = (
    (_SCRUB, _NO_SCRUB),
    (
        "globalThis.console = quietConsole();",
        "globalThis.realConsole = globalThis.console; globalThis.console = quietConsole();",
    ),
    ("jsglobals: pythonGlobals()", "jsglobals: Object.assign(globalThis, pythonGlobals())"),
)
_GUEST = (("\n_hide_javascript()\n", "\n"),)


Texts = tuple[tuple[str, str], ...]

# Deno with all permissions, or a worker with those of its process.
ALL_RIGHTS = "--allow-all"
_WORKER_RIGHTS = (('permissions: "none"', 'permissions: "inherit"'),)
_NO_CAP = (("  capMemory(message.memoryBytes);", ""),)


@dataclasses.dataclass(frozen=True)
class EscapedEngine(Engine):
    """Starts a worker that hides nothing. The remaining layers are Deno's permissions, the wall, and the host."""

    strings: bool = True
    """True if V8 makes code of texts."""

    rights: bool = False
    """True if Deno has all rights."""

    pages: bool = True
    """True if V8 caps the pages of a memory."""

    def command(self, limits: Limits) -> list[str]:
        """Returns the usual command, with the changes above."""
        command = super().command(limits)
        if self.strings:
            command = _without(command, rf"{_NO_STRINGS},")
        if not self.pages:
            command = _without(command, r",--wasm-max-mem-pages=\d+")
        if self.rights:
            denied = [a for a in command if a.startswith("--deny-")]
            assert len(denied) == 8
            command = [a for a in command if a not in denied]
            command.insert(2, ALL_RIGHTS)
        return command

    def files(self) -> Iterator[tuple[str, Part]]:
        """Returns the usual files, except that Python keeps `js`; later it is in the image."""
        for name, data in super().files():
            yield (
                name,
                _changed(bytes(data).decode(), _GUEST).encode() if name == "entry.py" else data,
            )


def escaped(engine: Engine, folder: Path) -> EscapedEngine:
    """Builds an escaped engine with an image of its own, in an empty folder, from an installed one.

    It takes seconds. Tests use the one that `shared_escape` keeps, and `variant` for other rights.
    """
    for name in assets.INSTALLED_FILES:
        shutil.copyfile(engine.folder / name, folder / name)
    _change(folder / "worker.js", _WORKER)
    built = EscapedEngine(engine.deno, folder, from_sources=True, wall=engine.wall)
    with Session(built, Limits()) as session:
        state = session.checkpoint()
    for name in assets.IMAGE_FILES:
        (folder / name).write_bytes(state.files[name])
    (folder / assets.CACHE_FILE).write_bytes(b"")
    assets.write_manifest(folder)
    built = dataclasses.replace(built, from_sources=False)
    # Compiled with the flags of this build, so that its later starts are as fast as the usual ones.
    with Session(built, Limits()) as session:
        session.run_cell("import asyncio\nawait asyncio.sleep(0)")
        (folder / assets.CACHE_FILE).write_bytes(session.compiled_runtime())
    assets.write_manifest(folder)
    return built


def shared_escape(engine: Engine, run_folder: Path) -> EscapedEngine:
    """Returns the escaped engine of this test run, built by the first worker that needs it.

    Args:
        engine: The installed one.
        run_folder: pytest's base folder. Those of all workers of a run lie in one folder.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        run_folder = run_folder.parent
    folder = run_folder / "escaped-engine"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = run_folder / "escaped-engine-unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            escaped(engine, unfinished)
            unfinished.rename(folder)
    return EscapedEngine(engine.deno, folder, wall=engine.wall)


def variant(
    engine: EscapedEngine,
    folder: Path,
    *,
    strings: bool = True,
    rights: bool = False,
    worker_rights: bool = False,
    wall: Wall | None = None,
) -> EscapedEngine:
    """Returns an escaped engine with other rights, in an empty folder. Its image is the same.

    Args:
        engine: An escaped engine.
        folder: Where its changed copy goes.
        strings: Whether V8 makes code of texts.
        rights: Whether Deno has all rights.
        worker_rights: Whether the worker has those of its process.
        wall: The system's wall around it; None: the usual one.
    """
    for name in assets.INSTALLED_FILES:
        shutil.copyfile(engine.folder / name, folder / name)
    if worker_rights:
        _change(folder / "sandbox.js", _WORKER_RIGHTS)
    assets.write_manifest(folder)
    return dataclasses.replace(
        engine,
        folder=folder,
        wall=engine.wall if wall is None else wall,
        strings=strings,
        rights=rights,
    )


def uncapped(engine: Engine, folder: Path, *, hook: bool, pages: bool) -> EscapedEngine:
    """Builds an unescaped engine with one of the two caps of its memory, or none.

    Args:
        engine: The installed one.
        folder: Where its changed copy goes.
        hook: Whether growing is refused by the worker.
        pages: Whether it is refused by V8.
    """
    for name in (*assets.INSTALLED_FILES, assets.MANIFEST_FILE):
        shutil.copyfile(engine.folder / name, folder / name)
    if not hook:
        _change(folder / "worker.js", _NO_CAP)
    return EscapedEngine(engine.deno, folder, wall=engine.wall, strings=False, pages=pages)


def _change(path: Path, changes: Texts) -> None:
    path.write_text(_changed(path.read_text(), changes))


def _without(command: list[str], pattern: str) -> list[str]:
    changed = [re.sub(pattern, "", argument) for argument in command]
    assert changed != command
    return changed


def _changed(text: str, changes: Texts) -> str:
    for original, other in changes:
        assert text.count(original) == 1, f"{original!r} is there {text.count(original)} times"
        text = text.replace(original, other)
    return text
