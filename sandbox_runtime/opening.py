"""Opening a session: finds the engine, or installs it the first time, and starts on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sandbox_runtime import assets
from sandbox_runtime.errors import EngineMissingError, SandboxStartError
from sandbox_runtime.install import install
from sandbox_runtime.limits import Limits
from sandbox_runtime.rules import Rule
from sandbox_runtime.sandbox import HostTool
from sandbox_runtime.session import Session


def open_session(
    limits: Limits | None = None,
    tools: Mapping[str, HostTool] | None = None,
    outputs: Mapping[str, str] | None = None,
    types: Iterable[Rule | Any] = (),
) -> Session:
    """Opens a sandbox of its own; the caller closes it, best with `with`.

    Args:
        limits: What it may use; the defaults suit a laptop.
        tools: Host functions that cells can call, by name. They run in the thread that runs the cell.
        outputs: The fields that SUBMIT takes, with their types as text. None: SUBMIT takes any value.
        types: How values of a type of your own cross, as `HandleType`, `ValueType` or `CodeType`; and
            types whose classes (Pydantic models, dataclasses, enums, ...) cells can use by name.

    Raises:
        EngineError: Deno, Pyodide or the boot image cannot be had; the message names the fix.
        SandboxStartError: The process did not come up.
        ValueError: A name is not a Python identifier.
    """
    engine = ready_engine()
    try:
        return Session(engine, limits or Limits(), tools, outputs, types)
    except SandboxStartError:
        engine.verify()  # a damaged file is the likeliest cause, and a better message
        raise


def ready_engine() -> assets.Engine:
    """The engine, installed into the user's cache if it is nowhere yet. Raises `EngineError`."""
    try:
        return assets.find_engine()
    except EngineMissingError:
        return install()
