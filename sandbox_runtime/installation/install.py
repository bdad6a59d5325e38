"""Installs the engine: Pyodide by way of Deno, and the boot images made from it.

Used when a wheel is built (the files go into it), and once per user where the package does not carry
them. A folder appears whole or not at all, so that processes may install at the same time, and one
that is killed leaves nothing that another could take for an engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock

from sandbox_runtime.engine import assets
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.assets import Engine, Mounted
from sandbox_runtime.engine.atomic_folder import staging
from sandbox_runtime.engine.provenance import PYODIDE_FILES, PYODIDE_VERSION, sha256_of
from sandbox_runtime.errors import (
    CheckpointError,
    EngineError,
    EngineMissingError,
    PackageError,
    SandboxError,
    SandboxStartError,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.packages.store import IMAGE, NO_IMAGE, PackageSet
from sandbox_runtime.sandbox import Completed, Failed
from sandbox_runtime.sessions.session import Session

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
    deno = executable.find_deno()
    folder = assets.cache_folder()
    if force or not _is_engine(folder):
        with _staging(folder.parent) as staged:
            build(deno, staged)
            _move(staged, folder, force=force)
    return Engine(deno, folder, wall=executable.wall_for(deno))


def build(deno: Path, folder: Path) -> None:
    """Fills an empty folder with a whole engine.

    Raises:
        EngineError: It could not be fetched, built or written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as workshop:
            environment = {**os.environ, "DENO_DIR": str(Path(workshop) / "cache"), "NO_COLOR": "1"}
            _fetch_pyodide(deno, Path(workshop), folder, environment)
            _make_scripts(deno, folder, environment)
        _make_image(Engine(deno, folder, from_sources=True))
        _compile(Engine(deno, folder))
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
    fetched = workshop / "node_modules" / "pyodide"
    _check_pyodide(fetched)
    for name in ("pyodide.asm.wasm", "python_stdlib.zip", assets.LOCK_FILE):
        # Not a move: Deno links these files into its cache, and they are read-only there.
        shutil.copyfile(fetched / name, folder / name)
    modules = [fetched / name for name in ("pyodide.mjs", "pyodide.asm.mjs")]
    (folder / "pyodide.js").write_text(join_runtime(*modules), encoding="utf-8")


def _check_pyodide(folder: Path) -> None:
    """Sees that what was fetched is what this version of ours was made for."""
    for name, digest in PYODIDE_FILES.items():
        if sha256_of(folder / name) != digest:
            raise EngineMissingError(
                f"{name} of Pyodide {PYODIDE_VERSION} is not the file that dspy-rlm was made for: its "
                f"hash differs. {_FETCH_FIX}"
            )


def join_runtime(loader: Path, runtime: Path) -> str:
    """Pyodide's two modules as one script, whose value has `loadPyodide` and `createPyodideModule`.

    A script, because V8 then takes its compiled form from a file, and because `import()` leads nowhere
    in it.

    Raises:
        EngineMissingError: The modules are not what they were in the version we know.
    """
    exports = {
        loader: (r"export\{(\w+) as loadPyodide,\w+ as version\};", "loadPyodide"),
        runtime: (r"export default (\w+);", "createPyodideModule"),
    }
    functions = []
    for path, (export, public) in exports.items():
        text = path.read_text(encoding="utf-8").replace(
            "import.meta.url", '"https://sandbox.invalid/"'
        )
        text, found = re.subn(export, rf"return {{{public}:\1}};", text)
        if found != 1 or re.search(r"^(import|export)\b", text, re.M):
            raise EngineMissingError(f"{path.name} of Pyodide is not as expected; cannot use it.")
        functions.append(f"(() => {{{text}\n}})()")
    whole = f"({{...{functions[0]}, ...{functions[1]}}})"
    for pattern, times, instead in assets.RUNTIME_PATCHES:
        whole, found = re.subn(pattern, instead, whole)
        if found != times:
            raise EngineMissingError(
                f"Pyodide's JavaScript has {pattern} {found} times, not {times}; cannot use it."
            )
    return f"const importNothing = () => Promise.reject(new Error('no modules'));\n{whole}"


