"""Runs untrusted Python in Pyodide inside Deno, over a JSON-RPC pipe.

    from sandbox_runtime import Limits, open_session

    with open_session(limits=Limits(cell_seconds=10), tools={"search": search}) as session:
        session.assign("logs", text)
        result = session.run_cell("len(logs)")  # Completed | Submitted | Failed

Knows nothing of language models. What a cell does is data; what raises is in `errors.py`.
"""

from sandbox_runtime.abridging import MAX_MARK_CHARS, abridged, in_one_line
from sandbox_runtime.annotations import annotation_text, classes_in, field_types, is_typed_dict
from sandbox_runtime.calling import check_call
from sandbox_runtime.checkpoint import Checkpoint
from sandbox_runtime.directories import Directory
from sandbox_runtime.effort import EffortError, check_text_effort
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
)
from sandbox_runtime.keys import check_keys
from sandbox_runtime.limits import Limits
from sandbox_runtime.made_keys import check_made_keys, check_making
from sandbox_runtime.opening import open_session, ready_packages, resolve_packages
from sandbox_runtime.packages import Package, PackageSet
from sandbox_runtime.pool import Pool, default_pool
from sandbox_runtime.reading import Rows
from sandbox_runtime.rules import CodeType, HandleType, Rule, ValueType
from sandbox_runtime.sandbox import (
    CellResult,
    Completed,
    Failed,
    FrontedTool,
    HostTool,
    Sandbox,
    Submitted,
)
from sandbox_runtime.seats import Seat
from sandbox_runtime.secrecy import environment_secrets, shown_signature, without_secrets
from sandbox_runtime.secret_forms import is_secret_name, secrets_of, url_without_secrets
from sandbox_runtime.session import Session
from sandbox_runtime.texts import LazyText, TextFile, TextStream

__all__ = [
    "MAX_MARK_CHARS",
    "CellResult",
    "Checkpoint",
    "CheckpointError",
    "CodeType",
    "Completed",
    "DenoNotFoundError",
    "DenoVersionError",
    "Directory",
    "EffortError",
    "EngineCorruptError",
    "EngineError",
    "EngineMissingError",
    "Failed",
    "FrontedTool",
    "HandleType",
    "HostTool",
    "LazyText",
    "Limits",
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
    "Seat",
    "Session",
    "SessionBusyError",
    "SessionClosedError",
    "Submitted",
    "TextChangedError",
    "TextFile",
    "TextStream",
    "ValueCrossingError",
    "ValueType",
    "WallMissingError",
    "abridged",
    "annotation_text",
    "check_call",
    "check_keys",
    "check_made_keys",
    "check_making",
    "check_text_effort",
    "classes_in",
    "default_pool",
    "environment_secrets",
    "field_types",
    "in_one_line",
    "is_secret_name",
    "is_typed_dict",
    "open_session",
    "ready_packages",
    "resolve_packages",
    "secrets_of",
    "shown_signature",
    "url_without_secrets",
    "without_secrets",
]
