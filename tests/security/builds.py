"""A sandbox that has been escaped from, to try what is left: Python holds the real globals of the worker.

Made for tests from a copy of the installed engine; nothing in the product knows of it. Each text that is
changed must be there, so that the build cannot become the usual one unnoticed.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

from sandbox_runtime import Limits, assets
from sandbox_runtime.assets import Engine
from sandbox_runtime.messages import Part
from sandbox_runtime.session import Session

_NO_STRINGS = "--disallow-code-generation-from-strings"

# Pyodide would take another way if it saw these while it starts.
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


@dataclasses.dataclass(frozen=True)
class EscapedEngine(Engine):
    """Starts a worker that hides nothing. What holds is Deno without rights, the wall, and the host."""

    def command(self, limits: Limits) -> list[str]:
        """The usual command, but texts may become code."""
        command = super().command(limits)
        assert sum(_NO_STRINGS in argument for argument in command) == 1
        return [argument.replace(f"{_NO_STRINGS},", "") for argument in command]

    def files(self) -> Iterator[tuple[str, Part]]:
        """The usual files, but Python keeps `js`; later it is in the image."""
        for name, data in super().files():
            yield (
                name,
                _changed(bytes(data).decode(), _GUEST).encode() if name == "guest.py" else data,
            )


def escaped(engine: Engine, folder: Path) -> EscapedEngine:
    """An escaped engine with an image of its own, in an empty folder, from an installed one."""
    for name in assets.INSTALLED_FILES:
        shutil.copyfile(engine.folder / name, folder / name)
    worker = folder / "worker.js"
    worker.write_text(_changed(worker.read_text(), _WORKER))
    made = EscapedEngine(engine.deno, folder, from_sources=True, wall=engine.wall)
    with Session(made, Limits()) as session:
        state = session.checkpoint()
    for name in assets.IMAGE_FILES:
        (folder / name).write_bytes(state.files[name])
    assets.write_manifest(folder)
    return dataclasses.replace(made, from_sources=False)


def _changed(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for known, other in changes:
        assert text.count(known) == 1, f"{known!r} is there {text.count(known)} times"
        text = text.replace(known, other)
    return text
