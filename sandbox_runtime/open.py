"""Opening a session: finds the engine, or installs it at first use, and starts a process."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

from sandbox_runtime.engine import assets
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.errors import EngineMissingError, SandboxStartError
from sandbox_runtime.installation.install import install
from sandbox_runtime.installation.package_images import with_packages
from sandbox_runtime.isolation.os_isolation import detect
from sandbox_runtime.limits import Limits
from sandbox_runtime.packages.resolve import PackageSet, Wanted, resolve
from sandbox_runtime.sandbox import HostTool
from sandbox_runtime.sessions.checkpoint import Checkpoint
from sandbox_runtime.sessions.session import Session
from sandbox_runtime.values.type_rules import Rule


def open_session(
    limits: Limits | None = None,
    tools: Mapping[str, HostTool] | None = None,
    outputs: Mapping[str, str] | None = None,
    packages: Wanted | PackageSet | None = (),
    *,
    types: Iterable[Rule | Any] | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    restore: Checkpoint | None = None,
    goes_on: bool = False,
    require_wall: bool = False,
) -> Session:
    """Opens a new sandbox; the caller closes it, best with `with`.

    Args:
        limits: Resource limits; the defaults suit a laptop.
        tools: Host functions and coroutine functions that cells can call, by name.
        outputs: The fields that SUBMIT takes, with their types as text. One whose text ends in ` = ...` may be
            left out. None: SUBMIT takes any value.
        packages: Packages for cells beside the standard library: pip requirements, the path of a lock file
            with hashes, or the result of `resolve_packages`.
        types: How values of a type of your own cross, as `HandleType`, `ValueType` or `CodeType`; and
            types whose classes (Pydantic models, dataclasses, enums, ...) cells can use by name.
            None: those of the state, if there is one.
        loop: The event loop that coroutine functions run on; it must be free while a cell runs. None:
            they run on a loop that the session owns.
        restore: The state to continue from, instead of an empty namespace.
        goes_on: True if the random numbers of that state go on, instead of new ones.
        require_wall: Refuse to start if the operating system cannot confine the process; the same as in the
            limits.

    Raises:
        EngineError: Deno, Pyodide, the boot image or a package cannot be used; the message says why.
        WallMissingError: The wall is required, and a part of it is missing. Nothing was started.
        CheckpointError: The state cannot be restored here.
        SandboxStartError: The process did not start.
        ValueError: A name is not a Python identifier.
    """
    limits = limits or Limits()
    if require_wall:
        limits = dataclasses.replace(limits, require_wall=True)
    if limits.require_wall:
        executable.demand_wall(detect())
    engine = ready_engine()
    if (found := ready_packages(packages)) is not None:
        engine = with_packages(engine, found, limits.memory_bytes)
    try:
        return Session(
            engine, limits, tools, outputs, types=types, loop=loop, restore=restore, goes_on=goes_on
        )
    except SandboxStartError:
        engine.verify()  # a damaged file is the likeliest cause and makes a better message
        raise


def resolve_packages(requirements: Wanted, *, refresh: bool = False) -> PackageSet:
    """Prepares packages for mounting: resolves, fetches, and imports them once into an image.

    The result is cached for the user: the same requirements mean the same files, without a network, until a
    refresh.

    Args:
        requirements: In pip's syntax; or the path of a lock file, which is a requirements file with
            hashes or a `pylock.toml`.
        refresh: Query the package index again.

    Raises:
        PackageError: A package cannot be used; says which and why.
        EngineError: The engine cannot be used.
    """
    engine = ready_engine()
    found = resolve(requirements, refresh=refresh)
    with_packages(engine, found)
    return found


def ready_packages(packages: Wanted | PackageSet | None) -> PackageSet | None:
    """Resolves the `packages=` argument if it is a list or a lock file.

    Returns:
        None if it names nothing.

    Raises:
        PackageError: A package cannot be used; says which and why.
        EngineError: The engine cannot be used.
    """
    if packages is None or isinstance(packages, PackageSet):
        return packages
    if isinstance(packages, str | os.PathLike):  # a plain string is refused by name
        return resolve_packages(packages)
    requirements = list(packages)
    return resolve_packages(requirements) if requirements else None


def ready_engine() -> assets.Engine:
    """Returns the engine, installed into the user's cache if needed. Raises `EngineError`."""
    try:
        return assets.find_engine()
    except EngineMissingError:
        return install()
