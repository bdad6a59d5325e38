"""The signature and the inputs of a question about files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from dspy_rlm.errors import SignatureError
from dspy_rlm.evidence.options import with_known_types
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.gathering import Argument, skipped_summary
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.inputs.variables import FILES, Variable, load_variables
from dspy_rlm.reports.text import count
from dspy_rlm.signatures.fields import has_type
from dspy_rlm.terminal.escaping import printable
from sandbox_runtime.helpers import in_one_line

QUESTION = "question"

# Notes on files that are shown one by one.
_SHOWN_NOTES = 20
_NOTE_CHARS = 500

# Types for which a table or records are read as text.
_TEXTS: tuple[Any, ...] = (str, dict[str, str])


@dataclass(frozen=True)
class Inputs:
    """The inputs of a question, read."""

    variables: Sequence[Variable]

    @property
    def values(self) -> dict[str, Any]:
        """The values by name."""
        return {variable.name: variable.value for variable in self.variables}

    @property
    def described(self) -> str:
        """What was read, in words."""
        items = [item for variable in self.variables for item in variable.items]
        skipped = f"; skipped {self.skipped}" if self.skipped else ""
        if not items:
            return (
                f"Loaded {', '.join(str(variable.value) for variable in self.variables)}{skipped}"
            )
        size = size_text(sum(item.size_bytes for item in items))
        return f"Loaded {count(len(items), 'file')}, {size}{skipped}"

    @property
    def skipped(self) -> str:
        """The files that were left out, in words; empty if none were."""
        return skipped_summary([one for variable in self.variables for one in variable.skipped])

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the files, such as the guess of an encoding."""
        notes = [note for variable in self.variables for note in variable.notes]
        shown = [
            in_one_line(f"{_on_one_line(note).rstrip('.')}.", _NOTE_CHARS)
            for note in notes[:_SHOWN_NOTES]
        ]
        if len(notes) > len(shown):
            shown.append(f"And {len(notes) - len(shown):,} more notes on files.")
        return tuple(shown)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user has to know about the inputs: the notes, and the files left out."""
        return (*self.notes, *([f"Files were left out: {self.skipped}."] if self.skipped else []))


def _on_one_line(note: str) -> str:
    """Returns a note with what is invisible in it spelled out: it has names of files, which are untrusted."""
    return printable(note).replace("\n", "\\n")


def load_inputs(
    arguments: Sequence[Argument],
    signature: str | None,
    *,
    gitignore: bool = True,
    bounds: InputBounds | None = None,
) -> tuple[Inputs, type[dspy.Signature]]:
    """Reads the inputs, and returns them with the signature of the question.

    Raises:
        InputError: A file cannot be read, or there is none.
        SignatureError: The signature is none, or the inputs do not fit it.
    """
    checked = None if signature is None else checked_signature(signature)
    fields = None if checked is None else text_fields(checked)
    variables = load_variables(arguments, fields, bounds or InputBounds(), gitignore=gitignore)
    if checked is not None:
        variables = [_as_declared(one, checked) for one in variables]
    inputs = Inputs(variables)
    if checked is None:
        checked = checked_signature(default_signature(inputs.variables))
    else:
        _check_usual_names(checked, inputs.variables)
    return inputs, checked


def _as_declared(variable: Variable, signature: type[dspy.Signature]) -> Variable:
    """Returns one text as a dict where the field is declared as one."""
    field = signature.input_fields[variable.name]
    if field.annotation == dict[str, str] and isinstance(variable.value, str):
        return dataclasses.replace(variable, value={variable.items[0].key: variable.value})
    return variable


def default_signature(variables: Sequence[Variable]) -> str:
    """Returns the signature of a question about some variables."""
    fields = [f"{one.name}: {one.annotation}" if one.annotation else one.name for one in variables]
    return f"{', '.join(fields)}, {QUESTION}: str -> answer: str"


def text_fields(signature: type[dspy.Signature]) -> dict[str, bool]:
    """Returns the inputs without the question, each with whether it is declared as text."""
    return {
        str(name): has_type(field) and field.annotation in _TEXTS
        for name, field in signature.input_fields.items()
        if name != QUESTION
    }


def checked_signature(signature: str) -> type[dspy.Signature]:
    """Parses a signature, which needs the input `question` and others for the files.

    Raises:
        SignatureError: It has not, or is not a signature.
    """
    example = '--sig "docs, question -> answer: str, lines: list[int]"'
    try:
        known = with_known_types(signature)
        checked: type[dspy.Signature] = dspy.Signature(known) if isinstance(known, str) else known
    except Exception as error:  # DSPy's parser may raise anything
        raise SignatureError(
            f"{signature!r} is not a signature: {str(error).rstrip('.')}. Write {example}."
        ) from error
    names = list(checked.input_fields)
    if QUESTION not in names or len(names) < 2:
        raise SignatureError(
            f"The signature needs the input 'question', and others for the files. It has "
            f"{', '.join(map(repr, names)) or 'none'}. Write {example}."
        )
    return checked


def _check_usual_names(signature: type[dspy.Signature], variables: Sequence[Variable]) -> None:
    """Raises `SignatureError` if a name says something wrong: one file is no `files`, and several are no `text`."""
    for variable in variables:
        one_text = not isinstance(variable.value, dict) and len(variable.items) == 1
        many = bool(variable.annotation) and isinstance(variable.value, dict)
        if (variable.name == FILES and one_text) or (variable.name == "text" and many):
            what, name = (
                ("there is one file", "text") if one_text else ("the files are a dict", FILES)
            )
            raise SignatureError(
                f"The signature calls its input {variable.name!r}, but {what}. Write "
                f'--sig "{name}, question -> answer: str", or any other name.'
            )
