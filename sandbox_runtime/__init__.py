"""Runs untrusted Python in Pyodide inside Deno, over a JSON-RPC pipe.

    from sandbox_runtime import Limits, open_session

    with open_session(limits=Limits(cell_seconds=10), tools={"search": search}) as session:
        session.assign("logs", text)
        result = session.run_cell("len(logs)")  # Completed | Submitted | Failed

Knows nothing of language models. What a cell does is data; what raises is in `errors.py`.
"""

from sandbox_runtime.errors import (
    CheckpointError,
    DenoNotFoundError,
    DenoVersionError,
    EngineCorruptError,
    EngineError,
    EngineMissingError,
    PackageError,
    ProtocolError,
    SandboxDiedError,
    SandboxError,
    SandboxStartError,
    SessionBusyError,
    SessionClosedError,
    TextChangedError,
    ValueCrossingError,
    WallMissingError,
    WallProbeError,
)
from sandbox_runtime.limits import Limits
from sandbox_runtime.open import open_session, resolve_packages
from sandbox_runtime.packages.resolve import Package, PackageSet
from sandbox_runtime.pool import Pool, default_pool, set_default_pool
from sandbox_runtime.sandbox import (
    CellResult,
    Completed,
    Failed,
    HostTool,
    OwnLines,
    Sandbox,
    Submitted,
    WrappedTool,
)
from sandbox_runtime.sessions.checkpoint import Checkpoint
from sandbox_runtime.sessions.session import Session
from sandbox_runtime.texts.directory import Directory
from sandbox_runtime.texts.lazy_text import LazyText, TextFile, TextStream
from sandbox_runtime.texts.tables.table import Table
from sandbox_runtime.tools.call_scope import check_call
from sandbox_runtime.values.builders import Rows
from sandbox_runtime.values.type_rules import CodeType, HandleType, Rule, ValueType

__all__ = [
    "CellResult",
    "Checkpoint",
    "CheckpointError",
    "CodeType",
    "Completed",
    "DenoNotFoundError",
    "DenoVersionError",
    "Directory",
    "EngineCorruptError",
    "EngineError",
    "EngineMissingError",
    "Failed",
    "HandleType",
    "HostTool",
    "LazyText",
    "Limits",
    "OwnLines",
    "Package",
    "PackageError",
    "PackageSet",
    "Pool",
    "ProtocolError",
    "Rows",
    "Rule",
    "Sandbox",
    "SandboxDiedError",
    "SandboxError",
    "SandboxStartError",
    "Session",
    "SessionBusyError",
    "SessionClosedError",
    "Submitted",
    "Table",
    "TextChangedError",
    "TextFile",
    "TextStream",
    "ValueCrossingError",
    "ValueType",
    "WallMissingError",
    "WallProbeError",
    "WrappedTool",
    "check_call",
    "default_pool",
    "open_session",
    "resolve_packages",
    "set_default_pool",
]
