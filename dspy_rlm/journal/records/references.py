"""Long texts and large values as references into the folder beside the journal, read only on demand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

ValueKind: TypeAlias = Literal[
    "text", "json", "bytes", "npy", "parquet", "file", "directory", "not_stored"
]


@dataclasses.dataclass(frozen=True)
class ValueRecord:
    """A value of an input, an output, an argument or a result."""

    kind: ValueKind
    """The form in which it is stored. A file and a directory are named by their path; `not_stored` has only a digest, if any."""

    annotation: str = ""
    """Its declared type, as text."""

    type: str = ""
    """Its class, with its module."""

    digest: str = ""
    """The SHA-256 of the stored form; of a file, of its content. Empty if there is none."""

    size: int = 0
    """Characters of a text, else bytes."""

    data: Any = None
    """A short text or JSON value itself, or the reference to a long text; else None."""

    path: str = ""
    """The path of a file or of a directory."""

    modified_at: float | None = None
    """The time of the last change of the file, in seconds since the epoch."""

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The other arguments of its class: the encoding of a `TextFile`, the pattern of a `Directory`."""

    note: str = ""
    """The reason for which it is not stored, or what is only approximate about it."""


class Reader(Protocol):
    """The store of the texts and values beside a journal."""

    def text(self, sha256: str) -> str:
        """Returns a text; raises `MissingValueError` if it is not there or damaged."""

    def data(self, sha256: str) -> bytes:
        """Returns the bytes of a value; raises `MissingValueError` if it is not there or damaged."""

    def restore(self, record: ValueRecord) -> Any:
        """Returns the value of a record; raises `MissingValueError` if it is not there or damaged."""


@dataclasses.dataclass(frozen=True)
class Ref:
    """A reference to a long text."""

    sha256: str
    """The digest of the text in UTF-8."""

    chars: int
    """The length of the text."""

    reader: Reader = dataclasses.field(repr=False, compare=False)
    """Reads the text from the place beside the journal."""

    def read(self) -> str:
        """Returns the text.

        Raises:
            MissingValueError: It is not beside the journal, or damaged.
        """
        return self.reader.text(self.sha256)


Text: TypeAlias = "str | Ref"
"""A text, or the reference to a long one."""


def read_text(text: Text) -> str:
    """Returns a text as a `str`."""
    return text.read() if isinstance(text, Ref) else text


def read_refs(value: Any) -> Any:
    """Returns JSON data with its references replaced by their texts."""
    if isinstance(value, Ref):
        return value.read()
    if isinstance(value, Mapping):
        return {name: read_refs(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [read_refs(part) for part in value]
    return value


class Prompt(Protocol):
    """The prompt of a call."""

    def messages(self) -> list[dict[str, Any]]:
        """Returns the messages, as an OpenAI request has them. A plain text is one message of the user.

        Raises:
            MissingValueError: A part of it is not beside the journal, or damaged.
        """

    def text(self) -> str:
        """Returns the texts of the messages, each after a line with its role."""
