"""The inputs of an RLM from the shell: flags by name, `--input`, and one JSON object. Checked before anything is paid."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm.cli.configuration.keys import nearest
from dspy_rlm.cli.exit_codes import USAGE, CommandError
from dspy_rlm.errors import InputError
from sandbox_runtime import Directory, TextFile
from sandbox_runtime.helpers import UnreadableTextError, text_of

# The beginning of a value that names a file; doubled, it is the character itself.
FILE_MARK = "@"

# A larger file is not read into memory: code reads it lazily, as a `TextFile`.
LAZY_BYTES = 64 * 1024**2

# A compressed file that expands to more is refused.
MAX_EXPANDED_BYTES = 1024**3


def inputs_of(
    signature: type[dspy.Signature],
    flags: Sequence[str],
    named: Sequence[str],
    whole: str | None,
    optional: bool = False,
) -> dict[str, Any]:
    """Returns the inputs by name.

    Args:
        signature: The signature of the RLM.
        flags: The flags that the command itself does not have: `--NAME VALUE` and `--NAME=VALUE`.
        named: The texts `NAME=VALUE` of `--input`.
        whole: The JSON object of `--inputs`, `@FILE`, or `-`.
        optional: True if inputs may be missing: a recorded run has them.

    Raises:
        CommandError: A flag names no input, or two values name the same one.
        InputError: A value cannot be read, or an input is missing.
    """
    found: dict[str, Any] = dict(_object(whole)) if whole is not None else {}
    texts = [*_of_flags(flags), *(_pair(text) for text in named)]
    for name in found:
        _check(name, signature)
    for name, text in texts:
        _check(name, signature)
        if name in found:
            raise CommandError(f"The input {name!r} has two values. Leave one out.", USAGE)
        found[name] = _value(name, text, signature.input_fields[name].annotation)
    for name in found:
        found[name] = _opened(name, found[name], signature.input_fields[name].annotation)
    missing = [
        name
        for name, field in signature.input_fields.items()
        if name not in found and not optional and field.is_required()
    ]
    if missing:
        flags_text = " ".join(f"--{name} ..." for name in missing)
        raise InputError(
            f"{'An input is' if len(missing) == 1 else 'Inputs are'} missing: {', '.join(missing)}. Add {flags_text}, or "
            "--inputs with a JSON object."
        )
    return found


def _of_flags(flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = iter(flags)
    for flag in rest:
        if not flag.startswith("--") or flag == "--":
            raise CommandError(
                f"{flag!r} is not a flag. Write inputs as --NAME VALUE, with quotes around a value with spaces.",
                USAGE,
            )
        name, is_joined, text = flag[2:].partition("=")
        if not is_joined:
            try:
                text = next(rest)
            except StopIteration:
                raise CommandError(f"--{name} has no value. Write --{name} VALUE.", USAGE) from None
        yield name, text


def _pair(text: str) -> tuple[str, str]:
    name, is_pair, value = text.partition("=")
    if not is_pair:
        raise CommandError(f"--input {text!r} must be NAME=VALUE.", USAGE)
    return name, value


def _check(name: str, signature: type[dspy.Signature]) -> None:
    names = list(map(str, signature.input_fields))
    if name not in names:
        near = nearest(name, names)
        hint = (
            f"Did you mean --{near}?" if near else f"Its inputs are {', '.join(names) or 'none'}."
        )
        raise CommandError(
            f"The RLM has no input {name!r}, and the command no flag --{name}. {hint}", USAGE
        )


def _object(text: str) -> dict[str, Any]:
    source = "--inputs"
    if text == "-":
        text, source = sys.stdin.read(), "stdin"
    elif text.startswith(FILE_MARK):
        source = text[1:]
        text = _read(Path(source))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{source} is not JSON: {error}. Write an object with the inputs by name."
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{source} must be a JSON object with the inputs by name.")
    return value


def _value(name: str, text: str, annotation: Any) -> Any:
    """Returns the value of a text: itself for a text and for a file, else JSON."""
    is_text = _is_text(annotation)
    if text.startswith(FILE_MARK * 2):
        text = text[1:]
    elif text.startswith(FILE_MARK):
        path = Path(text[1:])
        if _is(annotation, TextFile) or _is(annotation, Directory):
            return str(path)
        if path.is_dir():
            return Directory(path)
        if is_text and path.is_file() and path.stat().st_size > LAZY_BYTES:
            return TextFile(path)
        text = _read(path)
    if is_text or _is(annotation, TextFile) or _is(annotation, Directory):
        return text
    return _json(name, text, annotation)


def _json(name: str, text: str, annotation: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = getattr(annotation, "__name__", str(annotation))
        raise InputError(
            f"The input {name!r} is of type {kind}, so its value must be JSON: {error}."
        ) from error


def _opened(name: str, value: Any, annotation: Any) -> Any:
    """Returns the file or the folder of an input with such a type, which is then read lazily."""
    for cls in (TextFile, Directory):
        if _is(annotation, cls) and isinstance(value, str):
            if not Path(value).exists():
                raise InputError(
                    f"Cannot read {value}, the input {name!r}: there is no such file or folder."
                )
            return cls(value)
    return value


def _is_text(annotation: Any) -> bool:
    return annotation is str or annotation is Any


def _is(annotation: Any, cls: type) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, cls)


def _read(path: Path) -> str:
    try:
        text = text_of(path.read_bytes(), path.name, MAX_EXPANDED_BYTES)
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"Cannot read {path}: {reason}.") from error
    except UnreadableTextError as error:
        raise InputError(f"Cannot read {path}: {error}.") from error
