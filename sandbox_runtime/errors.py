"""Everything that `sandbox_runtime` raises.

What a cell's code does is data (`Failed`), never an exception. The tree:

    SandboxError
    ├── EngineError            the engine cannot be used; raised before anything starts
    │   ├── DenoNotFoundError
    │   ├── DenoVersionError
    │   ├── EngineMissingError
    │   ├── EngineCorruptError
    │   ├── PackageError       a package for the sandbox cannot be resolved or installed
    │   ├── WallMissingError   `require_wall` is set, and a part of the OS isolation is missing
    │   └── WallProbeError     the machine was too loaded to find out whether the OS isolation works
    ├── SandboxStartError      the process did not start
    ├── SandboxDiedError       the process ended and could not be replaced
    ├── CheckpointError        a saved state cannot be created, read or restored
    ├── ProtocolError          bytes or messages that violate the protocol
    ├── SessionClosedError     a closed session was used
    ├── SessionBusyError       a session was used while a cell ran
    ├── TextChangedError       a lazy text's file has changed or is gone (also an OSError)
    └── ValueCrossingError     a value cannot be encoded for the other side (also a TypeError)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class SandboxError(Exception):
    """Base class of all errors of the sandbox runtime."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the message and the attributes, whatever the constructor of a subclass asks for."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    cls: type[SandboxError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> SandboxError:
    """Returns an unpickled exception."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class EngineError(SandboxError):
    """Deno, Pyodide or the boot image cannot be used; the message says what to do."""


class DenoNotFoundError(EngineError):
    """No Deno executable could be found."""


class DenoVersionError(EngineError):
    """The Deno executable is too old or too new, or has a known flaw."""


class EngineMissingError(EngineError):
    """Pyodide or the boot image is not installed, and installing it failed."""


class EngineCorruptError(EngineError):
    """An installed file was changed or damaged.

    Attributes:
        path: The file.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class PackageError(EngineError):
    """A package for the sandbox cannot be used; the message says which and why."""


class WallMissingError(EngineError):
    """`require_wall` is set, and a part of the operating system's isolation is missing.

    Attributes:
        shortcomings: Each missing part, with the reason and the remedy.
    """

    def __init__(self, message: str, shortcomings: Sequence[str]) -> None:
        super().__init__(message)
        self.shortcomings = tuple(shortcomings)


class WallProbeError(EngineError):
    """It could not be found out whether Deno works behind the operating system's isolation; try again.

    The machine offers it, but the trial took too long, was killed, or lacked files, memory or processes. No sandbox is started
    with less isolation because of that.
    """


class SandboxStartError(SandboxError):
    """The sandbox process did not start; the message includes the end of its stderr."""


class SandboxDiedError(SandboxError):
    """The sandbox process ended, and its session could not continue in another.

    Attributes:
        reason: The cause: the name of a limit, `crash`, `protocol`, `exit`, or `killed` by a signal.
        output: The running cell's output, as far as it was received.
    """

    def __init__(self, message: str, *, reason: str = "exit", output: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.output = output


class CheckpointError(SandboxError):
    """A checkpoint cannot be created, read or restored; the message says why."""


class ProtocolError(SandboxError):
    """The sandbox violated the protocol of the pipe, which no honest cell can make it do.

    A session handles it: it ends the process, continues in another one, and writes `protocol.violated` to the audit log.
    """


class SessionClosedError(SandboxError):
    """The session is closed; open another."""


class SessionBusyError(SandboxError):
    """The session is running a cell; it serves one request at a time."""


class TextChangedError(SandboxError, OSError):
    """The file of a lazy text has changed since it was assigned; the message says how."""


class ValueCrossingError(SandboxError, TypeError):
    """A value cannot enter or leave the sandbox; the message names its place."""
