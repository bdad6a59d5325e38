"""Converts the signature that a cell wrote (text, fields or classes) to a DSPy signature, on the host.

The cell is not trusted. DSPy's own parser is not used: it imports the modules that a signature mentions.
"""

from __future__ import annotations

import ast
import enum
import keyword
import re
import typing
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.dspy_internals.signatures import IS_TYPE_UNDEFINED
from dspy_rlm.signatures.cell_data import MOST_CHARS, as_mapping, as_text, check_size, facts_of
from dspy_rlm.signatures.cell_types import CellTypes
from dspy_rlm.signatures.constraints import UNUSABLE, constrained
from dspy_rlm.values.previews import VALUE_CHARS, short_repr
from dspy_rlm.values.python_text import syntax_tree

EXAMPLE = "'text, question -> answer: str, lines: list[int]'"

# `dspy.Predict` would take inputs with these names for options.
_TAKEN_INPUTS = frozenset({"signature", "new_signature", "demos", "config", "lm", "prediction"})

_MOST_FIELDS = 100
_MOST_ARROWS = 100  # the text is parsed at each of them


def signature_of(
    source: Any,
    arguments: Mapping[str, Any],
    own_classes: Mapping[str, type],
    kinds: str = "",
) -> type[dspy.Signature]:
    """Converts the signature that a cell wrote.

    Args:
        source: Text, or the dict to which `repl/guest/signatures.py` converts everything else.
        arguments: The inputs of the call. Where the signature has only outputs, these are its inputs.
        own_classes: The run's own classes by name.
        kinds: The kinds of classes that the cell can define, for messages (see `class_kinds`).

    Raises:
        ValueError: It is not a signature, or names an unknown type; the message says what to do.
    """
    if isinstance(source, str):
        source = {"signature": source}
    if not isinstance(source, Mapping):
        raise ValueError(
            f"A signature is a text like {EXAMPLE}, a dict of output fields, or a class, not "
            f"{type(source).__name__}."
        )
    check_size(source)
    types = CellTypes(own_classes, as_mapping(source.get("classes", {}), "classes"), kinds)
    if "signature" in source:
        inputs, outputs = _read_text(as_text(source["signature"]), types)
    elif "class" in source:
        inputs, outputs = {}, _fields_of_class(types.named(as_text(source["class"])))
    else:
        inputs, outputs = _read_fields(as_mapping(source.get("fields", source), "fields"), types)
    for name in arguments:
        if "signature" not in source and name not in inputs:
            inputs[name] = outputs.pop(name, _Field(_input_type(arguments[name]), "", typed=False))
    _check_names(inputs, outputs)
    types.complete()
    return _build(inputs, outputs, as_text(source.get("instructions") or ""))


class _Field(typing.NamedTuple):
    """A field as the cell wrote it."""

    annotation: Any
    description: str
    typed: bool = True


def _build(
    inputs: Mapping[str, _Field], outputs: Mapping[str, _Field], instructions: str
) -> type[dspy.Signature]:
    fields: dict[str, Any] = {}
    for name, field in inputs.items():
        options: dict[str, Any] = {IS_TYPE_UNDEFINED: not field.typed}
        options |= {"desc": field.description} if field.description else {}
        fields[name] = (field.annotation, dspy.InputField(**options))
    for name, field in outputs.items():
        options = {"desc": field.description} if field.description else {}
        fields[name] = (field.annotation, dspy.OutputField(**options))
    with warnings.catch_warnings():
        # A field named like a method of Pydantic (`copy`, `json`) only causes a warning.
        warnings.simplefilter("ignore", UserWarning)
        try:
            result: type[dspy.Signature] = dspy.Signature(fields, instructions or None)
        except UNUSABLE as error:
            raise ValueError(f"The signature cannot be used: {error}") from error
    return result


