"""The signature and the inputs of a question about files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from dspy_rlm.cli.files import load_texts
from dspy_rlm.errors import SignatureError
from dspy_rlm.evidence.options import with_known_types


def load_variable(paths: Sequence[Path]) -> tuple[str, Any, str]:
    """Returns the source variable's name and value, and a description of what was loaded.

    Raises:
        InputError: A file cannot be read, or there is none.
    """
    loaded = load_source(paths)
    return loaded.name, loaded.value, loaded.described


@dataclass(frozen=True)
class Source:
    """The files of a question, as one variable."""

    name: str
    """`text` for one file, `files` for several."""

    value: Any
    described: str
    skipped: str = ""
    """The files that were left out, in words; empty if none were."""


def load_source(paths: Sequence[Path]) -> Source:
    """Returns the files as one variable.

    Raises:
        InputError: A file cannot be read, or there is none.
    """
    texts = load_texts(paths)
    skipped = texts.skipped_summary if texts.skipped else ""
    loaded = f"Loaded {texts.summary}{f'; skipped {skipped}' if skipped else ''}"
    if len(paths) == 1 and not paths[0].is_dir():
        return Source("text", next(iter(texts.by_path.values())), loaded, skipped)
    return Source("files", dict(texts.by_path), loaded, skipped)


def checked_signature(signature: str | None, name: str) -> type[dspy.Signature]:
    """Parses the signature, whose inputs must be the source variable and the question.

    The source may have a name of its own, such as `docs`.

    Raises:
        SignatureError: It has other inputs, or is not a signature.
    """
    kind = "str" if name == "text" else "dict[str, str]"
    signature = signature or f"{name}: {kind}, question: str -> answer: str"
    example = f'--sig "{name}, question -> answer: str, lines: list[int]"'
    try:
        known = with_known_types(signature)
        checked: type[dspy.Signature] = dspy.Signature(known) if isinstance(known, str) else known
    except Exception as error:  # DSPy's parser may raise anything
        raise SignatureError(
            f"{signature!r} is not a signature: {str(error).rstrip('.')}. Write {example}."
        ) from error
    names = list(checked.input_fields)
    # Of the two usual names, the other one would say something wrong about the variable.
    wrong = "files" if name == "text" else "text"
    if len(names) != 2 or "question" not in names or wrong in names:
        source = "there is one file, so it is" if name == "text" else "the files are"
        raise SignatureError(
            f"The signature needs the inputs {name!r} and 'question', and no others ({source} in "
            f"{name!r}). It has {', '.join(map(repr, names)) or 'none'}. Write {example}."
        )
    return checked


def source_name(signature: type[dspy.Signature]) -> str:
    """Returns the name of the input that has the files."""
    return next(str(name) for name in signature.input_fields if name != "question")
