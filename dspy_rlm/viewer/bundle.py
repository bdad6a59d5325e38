"""The page's script and style sheet, bundled from the TypeScript in `web/`.

A wheel carries the built files. A checkout has the sources only: they are bundled at first use, by esbuild through Deno, into
the user's cache, in a folder that is named by their digest. So a built file is always that of its sources.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from dspy_rlm.errors import RLMError
from sandbox_runtime.helpers import find_deno, staging

SOURCES = Path(__file__).parent / "web"
BUILT = Path(__file__).parent / "built"
SCRIPT, STYLE, DIGEST = "viewer.js", "viewer.css", "sources.sha256"

# Bundling takes a second; fetching the bundler may take a minute.
BUILD_SECONDS = 300


class ViewerError(RLMError):
    """The viewer's page cannot be built."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """The two files of the page."""

    script: str
    style: str
    sources: str
    """The digest of the sources that they were built from."""


def bundle() -> Bundle:
    """Returns the built files: those of the wheel, else those of the sources, which are built if need be.

    Raises:
        ViewerError: They could not be built.
    """
    if (BUILT / DIGEST).is_file():
        return _read(BUILT)
    digest = digest_of_sources()
    folder = Path(platformdirs.user_cache_path("dspy-rlm")) / "viewer" / digest[:32]
    if not (folder / DIGEST).is_file():
        try:
            with staging(folder.parent) as staged:
                built = staged / "built"
                built.mkdir()
                build(built)
                _move(built, folder)
        except OSError as error:
            raise ViewerError(f"The viewer cannot be built in {folder}: {error}") from error
    return _read(folder)


def build(folder: Path) -> None:
    """Bundles the sources into a folder.

    Raises:
        ViewerError: The bundler could not be fetched, or has refused the sources.
    """
    with tempfile.TemporaryDirectory(prefix="dspy-rlm-viewer-") as workshop:
        copied = Path(workshop) / "web"
        for name in source_files():
            target = copied / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCES / name, target)
        built = Path(workshop) / "built"
        built.mkdir()
        command = [str(find_deno()), "task", "build", str(built)]
        try:
            done = subprocess.run(
                command,
                cwd=copied,
                env={**os.environ, "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ViewerError(
                f"The viewer was not built within {BUILD_SECONDS} s. {_FIX}"
            ) from error
        if done.returncode != 0:
            raise ViewerError(
                f"The viewer could not be built: {done.stderr.strip()[-1500:]}\n{_FIX}"
            )
        for name in (SCRIPT, STYLE):
            shutil.copyfile(built / name, folder / name)
    (folder / DIGEST).write_text(digest_of_sources(), "ascii")


_FIX = (
    "Deno fetches the bundler esbuild from the npm registry: check the network, or the registry named in .npmrc or "
    "NPM_CONFIG_REGISTRY. An installed wheel of dspy-rlm has the built files and needs no network."
)


def source_files() -> list[str]:
    """Returns the names of the files that the built ones depend on, sorted."""
    files = (path.relative_to(SOURCES) for path in SOURCES.rglob("*") if path.is_file())
    return sorted(file.as_posix() for file in files if not _is_left_out(file))


def _is_left_out(file: Path) -> bool:
    is_hidden = any(part.startswith(".") or part == "node_modules" for part in file.parts)
    return is_hidden or file.name.endswith("_test.ts")


def digest_of_sources() -> str:
    """Returns the SHA-256 of the sources."""
    digest = hashlib.sha256()
    for name in source_files():
        data = (SOURCES / name).read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _read(folder: Path) -> Bundle:
    script, style, digest = ((folder / name).read_text("utf-8") for name in (SCRIPT, STYLE, DIGEST))
    return Bundle(script, style, digest)


def _move(built: Path, folder: Path) -> None:
    """Moves a built folder to its place, unless another process was faster."""
    try:
        built.rename(folder)
    except OSError:
        if not (folder / DIGEST).is_file():
            raise
