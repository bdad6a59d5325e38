"""Opening a session: finds the engine, or installs it the first time, and starts on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sandbox_runtime import assets
from sandbox_runtime.checkpoint import Checkpoint
from sandbox_runtime.errors import EngineMissingError, SandboxStartError
from sandbox_runtime.install import install
from sandbox_runtime.limits import Limits
from sandbox_runtime.sandbox import HostTool
from sandbox_runtime.session import Session


def open_session(
    limits: Limits | None = None,
    tools: Mapping[str, HostTool] | None = None,
    outputs: Mapping[str, str] | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    restore: Checkpoint | None = None,
) -> Session:
    """Opens a sandbox of its own; the caller closes it, best with `with`.

    Args:
        limits: What it may use; the defaults suit a laptop.
        tools: Host functions and coroutine functions that cells can call, by name.
        outputs: The fields that SUBMIT takes, with their types as text. None: SUBMIT takes any value.
        loop: The event loop that coroutine functions run on; it must be free while a cell runs. None:
            they run on a loop of the session's own.
        restore: The state to go on from, instead of an empty namespace.

    Raises:
        EngineError: Deno, Pyodide or the boot image cannot be had; the message names the fix.
        CheckpointError: The state cannot be restored here.
        SandboxStartError: The process did not come up.
        ValueError: A name is not a Python identifier.
    """
    engine = ready_engine()
    try:
        return Session(engine, limits or Limits(), tools, outputs, loop=loop, restore=restore)
    except SandboxStartError:
        engine.verify()  # a damaged file is the likeliest cause, and a better message
        raise


def ready_engine() -> assets.Engine:
    """The engine, installed into the user's cache if it is nowhere yet. Raises `EngineError`."""
    try:
        return assets.find_engine()
    except EngineMissingError:
        return install()
