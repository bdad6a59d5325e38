"""Boot images with packages imported: built once for each engine and set of packages, and kept beside them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from pathlib import Path

from filelock import FileLock

from sandbox_runtime.engine import assets
from sandbox_runtime.engine.assets import Engine, Mounted
from sandbox_runtime.engine.atomic_folder import staging
from sandbox_runtime.errors import (
    CheckpointError,
    PackageError,
    SandboxError,
    SandboxStartError,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.packages.store import IMAGE, NO_IMAGE, PackageSet
from sandbox_runtime.sandbox import Completed, Failed
from sandbox_runtime.sessions.session import Session

# All imports for one image together, in which whoever opens the session waits: as long as two cells with the usual
# limits. Packages that take longer are imported by the cells that need them.
IMAGE_SECONDS = 2 * Limits.cell_seconds


def with_packages(
    engine: Engine, packages: PackageSet, memory_bytes: int = Limits.memory_bytes
) -> Engine:
    """Returns the engine with the packages mounted, starting from an image that has them imported.

    The image is built once. If none can be built, or it does not fit into the memory, packages are imported
    when a cell imports them.

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
    """Returns the image, or the file that says why there is none; their names hold the engine's key and a hash."""
    found = [*folder.glob(f"{assets.engine_key()}-*")]
    return next((path for path in found if _is_sound(path)), None)


@functools.lru_cache(maxsize=64)
def _is_sound(image: Path) -> bool:
    """Returns whether a file has the hash in its name; cached for the process."""
    try:
        with image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return False
    return image.stem.endswith(digest)


class _NoImageError(SandboxError):
    """No image can be built of these packages; a retry would not help."""


def _keep_image(engine: Engine, packages: PackageSet) -> Path | None:
    """Builds the image, or waits for another process that is building it.

    Returns:
        The image, or the file that says why there can be none; None if this attempt failed.
    """
    if not packages.bundle.is_file():
        raise PackageError(f"{packages.folder} is gone. {assets.PACKAGES_FIX}")
    try:
        with FileLock(packages.folder / "image.lock"), staging(packages.folder) as workshop:
            if (theirs := _find_image(packages.folder)) is not None:
                return theirs
            built = workshop / "image"
            kind = IMAGE
            try:
                _make_package_image(engine, packages, built)
            except SandboxStartError:
                raise  # it would fail without the image too: not the packages' fault
            except (CheckpointError, _NoImageError) as error:
                built.write_text(f"{error}\n", encoding="utf-8")
                kind = NO_IMAGE
            except SandboxError:
                return None
            with built.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            image = packages.folder / f"{assets.engine_key()}-{digest}{kind}"
            built.replace(image)
            _is_sound.cache_clear()
            return image
    except OSError as error:
        raise PackageError(
            f"An image of the packages cannot be kept in {packages.folder}: "
            f"{error.strerror or error}. Free space or give write access there."
        ) from error


def _make_package_image(engine: Engine, packages: PackageSet, built: Path) -> None:
    """Imports the packages, saves the interpreter's memory, and starts another from it."""
    latest = time.monotonic() + IMAGE_SECONDS
    with Session(engine, Limits()) as session:
        imported = [name for name in packages.imports if _imports(session, name, latest)]
        built.write_bytes(assets.join_image(session.checkpoint().files))
    mounted = _with_image(Mounted((packages.bundle, packages.bundle_bytes)), built)
    try:
        with Session(dataclasses.replace(engine, packages=mounted), Limits()) as session:
            for name in imported:
                if not _imports(session, name, latest):
                    raise _NoImageError(f"{name} does not work in a session from an image.")
    except SandboxStartError as error:
        raise SandboxError(f"No session can be started from the image: {error}") from error


def _imports(session: Session, module: str, latest: float) -> bool:
    """Imports a module. One that cannot be imported in the sandbox fails when a cell imports it.

    Raises:
        _NoImageError: It ended the process or was interrupted, or the time for all imports is over.
    """
    if time.monotonic() >= latest:
        raise _NoImageError(
            f"The imports for an image take more than {IMAGE_SECONDS:g} s; {module} was next."
        )
    result = session.run_cell(f"__import__({module!r})")
    if isinstance(result, Failed) and session.restarts:
        raise _NoImageError(f"The sandbox ended when it imported {module}: {result.message}")
    if isinstance(result, Failed) and result.error_type == "CellTimeoutError":
        raise _NoImageError(f"The import of {module} was interrupted: {result.message}")
    return isinstance(result, Completed)


def _with_image(mounted: Mounted, image: Path) -> Mounted:
    return dataclasses.replace(mounted, image=(image, image.stat().st_size))