def _check_names(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    if not outputs:
        raise ValueError(f"The signature has no output. Write it like {EXAMPLE}.")
    if len(inputs) + len(outputs) > _MOST_FIELDS:
        raise ValueError(f"The signature has more than {_MOST_FIELDS} fields.")
    for name in (*inputs, *outputs):
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith(("_", "model_")):
            raise ValueError(f"{name!r} cannot be a field of a signature. Rename it.")
    for name in sorted(_TAKEN_INPUTS & set(inputs)):
        raise ValueError(f"An input of a sub-call cannot be called {name!r}. Rename it.")
    for name in sorted(set(inputs) & set(outputs)):
        raise ValueError(f"{name!r} is an input and an output. Rename one.")


def _input_type(value: Any) -> Any:
    """Returns the type of an input that was passed but not declared."""
    return type(value) if isinstance(value, dspy.Type) else Any if value is None else str


# ---- The forms of a signature ----------------------------------------------------------------------


def _read_text(text: str, types: CellTypes) -> tuple[dict[str, _Field], dict[str, _Field]]:
    if len(text) > MOST_CHARS:
        raise ValueError(f"The signature is longer than {MOST_CHARS:,} characters.")
    arrows = [match.start() for match in re.finditer("->", text)]
    if len(arrows) > _MOST_ARROWS:
        raise ValueError(
            f"The signature has more than {_MOST_ARROWS} '->'. Write it like {EXAMPLE}."
        )
    for at in arrows:  # a Literal may contain an arrow as well
        before, after = _arguments(text[:at]), _arguments(text[at + 2 :])
        if before is not None and after is not None:
            return _read_arguments(before, types, text), _read_arguments(after, types, text)
    problem = "it has no '->'" if not arrows else "its fields cannot be read"
    raise ValueError(
        f"{short_repr(text, VALUE_CHARS)} is not a signature: {problem}. Write it like {EXAMPLE}."
    )


def _arguments(text: str) -> list[ast.arg] | None:
    """Parses the fields of one side as parameters of a function; None if they are not."""
    try:
        tree = syntax_tree(f"def f({' '.join(text.split())}): pass")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    body = tree.body[0]
    if len(tree.body) != 1 or not isinstance(body, ast.FunctionDef) or body.returns is not None:
        return None
    parameters = body.args
    plain = not (
        parameters.posonlyargs or parameters.kwonlyargs or parameters.vararg or parameters.kwarg
    )
    return parameters.args if plain and not parameters.defaults else None


def _read_arguments(arguments: Sequence[ast.arg], types: CellTypes, text: str) -> dict[str, _Field]:
    fields: dict[str, _Field] = {}
    for argument in arguments:
        if argument.arg in fields:
            raise ValueError(
                f"{short_repr(text, VALUE_CHARS)} has the field {argument.arg!r:.100} twice. Rename one."
            )
        if argument.annotation is None:
            fields[argument.arg] = _Field(str, "", typed=False)
        else:
            fields[argument.arg] = _Field(types.read(argument.annotation), "")
    return fields


def _read_fields(
    fields: Mapping[str, Any], types: CellTypes
) -> tuple[dict[str, _Field], dict[str, _Field]]:
    inputs: dict[str, _Field] = {}
    outputs: dict[str, _Field] = {}
    for name, entry in fields.items():
        facts = facts_of(entry)
        annotation = types.parse(as_text(facts.get("type") or "str"))
        field = _Field(
            constrained(annotation, facts, types.patterns), as_text(facts.get("desc") or "")
        )
        (inputs if facts.get("input") else outputs)[as_text(name)] = field
    return inputs, outputs


def _fields_of_class(cls: Any) -> dict[str, _Field]:
    if isinstance(fields := getattr(cls, "model_fields", None), dict):
        return {
            name: _Field(field.rebuild_annotation(), field.description or "")
            for name, field in fields.items()
        }
    try:
        notes = typing.get_type_hints(cls)
    except (NameError, TypeError):
        notes = {}
    if not notes or issubclass(cls, enum.Enum):
        raise ValueError(
            f"{cls.__name__} has no fields to ask for. For a single value write {EXAMPLE}."
        )
    return {name: _Field(note, "") for name, note in notes.items()}
