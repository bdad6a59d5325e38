"""Installs the engine: fetches Pyodide through Deno, and builds the boot image from it.

Used when a wheel is built (the files go into it), and once per user if the package does not carry them. A
folder is created atomically, so that processes may install at the same time, and a killed one leaves nothing
that another could mistake for an engine.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandbox_runtime.engine import assets
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.engine.atomic_folder import staging
from sandbox_runtime.engine.provenance import PYODIDE_FILES, PYODIDE_VERSION, sha256_of
from sandbox_runtime.errors import (
    EngineError,
    EngineMissingError,
    SandboxError,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.sessions.session import Session

# A download that takes longer than this has failed.
FETCH_SECONDS = 600

# V8's compiled form varies a little; a rare variant could hardly be built again.
AGREEING_FORMS = 3
MOST_FORMS = 20

_FETCH_FIX = (
    "Deno fetches Pyodide from the npm registry: check the network, or the registry named in .npmrc "
    "or NPM_CONFIG_REGISTRY. An installed wheel of dspy-rlm needs no network."
)


def install(*, force: bool = False) -> Engine:
    """Installs an engine into the user's cache if there is none, and returns it.

    Args:
        force: Replace an existing one.

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
    """Builds a complete engine in an empty folder.

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
        raise EngineMissingError(f"The boot image could not be built: {error}") from error


def _fetch_pyodide(
    deno: Path, workshop: Path, folder: Path, environment: Mapping[str, str]
) -> None:
    """Installs Pyodide with Deno, pinned by the hash in the lock file, and copies the files."""
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
        stderr = done.stderr.strip()[-1500:]
        if "os error 28" in stderr:
            raise EngineMissingError(f"No space is left below {folder}. Free some and try again.")
        raise EngineMissingError(f"Pyodide could not be fetched: {stderr}\n{_FETCH_FIX}")
    fetched = workshop / "node_modules" / "pyodide"
    _check_pyodide(fetched)
    for name in ("pyodide.asm.wasm", "python_stdlib.zip", assets.LOCK_FILE):
        # Not a move: Deno links these files into its cache, and they are read-only there.
        shutil.copyfile(fetched / name, folder / name)
    modules = [fetched / name for name in ("pyodide.mjs", "pyodide.asm.mjs")]
    (folder / "pyodide.js").write_text(join_runtime(*modules), encoding="utf-8")


def _check_pyodide(folder: Path) -> None:
    """Checks the fetched files against the hashes that this version pins."""
    for name, digest in PYODIDE_FILES.items():
        if sha256_of(folder / name) != digest:
            raise EngineMissingError(
                f"{name} of Pyodide {PYODIDE_VERSION} is not the file that dspy-rlm was built for: its "
                f"hash differs. {_FETCH_FIX}"
            )


def join_runtime(loader: Path, runtime: Path) -> str:
    """Joins Pyodide's two modules into one script, whose value has `loadPyodide` and `createPyodideModule`.

    A script, because V8 then loads its code cache from a file, and because `import()` resolves nothing in it.

    Raises:
        EngineMissingError: The modules differ from those of the supported version.
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
        text, count = re.subn(export, rf"return {{{public}:\1}};", text)
        if count != 1 or re.search(r"^(import|export)\b", text, re.M):
            raise EngineMissingError(f"{path.name} of Pyodide is not as expected; cannot use it.")
        functions.append(f"(() => {{{text}\n}})()")
    whole = f"({{...{functions[0]}, ...{functions[1]}}})"
    for pattern, times, instead in assets.RUNTIME_PATCHES:
        whole, count = re.subn(pattern, instead, whole)
        if count != times:
            raise EngineMissingError(
                f"Pyodide's JavaScript has {pattern} {count} times, not {times}; cannot use it."
            )
    return f"const importNothing = () => Promise.reject(new Error('no modules'));\n{whole}"


def _make_scripts(deno: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Transpiles the sandbox's TypeScript to JavaScript.

    The worker and its parts become one file, because it can load none. `deno bundle` would do it too, but it
    downloads a native esbuild from npm, which nothing here pins or checks; a build may fetch only Pyodide.
    """
    for source, script in zip(assets.PROGRAM_FILES, assets.SCRIPT_FILES, strict=True):
        text = _transpile(deno, source, environment)
        if source == "worker.ts":
            parts = [_as_block(_transpile(deno, part, environment)) for part in assets.WORKER_PARTS]
            text = "\n".join([*parts, _LOCAL_IMPORT.sub("", text)])
        text = re.sub(r'(from "\./\w+)\.ts"', r'\1.js"', text)
        (folder / script).write_text(text, encoding="utf-8")


_LOCAL_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.ts";$', re.M)
_BUILTIN_IMPORT = re.compile(r'^import \w+ from "node:\w+";$', re.M)


def _as_block(module: str) -> str:
    """Wraps a module in a function whose only traces are its exports.

    Its local imports are dropped: the blocks before it declare the same names. Imports of Deno's own modules
    are moved before the function.
    """
    declaration = r"\bexport (?=(?:(?:async )?function\*?|class|const) (\w+))"
    exported = ", ".join(re.findall(declaration, module))
    builtin = "".join(f"{line}\n" for line in _BUILTIN_IMPORT.findall(module))
    body = re.sub(declaration, "", _BUILTIN_IMPORT.sub("", _LOCAL_IMPORT.sub("", module)))
    return f"{builtin}const {{{exported}}} = (() => {{\n{body}\nreturn {{{exported}}};\n}})();"


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
    """Saves V8's code cache: the form that several sessions make, so that others can make it too."""
    forget_compiled(engine)
    forms: Counter[bytes] = Counter()
    while forms.total() < MOST_FORMS and AGREEING_FORMS not in forms.values():
        forms[compiled_form(engine)] += 1
    [(form, _)] = forms.most_common(1)
    (engine.folder / assets.CACHE_FILE).write_bytes(form)


def forget_compiled(engine: Engine) -> None:
    """Empties the code cache, so that V8 compiles from the source."""
    (engine.folder / assets.CACHE_FILE).write_bytes(b"")
    assets.write_manifest(engine.folder)


def compiled_form(engine: Engine) -> bytes:
    """Runs a cell, so that V8 compiles what cells use, and returns its code cache.

    Its bytes depend on the order of events in V8's threads: the flag of functions that a background thread is
    compiling, hashes computed by then, and the number that the first function has.
    """
    with Session(engine, Limits()) as session:
        session.run_cell("import asyncio\nawait asyncio.sleep(0)")
        return session.compiled_runtime()


# ---- Folders ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Creates a folder beside the final one. Raises `EngineMissingError` if it cannot be created."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(staging(root))
        except OSError as error:
            raise _unwritable(root, error) from error
        yield folder


def _move(staged: Path, folder: Path, *, force: bool) -> None:
    """Renames the folder into place in one step. If another process was faster, its folder stays."""
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
