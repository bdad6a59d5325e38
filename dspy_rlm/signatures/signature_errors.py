"""Explains why the user's signature cannot be used. `parser.py` has the errors for signatures that a cell wrote."""

from __future__ import annotations

import ast
import builtins
import difflib
import inspect
from collections import Counter
from typing import Any

import dspy
import pydantic

from dspy_rlm.values.python_text import syntax_tree

EXAMPLE = "Write it like 'logs, question -> answer: str, lines: list[int]'."

_TYPES = (
    "str",
    "int",
    "float",
    "bool",
    "list",
    "dict",
    "tuple",
    "set",
    "Literal",
    "Optional",
    "Any",
)

_UNKNOWN_NAME = "Unknown name: "


def not_a_signature(value: Any) -> str:
    """Explains that a value of another kind was passed as a signature."""
    if isinstance(value, dspy.Module):
        own = getattr(value, "signature", None)
        advice = " Pass its signature." if _is_signature(own) else f" {EXAMPLE}"
        return f"A signature is needed, not a module ({type(value).__name__}).{advice}"
    if inspect.isclass(value) and issubclass(value, pydantic.BaseModel):
        return (
            f"{value.__name__} is a Pydantic model, not a signature. Derive a signature from dspy.Signature, "
            f"and use the model as the type of a field: 'text -> result: {value.__name__}'."
        )
    return f"{value!r:.200} is not a signature. {EXAMPLE}"


def unusable(signature: Any, error: Exception) -> str:
    """Explains an error that DSPy raised for a signature."""
    return f"{signature!r:.500} is not a signature: {_problem(signature, error)}"


def repeated_field(signature: Any) -> str:
    """Returns a field that is twice among the inputs or twice among the outputs: DSPy keeps the last one."""
    for side in signature.split("->") if isinstance(signature, str) else ():
        try:
            tree = syntax_tree(f"def f({side}): pass")
        except (SyntaxError, ValueError):
            continue
        if isinstance(body := tree.body[0], ast.FunctionDef):
            counts = Counter(argument.arg for argument in body.args.args)
            for name, times in counts.items():
                if times > 1:
                    return name
    return ""


def _problem(signature: Any, error: Exception) -> str:
    text = str(error)
    if isinstance(signature, str) and (arrows := signature.count("->")) != 1:
        found = f"it has {arrows} '->', not one," if arrows else "it has no '->'"
        return f"{found} between its inputs and its outputs. {EXAMPLE}"
    if isinstance(error, SyntaxError):
        return f"its fields cannot be read. Names are Python identifiers, separated by commas. {EXAMPLE}"
    if text.startswith(_UNKNOWN_NAME):
        return _unknown_type(text.removeprefix(_UNKNOWN_NAME))
    if isinstance(error, pydantic.errors.PydanticSchemaGenerationError):
        kind = text.partition("schema for ")[2].partition(". Set ")[0] or "a field's type"
        return (
            f"Pydantic has no schema for {kind}. Leave the type of that field off: 'table, question -> "
            "answer'. A signature class can keep it, with model_config = "
            "pydantic.ConfigDict(arbitrary_types_allowed=True)."
        )
    return f"{text.rstrip('.')}. {EXAMPLE}"


def _unknown_type(name: str) -> str:
    close = difflib.get_close_matches(name, _TYPES, 1)
    meant = f" Did you mean {close[0]!r}?" if close and not hasattr(builtins, name) else ""
    return (
        f"the type {name!r} is unknown.{meant} A type is one of Python's ({', '.join(_TYPES)}), one of "
        "DSPy's (dspy.Image), or a class that is defined or imported where the RLM is created."
    )


def _is_signature(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, dspy.Signature)
