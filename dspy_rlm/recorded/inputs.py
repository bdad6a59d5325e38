"""The inputs of a recorded run, from its journal where it has them, else from the caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.errors import InputError
from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import RunRecord, ValueRecord
from dspy_rlm.journal.stored_values import typed
from dspy_rlm.recorded.keys import value_key, value_key_of
from dspy_rlm.signatures.fields import has_type
from sandbox_runtime import Directory, TextFile


def recorded_inputs(
    record: RunRecord, signature: type[dspy.Signature], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the value of every input.

    Args:
        record: The run.
        signature: The signature whose inputs they are.
        inputs: Inputs that the caller passes. They are needed where the journal does not hold the value.

    Raises:
        InputError: One is needed, is no input, or is not what the run began with.
    """
    fields = signature.input_fields
    if unknown := [name for name in inputs if name not in fields]:
        raise InputError(f"{unknown[0]!r} is not an input. The inputs are: {', '.join(fields)}.")
    values, missing = {}, []
    for name, value in record.inputs.items():
        annotation = fields[name].annotation if has_type(fields[name]) else Any
        if name in inputs:
            _check_same(name, value, inputs[name], annotation)
            values[name] = inputs[name]
            continue
        try:
            values[name] = _restored(record, value, annotation)
        except (MissingValueError, OSError) as error:
            missing.append(f"{name} ({error})")
    if missing:
        raise InputError(
            f"The journal does not hold all inputs, so pass them again: {'; '.join(missing)}"
        )
    return values


def _restored(record: RunRecord, value: ValueRecord, annotation: Any) -> Any:
    if value.kind == "file":
        file = TextFile(value.path, **value.options)
        if not _is_same_file(value, file):
            raise MissingValueError(f"the file {value.path} has changed")
        return file
    if value.kind == "directory":
        directory = Directory(value.path, **value.options)
        if value_key_of(value) != value_key(directory):
            raise MissingValueError(f"files in {value.path} have changed")
        return directory
    data = record.value(value)
    return typed(data, annotation) if value.kind == "json" else data


def _is_same_file(recorded: ValueRecord, file: TextFile) -> bool:
    if recorded.digest:
        return value_key(file) == value_key_of(recorded)
    # The process has ended before the digest of a large file was computed.
    status = file.path.stat()
    return (status.st_size, status.st_mtime) == (recorded.size, recorded.modified_at)


def _check_same(name: str, recorded: ValueRecord, value: Any, annotation: Any) -> None:
    """Raises `InputError` for a value that is certainly another one."""
    key = value_key_of(recorded)
    if recorded.kind == "not_stored" and not recorded.digest:
        return  # nothing is known of it
    if recorded.kind == "file" and not recorded.digest and isinstance(value, TextFile):
        is_same = _is_same_file(recorded, value)
    else:
        is_same = value_key(value, annotation) == key
    if not is_same:
        raise InputError(
            f"The input {name} is not the one that the run began with, so its recorded answers do not fit. Start a "
            "new run with it."
        )
