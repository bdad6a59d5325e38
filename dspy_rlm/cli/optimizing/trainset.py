"""Examples from JSON Lines. Mistakes are found before anything is paid, and named by their lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm.cli.exit_codes import INPUT, CommandError
from dspy_rlm.errors import InputError
from sandbox_runtime import TextFile


def examples_in(path: Path, signature: type[dspy.Signature]) -> list[dspy.Example]:
    """Returns the examples of a file. Fields that the signature does not have are kept, for the metric.

    Raises:
        InputError: It cannot be read, or has no examples.
        CommandError: A line is not an example.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"Cannot read {path}: {reason}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error.reason}.") from error
    found = [
        _example(path, number, line, signature)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    if not found:
        raise InputError(f"There are no examples in {path}. Write one JSON object a line.")
    return found


def _example(path: Path, number: int, line: str, signature: type[dspy.Signature]) -> dspy.Example:
    def wrong(problem: str) -> CommandError:
        return CommandError(f"{path}, line {number}: {problem}.", INPUT)

    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise wrong(f"it is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise wrong("it must be an object with the inputs and the expected outputs by name")
    missing = [name for name in signature.input_fields if name not in fields]
    if missing:
        raise wrong(f"the inputs {', '.join(missing)} are missing")
    for name in signature.input_fields:
        value = fields[name]
        if isinstance(value, Mapping) and value.keys() == {"file"}:
            file = path.parent / str(value["file"])
            if not file.is_file():
                raise wrong(f"the input {name} is the file {file}, which does not exist")
            fields[name] = TextFile(file)
    return dspy.Example(**fields).with_inputs(*signature.input_fields)


def expected(example: dspy.Example, signature: type[dspy.Signature]) -> dict[str, Any]:
    """Returns the expected outputs of an example; none for those that it does not have."""
    fields = example.toDict()
    return {name: fields[name] for name in signature.output_fields if name in fields}