def _make_scripts(deno: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Makes JavaScript of the sandbox's program. The worker's parts become one file: it can load none."""
    for source, script in zip(assets.PROGRAM_FILES, assets.SCRIPT_FILES, strict=True):
        text = _transpile(deno, source, environment)
        if source == "worker.ts":
            parts = [_as_block(_transpile(deno, part, environment)) for part in assets.WORKER_PARTS]
            text = "\n".join([*parts, re.sub(r'import \{[^}]*\} from "\./\w+\.ts";', "", text)])
        text = re.sub(r'(from "\./\w+)\.ts"', r'\1.js"', text)
        (folder / script).write_text(text, encoding="utf-8")


def _as_block(module: str) -> str:
    """A module without imports as a block that leaves nothing but its exports behind."""
    declaration = r"\bexport (?=(?:(?:async )?function\*?|class|const) (\w+))"
    exported = ", ".join(re.findall(declaration, module))
    body = re.sub(declaration, "", module)
    return f"const {{{exported}}} = (() => {{\n{body}\nreturn {{{exported}}};\n}})();"


def _transpile(deno: Path, source: str, environment: Mapping[str, str]) -> str:
    command = [str(deno), "transpile", "--no-config", str(assets.SOURCE_FOLDER / source)]
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise EngineMissingError(f"{source} could not be transpiled: {done.stderr.strip()[-800:]}")
    return done.stdout


def _make_image(engine: Engine) -> None:
    """Starts the interpreter from its sources and saves its memory."""
    with Session(engine, Limits()) as session:
        state = session.checkpoint()
    for name in assets.IMAGE_FILES:
        (engine.folder / name).write_bytes(state.files[name])


def _compile(engine: Engine) -> None:
    """Runs a cell, so that V8 knows what is used, and saves what it has compiled."""
    (engine.folder / assets.CACHE_FILE).write_bytes(b"")
    assets.write_manifest(engine.folder)
    with Session(engine, Limits()) as session:
        session.run_cell("import asyncio\nawait asyncio.sleep(0)")
        (engine.folder / assets.CACHE_FILE).write_bytes(session.compiled_runtime())


# ---- Packages --------------------------------------------------------------------------------------


def with_packages(
    engine: Engine, packages: PackageSet, memory_bytes: int = Limits.memory_bytes
) -> Engine:
    """The engine with the packages mounted, and started from an image that has them imported.

    The image is made once. Where none can be made, or it does not fit into the memory, packages are
    imported when a cell asks for them.

    Raises:
        PackageError: The packages' folder cannot be written.
        SandboxStartError: The engine does not start.
    """
    plain = Mounted((packages.bundle, packages.bundle_bytes))
    image = _find_image(packages.folder) or _keep_image(
        dataclasses.replace(engine, packages=plain), packages
    )
    if image is None or image.suffix == NO_IMAGE or image.stat().st_size >= memory_bytes:
        return dataclasses.replace(engine, packages=plain)
    return dataclasses.replace(engine, packages=_with_image(plain, image))


def _find_image(folder: Path) -> Path | None:
    """An image, or the file that says why there is none: each has its hash and the engine's in its name."""
    found = [*folder.glob(f"{assets.engine_key()}-*")]
    return next((path for path in found if _is_sound(path)), None)


@functools.lru_cache(maxsize=64)
def _is_sound(image: Path) -> bool:
    """True if a file has the hash that its name tells; asked once in a process."""
    try:
        with image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    return image.stem.endswith(digest)


class _NoImageError(SandboxError):
    """With these packages there can be no image, also the next time."""


def _keep_image(engine: Engine, packages: PackageSet) -> Path | None:
    """Makes the image, unless another process is at it: then waits for theirs.

    Returns:
        The image, or the file that says why there can be none; None if it was not possible this time.
    """
    if not packages.bundle.is_file():
        raise PackageError(f"{packages.folder} is gone. {assets.PACKAGES_FIX}")
    try:
        with FileLock(packages.folder / "image.lock"), staging(packages.folder) as workshop:
            if (theirs := _find_image(packages.folder)) is not None:
                return theirs
            made = workshop / "made"
            kind = IMAGE
            try:
                _make_package_image(engine, packages, made)
            except SandboxStartError:
                raise  # without the image, too: it is not the packages' fault
            except (CheckpointError, _NoImageError) as error:
                made.write_text(f"{error}\n", encoding="utf-8")
                kind = NO_IMAGE
            except SandboxError:
                return None
            with made.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            image = packages.folder / f"{assets.engine_key()}-{digest}{kind}"
            made.replace(image)
            _is_sound.cache_clear()
            return image
    except OSError as error:
        raise PackageError(
            f"An image of the packages cannot be kept in {packages.folder}: "
            f"{error.strerror or error}. Free space or give write access there."
        ) from error


def _make_package_image(engine: Engine, packages: PackageSet, made: Path) -> None:
    """Imports the packages, saves the interpreter's memory, and starts another from it."""
    with Session(engine, Limits()) as session:
        imported = [name for name in packages.imports if _imports(session, name)]
        made.write_bytes(assets.join_image(session.checkpoint().files))
    mounted = _with_image(Mounted((packages.bundle, packages.bundle_bytes)), made)
    try:
        with Session(dataclasses.replace(engine, packages=mounted), Limits()) as session:
            for name in imported:
                if not _imports(session, name):
                    raise _NoImageError(f"{name} does not work in a session from an image.")
    except SandboxStartError as error:
        raise SandboxError(f"No session can be started from the image: {error}") from error


def _imports(session: Session, module: str) -> bool:
    """Imports a module. One that cannot be imported in the sandbox fails when a cell asks for it."""
    result = session.run_cell(f"__import__({module!r})")
    if isinstance(result, Failed) and session.restarts:
        raise _NoImageError(f"The sandbox ended when it imported {module}: {result.message}")
    return isinstance(result, Completed)


def _with_image(mounted: Mounted, image: Path) -> Mounted:
    return dataclasses.replace(mounted, image=(image, image.stat().st_size))


# ---- Folders ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder beside the final one. Raises `EngineMissingError` if there can be none."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(staging(root))
        except OSError as error:
            raise _unwritable(root, error) from error
        yield folder


def _move(staged: Path, folder: Path, *, force: bool) -> None:
    """Gives the folder its name in one step. Another process may have been faster: then it is theirs."""
    replaced = staged.with_name(f"{staged.name}-replaced")
    try:
        if folder.is_dir() and (force or not _is_engine(folder)):
            folder.rename(replaced)
        staged.rename(folder)
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
