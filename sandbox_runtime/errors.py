"""Everything that `sandbox_runtime` raises.

What a cell's code does is data (`Failed`), never an exception. The tree:

    SandboxError
    ├── EngineError            what the sandbox runs on cannot be had; raised before anything starts
    │   ├── DenoNotFoundError
    │   ├── DenoVersionError
    │   ├── EngineMissingError
    │   ├── EngineCorruptError
    │   ├── PackageError       a package for the sandbox cannot be had
    │   └── WallMissingError   the operating system's wall was required, and a part of it is missing
    ├── SandboxStartError      the process did not come up
    ├── SandboxDiedError       the process ended and could not be replaced
    ├── CheckpointError        a saved state cannot be made, read or gone on from
    ├── ProtocolError          bytes or messages that are not of the protocol
    ├── SessionClosedError     a closed session was used
    ├── SessionBusyError       a session was used while a cell ran
    ├── TextChangedError       a lazy text's file has changed or is gone (also an OSError)
    └── ValueCrossingError     a value has no form on the other side (also a TypeError)
"""

from __future__ import annotations

from collections.abc import Sequence


class SandboxError(Exception):
    """Base class of all errors of the sandbox runtime."""


class EngineError(SandboxError):
    """Deno, Pyodide or the boot image cannot be used; the message says what to do."""


class DenoNotFoundError(EngineError):
    """No Deno executable could be found."""


class DenoVersionError(EngineError):
    """The Deno that was found is too old or too new."""


class EngineMissingError(EngineError):
    """Pyodide or the boot image are not installed, and could not be installed now."""


class EngineCorruptError(EngineError):
    """An installed file is not what was installed; `path` names it."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class PackageError(EngineError):
    """A package for the sandbox cannot be had; the message says which and why."""


class WallMissingError(EngineError):
    """`require_wall` was asked for, and a part of the wall is missing.

    Attributes:
        shortcomings: Each part that is missing, with the reason and what to do.
    """

    def __init__(self, message: str, shortcomings: Sequence[str]) -> None:
        super().__init__(message)
        self.shortcomings = tuple(shortcomings)


class SandboxStartError(SandboxError):
    """The sandbox process did not come up; the message carries the end of its stderr."""


class SandboxDiedError(SandboxError):
    """The sandbox process ended, and its session could not go on in another.

    Attributes:
        reason: What ended it: the name of a limit, `crash`, `protocol`, `exit`, or `killed` by a signal.
        output: What the running cell had printed, as far as it was heard.
    """

    def __init__(self, message: str, *, reason: str = "exit", output: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.output = output


class CheckpointError(SandboxError):
    """A checkpoint cannot be made, read or restored; the message says why."""


class ProtocolError(SandboxError):
    """The other end sent something that is not of this protocol."""


class SessionClosedError(SandboxError):
    """The session is closed; open another."""


class SessionBusyError(SandboxError):
    """The session runs a cell; it does one thing at a time."""


class TextChangedError(SandboxError, OSError):
    """The file of a lazy text is not what it was when it was given; the message says how."""


class ValueCrossingError(SandboxError, TypeError):
    """A value cannot cross into or out of the sandbox; the message names the offending place."""
