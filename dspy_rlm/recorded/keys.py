"""Keys by which a request of a repeated run finds its record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import dspy

from dspy_rlm.journal.digests import call_digest, digest_of, messages_of
from dspy_rlm.journal.packing import Packer
from dspy_rlm.journal.records import (
    CallRecord,
    FieldRecord,
    Ref,
    RunRecord,
    SignatureRecord,
    ToolRecord,
    ValueRecord,
    read_text,
)
from dspy_rlm.journal.stored_values import digest_of_file, packed_value
from dspy_rlm.journal.values import encoded
from dspy_rlm.lms.call_arguments import CallArguments
from sandbox_runtime import TextFile
from sandbox_runtime.helpers import annotation_text


def exact_key(kind: str, arguments: CallArguments) -> str:
    """Returns the key of an LM call: its kind, model, prompt and options."""
    return call_digest(kind, arguments)


def content_key(kind: str, arguments: CallArguments) -> str:
    """Returns the key of an LM call without its model and its options."""
    return digest_of(kind, "", messages_of(arguments), {})


def content_key_of(call: CallRecord) -> str:
    """Returns the same key of a recorded call."""
    return digest_of(call.kind, "", call.prompt.messages(), {})


def text_of(messages: list[Any]) -> str:
    """Returns the texts of messages, each after its role."""
    return "\n\n".join(f"[{one.get('role')}]\n{_content(one.get('content'))}" for one in messages)


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(
        str(part.get("text") or f"<{part.get('type')}>") if isinstance(part, Mapping) else str(part)
        for part in parts
    )


def value_key(value: Any, annotation: Any = Any) -> str:
    """Returns the key of a value: equal for values that a journal stores in the same form."""
    if isinstance(value, TextFile):  # the digest of a large file is not in its packed form
        return _value_key("file", None, digest_of_file(value.path))
    fields = packed_value(value, annotation, cast("Packer", _Digests()))
    return _value_key(fields["kind"], fields.get("data"), fields.get("digest", ""))


def value_key_of(record: ValueRecord | None) -> str:
    """Returns the key of a recorded value."""
    if record is None:
        return ""
    data = record.data
    text = data.sha256 if isinstance(data, Ref) else _digest(data) if isinstance(data, str) else ""
    return _value_key(record.kind, text, record.digest)


def _value_key(kind: str, text_digest: Any, digest: str) -> str:
    return f"{kind} {text_digest if kind == 'text' else digest}"


def _digest(text: str) -> str:
    return hashlib.sha256(encoded(text)).hexdigest()


class _Digests:
    """Stands for the `Packer` of a journal where nothing is stored."""

    @property
    def secrets(self) -> _Digests:
        """Itself: nothing is redacted."""
        return self

    def clean(self, text: str) -> str:
        """Returns the text."""
        return text

    def text(self, text: str) -> str:
        """Returns the digest of a text."""
        return _digest(text)

    def data(self, data: bytes) -> str:
        """Returns the digest of the bytes."""
        return hashlib.sha256(data).hexdigest()


def tool_key(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Returns the key of a call of a tool."""
    return f"{name} {value_key([list(args), dict(kwargs)])}"


def tool_key_of(record: ToolRecord) -> str:
    """Returns the key of a recorded call of a tool."""
    return f"{record.name} {value_key_of(record.arguments)}"


def sub_run_key(signature: type[dspy.Signature], inputs: Mapping[str, Any]) -> str:
    """Returns the key of a sub-run: its fields and its inputs."""
    fields = signature.input_fields
    values = {name: value_key(value, fields[name].annotation) for name, value in inputs.items()}
    return _sub_run_key(record_of(signature), values)


def sub_run_key_of(record: RunRecord) -> str:
    """Returns the key of a recorded sub-run."""
    values = {name: value_key_of(value) for name, value in record.inputs.items()}
    return _sub_run_key(record.signature, values)


def _sub_run_key(signature: SignatureRecord, values: Mapping[str, str]) -> str:
    return f"{signature_text(signature)}\n{sorted(values.items())}"


def record_of(signature: type[dspy.Signature]) -> SignatureRecord:
    """Returns a signature as a journal has it."""

    def side(fields: Mapping[str, Any]) -> tuple[FieldRecord, ...]:
        return tuple(FieldRecord(n, annotation_text(f.annotation)) for n, f in fields.items())

    inputs, outputs = side(signature.input_fields), side(signature.output_fields)
    return SignatureRecord(signature.instructions, inputs, outputs)


def signature_text(signature: SignatureRecord) -> str:
    """Returns a signature as text: its fields with their types, and its instructions."""
    sides = (signature.inputs, signature.outputs)
    fields = [", ".join(f"{f.name}: {f.annotation}" for f in side) for side in sides]
    return f"{' -> '.join(fields)}\n{read_text(signature.instructions)}"
