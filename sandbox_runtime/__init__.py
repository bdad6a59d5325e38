"""Runs untrusted Python in Pyodide inside Deno, over a JSON-RPC pipe.

    from sandbox_runtime import Limits, open_session

    with open_session(limits=Limits(cell_seconds=10), tools={"search": search}) as session:
        session.assign("logs", text)
        result = session.run_cell("len(logs)")  # Completed | Submitted | Failed

Knows nothing of language models. What a cell does is data; what raises is in `errors.py`.
"""

from sandbox_runtime.admission import Seat
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
from sandbox_runtime.limits import Limits
from sandbox_runtime.open import open_session, ready_packages, resolve_packages
from sandbox_runtime.packages.resolve import Package, PackageSet
from sandbox_runtime.pool import Pool, default_pool
from sandbox_runtime.redaction.redact import environment_secrets, shown_signature, without_secrets
from sandbox_runtime.redaction.secret_patterns import (
    is_secret_name,
    secrets_of,
    url_without_secrets,
)
from sandbox_runtime.sandbox import (
    CellResult,
    Completed,
    Failed,
    FrontedTool,
    HostTool,
    Sandbox,
    Submitted,
)
from sandbox_runtime.sessions.checkpoint import Checkpoint
from sandbox_runtime.sessions.session import Session
from sandbox_runtime.texts.directory import Directory
from sandbox_runtime.texts.lazy_text import LazyText, TextFile, TextStream
from sandbox_runtime.tools.call_scope import check_call
from sandbox_runtime.truncation import MAX_MARK_CHARS, abridged, in_one_line
from sandbox_runtime.values.annotations import (
    annotation_text,
    classes_in,
    field_types,
    is_typed_dict,
)
from sandbox_runtime.values.conversion_cost import EffortError, check_text_effort
from sandbox_runtime.values.converted_keys import check_made_keys, check_making
from sandbox_runtime.values.decoder import Rows
from sandbox_runtime.values.key_collisions import check_keys
from sandbox_runtime.values.type_rules import CodeType, HandleType, Rule, ValueType

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
