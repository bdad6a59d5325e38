"""Installs the engine: Pyodide by way of Deno, and the boot image made from it.

Used when a wheel is built (the files go into it), and once per user where the package does not carry
them. A folder appears whole or not at all, so that processes may install at the same time, and one
that is killed leaves nothing that another could take for an engine.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandbox_runtime import assets
from sandbox_runtime.assets import Engine
from sandbox_runtime.errors import EngineError, EngineMissingError, SandboxError
from sandbox_runtime.limits import Limits
from sandbox_runtime.session import Session

# A download that takes longer than this has failed.
FETCH_SECONDS = 600

_FETCH_FIX = (
    "Deno fetches Pyodide from the npm registry: check the network, or the registry named in .npmrc "
    "or NPM_CONFIG_REGISTRY. An installed wheel of dspy-rlm needs no network."
)


def install(*, force: bool = False) -> Engine:
    """Makes sure that an engine is in the user's cache, and returns it.

    Args:
        force: Replace the one that is there.

    Raises:
        EngineError: It could not be fetched, built or written; the message says what to do.
    """
    deno = assets.find_deno()
    folder = assets.cache_folder()
    if force or not _is_engine(folder):
        with _staging(folder.parent) as staging:
            build(deno, staging)
            _move(staging, folder, force=force)
    return Engine(deno, folder)


def build(deno: Path, folder: Path) -> None:
    """Fills an empty folder with a whole engine.

    Raises:
        EngineError: It could not be fetched, built or written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as workshop:
            environment = {**os.environ, "DENO_DIR": str(Path(workshop) / "cache"), "NO_COLOR": "1"}
            _fetch_pyodide(deno, Path(workshop), folder, environment)
            _strip_types(deno, folder, environment)
        (folder / assets.IMAGE_FILE).write_bytes(_make_image(deno, folder))
        assets.write_manifest(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    except EngineError:
        raise
    except SandboxError as error:
        raise EngineMissingError(f"The boot image could not be made: {error}") from error


def _fetch_pyodide(
    deno: Path, workshop: Path, folder: Path, environment: Mapping[str, str]
) -> None:
    """Lets Deno install Pyodide, held to the hash in the lock file, and takes the files from there."""
    for name in ("deno.json", "deno.lock"):
        shutil.copy(assets.SOURCE_FOLDER / name, workshop)
    try:
        done = subprocess.run(
            [deno, "install", "--frozen"],
            cwd=workshop,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineMissingError(
            f"Pyodide could not be fetched within {FETCH_SECONDS} s. {_FETCH_FIX}"
        ) from error
    if done.returncode != 0:
        said = done.stderr.strip()[-1500:]
        if "os error 28" in said:
            raise EngineMissingError(f"No space is left below {folder}. Free some and try again.")
        raise EngineMissingError(f"Pyodide could not be fetched: {said}\n{_FETCH_FIX}")
    for name in assets.PYODIDE_FILES:
        # Not a move: Deno links these files into its cache, and they are read-only there.
        shutil.copyfile(workshop / "node_modules" / "pyodide" / name, folder / name)


def _strip_types(deno: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Makes JavaScript of the sandbox's program."""
    for source, script in zip(assets.PROGRAM_FILES, assets.SCRIPT_FILES, strict=True):
        target = folder / script
        origin = assets.SOURCE_FOLDER / source
        command = [str(deno), "transpile", "--no-config", "-o", str(target), str(origin)]
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise EngineMissingError(
                f"{source} could not be transpiled: {done.stderr.strip()[-800:]}"
            )
        text = target.read_text(encoding="utf-8")
        target.write_text(re.sub(r'(from "\./\w+)\.ts"', r'\1.js"', text), encoding="utf-8")


def _make_image(deno: Path, folder: Path) -> bytes:
    """Starts the interpreter from its sources and saves its memory."""
    with Session(Engine(deno, folder, boots_from_image=False), Limits()) as session:
        return session.checkpoint_image()


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder beside the final one, gone at the end; those of killed processes go at the start."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        staging = tempfile.mkdtemp(prefix=f"partial-{os.getpid()}-", dir=root)
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        yield Path(staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _sweep(root: Path) -> None:
    for left in root.glob("partial-*"):
        pid = left.name.split("-")[1]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there; its folder stays until `--force`
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _move(staging: Path, folder: Path, *, force: bool) -> None:
    """Gives the folder its name in one step. Another process may have been faster: then it is theirs."""
    replaced = staging.with_name(f"{staging.name}-replaced")
    try:
        if folder.is_dir() and (force or not _is_engine(folder)):
            folder.rename(replaced)
        staging.rename(folder)
    except OSError as error:
        if not _is_engine(folder):
            raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(replaced, ignore_errors=True)


def _is_engine(folder: Path) -> bool:
    return (folder / assets.MANIFEST_FILE).is_file()


def _unwritable(path: Path, error: OSError) -> EngineMissingError:
    return EngineMissingError(
        f"The sandbox's files cannot be written below {path}: {error.strerror or error}. Free space "
        "or give write access there, or point XDG_CACHE_HOME at a folder that has both."
    )
